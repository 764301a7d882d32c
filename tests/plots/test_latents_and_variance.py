"""Figures of notebook 01: every number of the table is drawn, where it belongs."""

from __future__ import annotations

import itertools
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from PIL import Image

from tttlib import corruptions, plots


def shares(layers: int = 3) -> pd.DataFrame:
    names = enumerate([*(f"block {i + 1}" for i in range(layers)), "norm"])
    cells = itertools.product((1, 3, 5), names, ("corruption", "class"))
    rows = [(s, n, f, 0.1 * s + 0.01 * i, 0.0, 1.0) for s, (i, n), f in cells]
    return pd.DataFrame(rows, columns=["severity", "layer", "factor", "share", "low", "high"])


def test_lines_of_variance_by_severity_and_by_layer() -> None:
    figure = plots.variance_lines(shares(), x="severity", panel="layer")
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["block 1", "block 2", "block 3", "norm"]
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [11, 31, 51])
    figure = plots.variance_lines(shares(), x="layer", panel="severity")
    assert [a.get_title(loc="left") for a in figure.axes] == [f"severity {s}" for s in (1, 3, 5)]
    np.testing.assert_allclose(figure.axes[2].lines[0].get_ydata(), [50, 51, 52, 53])
    labels = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert labels == ["1", "2", "3", "end"]


def test_many_layers_are_thinned_but_the_last_one_stays() -> None:
    table = shares(12)
    figure = plots.variance_lines(table, x="severity", panel="layer")
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["block 1", "block 4", "block 7", "block 10", "norm"]
    axis = plots.variance_lines(table, x="layer", panel="severity").axes[0]
    labels = [t.get_text() for t in axis.get_xticklabels()]
    assert labels == ["1", "4", "7", "10", "end"]
    assert len(axis.lines[0].get_ydata()) == 13


def test_points_of_variance_are_per_cent_with_intervals() -> None:
    table = pd.DataFrame({"factor": ["corruption", "class"] * 2, "share": [0.4, 0.1, 0.3, 0.2]})
    table = table.assign(low=0.05, high=0.5, state=["before", "before", "after", "after"])
    axis = plots.variance_points(table, hue="state", factors=["class", "corruption"]).axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["class", "corruption"]
    np.testing.assert_allclose(np.asarray(axis.lines[1].get_xdata(), float), [10, 40])
    other = plots.variance_points(table[table["state"] == "after"], hue="state").axes[0]
    assert axis.lines[2].get_color() == other.lines[1].get_color() != axis.lines[1].get_color()
    ends = axis.collections[0].get_segments()
    np.testing.assert_allclose([s[:, 0] for s in ends], [[5, 50], [5, 50]])


def test_the_map_shows_every_point_in_every_panel() -> None:
    rng = np.random.default_rng(0)
    domains = [*corruptions.NAMES, "clean"]
    table = pd.DataFrame(rng.normal(size=(80, 2)), columns=["pc1", "pc2"])
    table["domain"] = domains * 5
    figure = plots.corruption_map(table, [0.5, 0.2])
    shown = [axis for axis in figure.axes if axis.get_visible()]
    titles = [axis.get_title(loc="left") for axis in shown]
    assert titles == ["noise", "blur", "weather", "digital", "other"]
    for axis in shown:
        named = axis.get_legend_handles_labels()[1]
        points = sum(len(c.get_offsets()) for c in axis.collections)
        assert points == 80 + len(named)  # and the means
    assert sum(len(plots.FAMILIES[name]) for name in titles[:4]) == 15
    few = plots.corruption_map(table[table["domain"] == "fog"], [0.5, 0.2])
    assert [axis.get_title(loc="left") for axis in few.axes] == ["weather"]


def test_the_animation_moves_and_is_kept(tmp_path: Path) -> None:
    table = pd.DataFrame({"pc1": np.arange(12.0), "pc2": np.arange(12.0) ** 2})
    table = table.assign(step=[0, 1, 2] * 4, id=np.repeat([3, 1, 2, 0], 3))
    table["class"] = np.repeat(["a", "b"], 6)
    animation = plots.trajectory_animation(table, [0.6, 0.3])
    shown = plots.save_animation(animation, tmp_path, "01_moving", "They <move>.")
    with Image.open(tmp_path / "figures" / "01_moving.gif") as picture:
        assert picture.n_frames == 3
        frames = []
        for k in range(3):
            picture.seek(k)
            frames.append(np.asarray(picture.convert("RGB"), dtype=int))
    assert all(np.abs(a - b).max() > 50 for a, b in pairwise(frames))
    assert (tmp_path / "figures" / "01_moving.txt").read_text() == "They <move>.\n"
    assert shown.data.startswith('<img alt="They &lt;move&gt;." src="data:image/gif;base64,R0lG')
    assert not plt.get_fignums()
