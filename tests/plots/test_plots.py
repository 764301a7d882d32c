"""Figures: they draw what the table says, and are written whole with their caption."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import IPython
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path as Line
from PIL import Image

from tttlib import plots
from tttlib.models import zoo


def summary() -> pd.DataFrame:
    names = [(m, d, k) for m in ("a", "b") for d in ("clean", "zoom_blur") for k in range(3)]
    table = pd.DataFrame(names, columns=["model", "domain", "step"])
    mean = 0.5 + 0.1 * table["step"]
    return table.assign(mean=mean, low=mean - 0.1, high=mean + 0.1)


def test_accuracies_in_per_cent_a_panel_per_domain_and_a_line_per_model() -> None:
    figure = plots.accuracy_by_step(summary())
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in shown] == ["clean", "zoom blur"]
    assert len(shown[0].lines) == 2
    np.testing.assert_allclose(shown[0].lines[0].get_ydata(), [50, 60, 70])
    clean = summary()[summary()["domain"] == "clean"]
    axis = plots.accuracy_curves(clean, line="model").axes[0]
    assert [line.get_label() for line in axis.lines] == ["a", "b"]


def test_gains_mark_zero_and_points_and_sizes_share_an_axis() -> None:
    table = pd.DataFrame({"domain": ["small", "large"], "model": "a", "difference": [0.002, 0.6]})
    table = table.assign(low=table["difference"] - 0.001, high=table["difference"] + 0.001)
    axis = plots.gains(table).axes[0]
    np.testing.assert_allclose(axis.lines[0].get_xdata(), [0, 0])
    np.testing.assert_allclose(np.asarray(axis.lines[1].get_xdata(), float), [0.2, 60])
    axis = plots.gains(table, label="points", linear_within=1).axes[0]
    labels = [tick.get_text() for tick in axis.get_xticklabels()]
    assert labels[-4:] == ["0", "0.5", "1", "10"] and "beyond 1" in axis.get_xlabel()
    left, middle, right = axis.transData.transform([[0, 0], [0.2, 0], [60, 0]])[:, 0]
    assert middle - left > 0.05 * (right - left)  # on a linear axis 0.003


def test_latent_pictures_keep_every_point() -> None:
    table = pd.DataFrame({"pc1": np.arange(8.0), "pc2": np.arange(8.0), "step": [0, 1] * 4})
    table = table.assign(domain=["clean", "contrast"] * 4, id=np.repeat(np.arange(4), 2))
    table["class"] = np.repeat(["one", "two"], 4)
    figure = plots.latent_scatter(table, [0.7, 0.2])
    assert sum(len(c.get_offsets()) for c in figure.axes[0].collections) == 8
    assert figure.axes[0].get_xlabel() == "PC 1 (70 %)"
    figure = plots.trajectories(table, [0.7, 0.2], [0, 1])
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["step 0", "step 1"]
    assert sum(len(c.get_offsets()) for c in figure.axes[1].collections) == 4


def test_bars_are_shares_with_their_chance() -> None:
    shares = {"accuracy": [0.9, 0.6], "chance": [0.3, 0.5], "factor": ["corruption", "class"]}
    table = pd.DataFrame({"domain_set": "x", **shares})
    axis = plots.shares(table, value="accuracy", chance="chance").axes[0]
    assert [round(bar.get_height()) for bar in axis.patches] == [90, 60]


def test_every_image_stands_below_its_title() -> None:
    pictures = {name: torch.rand(3, 8, 8) for name in ("clean", "zoom_blur", "fog")}
    figure = plots.titled_images(pictures, columns=2)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [*map(plots.pretty, pictures), ""]
    for axis, picture in zip(figure.axes, pictures.values(), strict=False):
        shown = torch.as_tensor(axis.images[0].get_array()).permute(2, 0, 1)
        torch.testing.assert_close(shown, picture)


def test_image_grid_and_network() -> None:
    pictures = torch.rand(2, 3, 8, 8)
    figure = plots.image_grid({"input": pictures, "after": pictures}, ["zoom_blur", "contrast"])
    assert len(figure.axes) == 4 and figure.axes[0].get_ylabel() == "zoom blur"
    texts = [t.get_text() for t in plots.y_network().axes[0].texts]
    assert any("encoder" in t for t in texts) and any("decoder" in t for t in texts)
    texts = [t.get_text() for t in plots.rotation_network().axes[0].texts]
    assert any("rotation head" in t for t in texts) and "turned copies" in texts


@pytest.mark.parametrize(
    ("draw", "number"),
    [(plots.y_network, 6), (plots.rotation_network, 6), (plots.palm_rule, 7)],
)
def test_no_word_of_a_diagram_is_crossed_by_an_arrow(
    draw: Callable[[], Figure], number: int
) -> None:
    figure = draw()
    figure.canvas.draw()
    axis = figure.axes[0]
    arrows = [patch for patch in axis.patches if isinstance(patch, FancyArrowPatch)]
    assert len(arrows) == number
    strokes = [
        Line(stroke)
        for arrow in arrows
        for stroke in arrow.get_path().to_polygons(axis.transData, closed_only=False)
    ]
    for text in axis.texts:
        box = text.get_window_extent()
        assert not any(s.intersects_bbox(box, filled=False) for s in strokes), text.get_text()


def test_save_writes_picture_and_caption(tmp_path: Path) -> None:
    plots.save(plots.y_network(), tmp_path, "02_y", "A caption.")
    with Image.open(tmp_path / "figures" / "02_y.png") as picture:
        assert picture.width > 300
    assert (tmp_path / "figures" / "02_y.txt").read_text() == "A caption.\n"
    first = (tmp_path / "figures" / "02_y.svg").read_bytes()
    plots.save(plots.y_network(), tmp_path, "02_y", "A caption.")
    assert (tmp_path / "figures" / "02_y.svg").read_bytes() == first  # no dates, no random names
    grid = plots.image_grid({"input": torch.rand(1, 3, 8, 8)}, ["zoom_blur"])
    plots.save(grid, tmp_path, "02_grid", "Photographs.")
    assert not (tmp_path / "figures" / "02_grid.svg").exists()
    plots.save_table(summary(), tmp_path, "02_t", "Another.")
    assert len(pd.read_csv(tmp_path / "tables" / "02_t.csv")) == 12
    assert sorted(p.name for p in (tmp_path / "tables").iterdir()) == ["02_t.csv", "02_t.txt"]


def test_a_table_shows_some_columns_under_names_for_readers_and_keeps_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[Any] = []
    monkeypatch.setattr(IPython.display, "display", lambda what, raw: pages.append(what))
    monkeypatch.setattr(IPython.core.getipython, "get_ipython", object)
    shown = {"mean": "accuracy", "domain": "corruption"}
    plots.save_table(summary(), tmp_path, "02_t", "Another.", shown=shown)
    assert pd.read_csv(tmp_path / "tables" / "02_t.csv").columns.tolist() == list(summary())
    (page,) = pages
    heads = [line for line in page["text/html"].splitlines() if "<th>" in line]
    assert [re.sub("<.*?>", "", line).strip() for line in heads] == ["accuracy", "corruption"]


def test_a_notebook_shows_what_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(IPython.display, "display", lambda what, raw: shown.append((what, raw)))
    wide = pd.DataFrame({f"column {i}": [0.5, float("nan")] for i in range(30)})
    wide["claim"] = ["a statement so long that it takes more than fifty letters < 5", "b"]
    plots.save_table(wide, tmp_path, "02_wide", "Said & done.")
    assert shown == []  # no notebook

    monkeypatch.setattr(IPython.core.getipython, "get_ipython", object)
    plots.save_table(wide, tmp_path, "02_wide", "Said & done.")
    plots.save(figure := plots.y_network(), tmp_path, "02_y", "A caption.")
    plots.save_table(pd.DataFrame({"k": range(1000, 3000)}), tmp_path, "02_long", "")
    (table, _), (picture, _), (words, raw), (long, _) = shown
    page = table["text/html"]
    assert all(f"<th>column {i}</th>" in page for i in range(30)) and "–" in page
    assert "more than fifty letters &lt; 5" in page and "Said &amp; done.</p>" in page
    assert "column 29" in table["text/plain"] and table["text/plain"].endswith("Said & done.")
    assert picture is figure and raw and "A caption.</p>" in words["text/html"]
    page = long["text/html"]  # both ends
    assert "<td>1000</td>" in page and "<td>2999</td>" in page and page.count("<tr>") < 90


def test_training_curves_of_all_bundled_networks() -> None:
    cards = {name: zoo.load(name).card for name in zoo.bundled()}
    figure = plots.training_curves(cards)
    panels = {axis.get_title("left"): axis for axis in figure.axes if axis.get_visible()}
    assert set(panels) == set(cards)
    for name, card in cards.items():
        axis = panels[name]
        assert [len(line.get_xdata()) for line in axis.lines] == [len(x) for x in card["losses"]]
        shown = {text.get_text() for text in axis.get_legend().get_texts()}
        assert shown == {phase["loss"] for phase in card["recipe"]["phases"]}


def test_selection_by_size_fills_what_is_selected_and_draws_eta() -> None:
    rows = [("conv1", 432, 0.1, 1.0), ("block1", 16, 0.01, 0.9), ("block1", 4608, 2.0, 0.1)]
    tensors = pd.DataFrame(rows, columns=["stage", "elements", "score", "selected"])
    (axis,) = plots.selection_by_size(tensors, 0.3).axes
    lines = {line.get_label(): line for line in axis.lines}
    assert set(lines["eta"].get_ydata()) == {0.3}
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "none"]
    assert np.concatenate([line.get_xdata() for line in hollow]).tolist() == [4608]
    assert lines["block1"].get_ydata().tolist() == [0.01]
