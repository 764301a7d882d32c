"""A map of differences says which are told apart; lines over rounds carry every method."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tttlib import plots


def test_difference_map() -> None:
    table = pd.DataFrame({"method": ["bn1", "tent", "bn1"], "stream": ["usual", "usual", "back"]})
    table["difference"] = [0.02, -0.005, 0.3]
    table = table.assign(low=[0.01, -0.01, 0.2], high=[0.03, 0.0, 0.4])
    axis = plots.difference_map(table, row="method", column="stream").axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["usual", "back"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["bn1", "tent"]
    shown = {text.get_text(): text.get_fontweight() for text in axis.texts}
    assert shown == {"+2.0": "bold", "-0.5": "normal", "+30.0": "bold"}
    drawn = np.ma.filled(axis.images[0].get_array().astype(float), np.nan)
    np.testing.assert_allclose(drawn, [[2, 30], [-0.5, np.nan]])


def test_error_lines() -> None:
    table = pd.DataFrame({"method": ["source"] * 2 + ["palm"] * 2, "round": [0, 1] * 2})
    table["error"] = [0.5, 0.5, 0.3, 0.4]
    axis = plots.error_lines(table, "round").axes[0]
    np.testing.assert_allclose([line.get_ydata() for line in axis.lines], [[50, 50], [30, 40]])
    assert axis.get_xlabel() == "round"
