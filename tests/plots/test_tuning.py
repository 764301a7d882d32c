"""The heatmap names the best step of each setting; curves lie side by side at their numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tttlib import plots


def grid() -> pd.DataFrame:
    table = pd.DataFrame(
        [(lr, decay, step) for lr in (1e-4, 1e-3) for decay in (0.0, 20.0) for step in (1, 5)],
        columns=["lr", "weight_decay", "step"],
    )
    table["difference"] = [0.01, 0.02, 0.0, -0.01, 0.04, -0.03, -0.02, -0.05]
    return table.assign(low=table["difference"] - 0.02, high=table["difference"] + 0.01)


def test_early_stopping_grid() -> None:
    figure = plots.early_stopping_grid(grid(), rows="lr", columns="weight_decay")
    left, right = figure.axes[:2]
    text = [entry.get_text() for entry in left.texts]
    assert text == ["+2.0\nstep 5", "+0.0\nstep 1", "+4.0\nstep 1", "-2.0\nstep 1"]
    assert [label.get_text() for label in left.get_yticklabels()] == ["0.0001", "0.001"]
    assert right.get_title(loc="left") == "weight decay 0"  # the best setting's
    curves = [_floats(c.lines[0].get_ydata()) for c in right.containers]
    np.testing.assert_allclose(curves, [[1, 2], [4, -3]])


def test_gains_along() -> None:
    table = pd.DataFrame({"rule": ["scaled"] * 2 + ["fixed"] * 2, "masks": [64, 1] * 2})
    table["difference"] = [0.02, 0.01, 0.0, 0.03]
    table = table.assign(low=table["difference"] - 0.01, high=table["difference"] + 0.01)
    axis = plots.gains_along(table, x="masks", line="rule", label="masks a step").axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "64"]
    first, second = (container.lines[0] for container in axis.containers)
    np.testing.assert_allclose(_floats(first.get_ydata()), [1, 2])
    np.testing.assert_allclose(_floats(second.get_ydata()), [3, 0])
    across = _floats(first.get_xdata()) * _floats(second.get_xdata())
    np.testing.assert_allclose(across, np.square([1.0, 64]))


def test_step_sizes() -> None:
    table = pd.DataFrame({"model": ["a", "a", "b"], "lr": [0.1, 0.01, 0.03], "n": 50})
    table = table.assign(difference=[-0.1, 0.02, 0.0], mended=[1, 2, 0], broken=[6, 1, 0])
    table = table.assign(low=table["difference"] - 0.01, high=table["difference"] + 0.01)
    marks = {"a": {"released": 0.005, "chosen": 0.01}}
    top, other, below, _ = plots.step_sizes(table, panel="model", marks=marks).axes
    assert [axis.get_title("left") for axis in (top, other)] == ["a", "b"]
    np.testing.assert_allclose(_floats(top.containers[0].lines[0].get_ydata()), [2, -10])
    mended, broken = below.lines[:2]
    np.testing.assert_allclose(_floats(mended.get_ydata()), [4, 2])
    np.testing.assert_allclose(_floats(broken.get_ydata()), [2, 12])
    assert [line.get_xdata()[0] for line in below.lines[2:]] == [0.005, 0.01]


def _floats(values: object) -> np.ndarray:
    return np.asarray(values, dtype=float)
