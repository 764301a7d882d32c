"""Figures of notebook 04 draw what their tables say."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from tttlib import plots


def accuracies(n: int, **columns: object) -> pd.DataFrame:
    table = pd.DataFrame({"middle": np.linspace(0.1, 0.6, n), **columns})
    for name, value in {"before": 0.5, "after": 0.6, "gain": 0.1}.items():
        table[name] = value
        table[f"{name}_low"], table[f"{name}_high"] = value - 0.05, value + 0.1
    return table


def test_class_scatter_tells_r_over_each_panel() -> None:
    classes = accuracies(6, area_mean=np.arange(6) / 10, area_variance=np.arange(6) / 100)
    pairs = itertools.product(("area_mean", "area_variance"), ("before", "after", "gain"))
    relations = pd.DataFrame(pairs, columns=["quantity", "outcome"])
    relations = relations.assign(method="pearson", r=0.1, low=-0.2, high=0.3)
    figure = plots.class_scatter(classes, relations)
    assert len(figure.axes) == 6
    assert figure.axes[4].get_title(loc="left") == "r = +0.10 [-0.20, +0.30]"
    line = figure.axes[0].containers[0].lines[0]
    np.testing.assert_allclose(np.asarray(line.get_xdata(), float), np.arange(6) * 10.0)
    np.testing.assert_allclose(np.asarray(line.get_ydata(), float), 50)


def test_accuracy_by_size_draws_intervals_in_per_cent() -> None:
    figure = plots.accuracy_by_size(accuracies(5), accuracies(8))
    left, right = figure.axes[:2]
    low = [segment[0][1] for segment in right.containers[0].lines[2][0].get_segments()]
    np.testing.assert_allclose(low, 5)
    legend = [t.get_text() for t in figure.legends[0].texts]
    assert legend == ["before, all", "before TTT", "after TTT"]
    assert left.get_xlim()[0] == 0


def test_forest_leaves_out_what_has_no_interval() -> None:
    rows = [
        ("intercept", 1.0, 0.5, 2.0, -0.1),
        ("area", 2.0, 1.5, 3.0, 0.4),
        ("cut", *[np.nan] * 4),
    ]
    columns = ["term", "odds_ratio", "odds_low", "odds_high", "low"]
    table = pd.DataFrame(rows, columns=columns).assign(outcome="before")
    axis = plots.forest(table).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["area"]
    assert axis.get_xscale() == "log"
    assert list(axis.containers[0].lines[0].get_xdata()) == [2.0]


def test_class_gains_name_the_classes_in_order() -> None:
    table = pd.DataFrame(
        {"label": [1, 0], "gain": [-0.1, 0.2], "low": [-0.2, 0.1], "high": [0.0, 0.3]}
    )
    axis = plots.class_gains(table, [[-0.05, 0.0], [0.0, 0.05]], ["cat", "dog"]).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["dog", "cat"]
    drawn = np.asarray(axis.containers[0].lines[0].get_ydata(), float)
    np.testing.assert_allclose(drawn, [-10, 20])


def test_examples_show_their_boxes_and_know_a_limit() -> None:
    pictures, boxes = torch.rand(3, 3, 8, 8), torch.tensor([[0.0, 0, 4, 4]] * 3)
    figure = plots.object_examples(pictures, boxes, ["a", "b", "c"], ["x", "x", "y"])
    assert len(figure.axes) == 3 and len(figure.axes[0].patches) == 2
    assert [t.get_text() for t in figure.legends[0].texts] == ["x", "y"]
    empty = plots.object_examples(torch.empty(0, 3, 8, 8), None, [])
    assert empty.axes[0].texts[0].get_text() == "no answer changed"
    with pytest.raises(ValueError, match="24"):
        plots.object_examples(torch.rand(25, 3, 8, 8), None, [""] * 25)
