"""Figures that follow controls draw the values that they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from tttlib import plots
from tttlib.evaluate.step_by_step import Steps
from tttlib.plots.method_along import running_error

CLASSES = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu"]


def test_one_image_before_and_after() -> None:
    pictures, image = torch.rand(3, 3, 4, 4), torch.rand(3, 4, 4)
    before = torch.tensor([0.4, 0.3, 0.2, 0.05, 0.03, 0.02, 0.0])
    after = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.0])
    adapted = Steps(image / 2, pictures, torch.stack([before, before, after]),
                    torch.tensor([0.5, 0.3, 0.25]))  # fmt: skip
    figure = plots.before_and_after(image, adapted, CLASSES, 6, "fog")
    *shown, bars = figure.axes
    for axis, drawn in zip(shown, (image, image / 2, pictures[0], pictures[2]), strict=True):
        np.testing.assert_allclose(axis.images[0].get_array(), drawn.permute(1, 2, 0))
    titles = [axis.get_title(loc="left") for axis in shown]
    assert titles == ["fog", "masked", "before:\nloss 0.5000", "after 2:\nloss 0.2500"]
    names = [label.get_text() for label in bars.get_yticklabels()]
    assert names[:3] == ["fox", "ant", "bee"] and names[-1] == "gnu ✓" and len(names) == 6
    for container, row in zip(bars.containers, (before, after), strict=True):
        widths = [bar.get_width() for bar in container]
        np.testing.assert_allclose(widths[:3], 100 * row[[5, 0, 1]], atol=1e-5)


@pytest.fixture
def rows() -> pd.DataFrame:
    """40 arrivals, fog and then snow: the source is always wrong, PALM only in the snow."""
    base = pd.DataFrame({"position": range(40), "block": [0] * 20 + [1] * 20})
    base["domain"] = ["fog"] * 20 + ["snow"] * 20
    palm = base.assign(method="palm", error=(base["domain"] == "snow").astype(float))
    return pd.concat([base.assign(method="source", error=1.0), palm], ignore_index=True)


@pytest.fixture
def inside() -> pd.DataFrame:
    found = [
        (block, domain, name, tensor, value)
        for block, domain in enumerate(("fog", "snow"))
        for name, tensor, value in (
            ("share_selected", "", 0.1 + block), ("share_moving", "", 0.5),
            ("lr", "conv.weight", 0.001), ("lr", "block1.a", 0.0), ("lr", "block1.b", block + 1.0),
        )
    ]  # fmt: skip
    return pd.DataFrame(found, columns=["block", "domain", "name", "tensor", "value"])


def test_a_method_along_a_stream(rows: pd.DataFrame, inside: pd.DataFrame) -> None:
    figure = plots.method_along_stream(rows, inside, "palm", "snow")
    error, rates, share = figure.axes
    curves = {line.get_label(): line.get_ydata() for line in error.lines}
    assert set(curves) == {"source", "palm"} and (curves["source"] == 100).all()
    assert curves["palm"][[0, 39]].tolist() == [0, 100]
    assert error.get_title(loc="left") == "snow, error in %: source 100.0, palm 100.0"
    (span,) = error.patches
    assert (span.get_x(), span.get_width()) == (19.5, 20)
    drawn = {c.get_label(): [s[:, 1].tolist() for s in c.get_segments()] for c in share.collections}
    assert drawn == {"moved": [[0.5] * 2] * 2, "selected": [[0.1] * 2, [1.1] * 2]}
    dots = {line.get_label(): line.get_ydata().tolist() for line in rates.lines}
    assert dots == {"whole stream": [0.001, 0, 1.5], "snow": [0.001, 0, 2]}
    assert [label.get_text() for label in rates.get_xticklabels()] == ["conv", "block1"]
    assert rates.get_xticks().tolist() == [0, 1.5]


def test_a_stream_says_what_it_has_not(rows: pd.DataFrame, inside: pd.DataFrame) -> None:
    for method, words in (
        ("source", ["source has no rates by layer", "source chooses no tensors by batch"]),
        ("law", ["law did not run on this stream"] * 2),
    ):
        figure = plots.method_along_stream(rows, inside[:0], method, "fog")
        assert [axis.texts[0].get_text() for axis in figure.axes[1:]] == words
    # A batch of a mixed stream has no domain, so only the mean of the stream is drawn.
    mixed = inside[inside["block"] == 0].assign(domain=None)
    rates = plots.method_along_stream(rows, mixed, "palm", "fog").axes[1]
    assert [line.get_label() for line in rates.lines] == ["whole stream"]


def test_running_error_follows_positions() -> None:
    rows = pd.DataFrame({"position": [3, 1, 2, 0], "error": [1.0, 0.0, 1.0, 0.0]})
    curve = running_error(rows, 3)
    assert curve.index.tolist() == [0, 1, 2, 3]
    assert curve.to_numpy() == pytest.approx([0, 100 / 3, 200 / 3, 100])


def test_a_standing_has_intervals_and_a_colour() -> None:
    table = pd.DataFrame(
        [("eata", 50, 0.2, 0.0, 0.0, True), ("palm", 50, 0.25, -0.01, 0.11, True),
         ("lame", 50, 0.5, 0.2, 0.4, False)],
        columns=["method", "n", "error", "low", "high", "as_good"],
    )  # fmt: skip
    axis = plots.standing(table).axes[0]
    best, *drawn = axis.lines[0].get_xdata(), *(bar.lines for bar in axis.containers)
    assert best == [20, 20]
    for (dot, _, (bar,)), error, low, high, full in zip(
        drawn, (20, 25, 50), (20, 19, 40), (20, 31, 60), (True, True, False), strict=True
    ):
        assert float(dot.get_xdata()[0]) == pytest.approx(error)
        assert bar.get_segments()[0][:, 0] == pytest.approx([low, high])
        assert (dot.get_markerfacecolor() != "white") == full
    assert [text.get_text() for text in axis.texts] == ["20.0", "25.0", "50.0"]
    weights = {t.get_text(): t.get_fontweight() for t in axis.get_yticklabels()}
    assert weights["palm"] == "bold" and weights["eata"] != "bold"
    assert axis.get_title(loc="left") == "50 arrivals; filled: as good as the best"


def test_a_heading_stands_over_objects_or_alone() -> None:
    figure = plots.object_examples(torch.rand(2, 3, 8, 8), None, ["a", "b"], heading="kept: 2")
    assert figure.get_suptitle() == "kept: 2"
    empty = plots.object_examples(torch.empty(0, 3, 8, 8), None, [], heading="kept: 0")
    assert empty.axes[0].texts[0].get_text() == "kept: 0"
