"""Errors along a stream are drawn whole; a constant's values stand side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tttlib import plots


def test_error_by_block_cuts_nothing_off() -> None:
    methods = {"source": 0.5, "bn1": 0.2, **{f"method {k}": 0.21 for k in range(20)}, "lost": 0.9}
    table = pd.DataFrame(
        {"method": name, "block": block, "domain": domain, "error": error + 0.001 * block}
        for name, error in methods.items()
        for block, domain in enumerate(["fog", "gaussian_noise", "clean"])
    )
    above, below = plots.error_by_block(table).axes[:2]
    assert below.get_yscale() == "symlog" and below.get_ylim()[1] > 70
    drawn = [np.asarray(line.get_ydata(), float) for line in below.lines]
    assert len(drawn) == len(methods) - 1  # all but source and bn1, and the line at zero
    np.testing.assert_allclose(drawn[-2], 70)
    assert [label.get_text() for label in below.get_xticklabels()][1] == "gaussian noise"
    assert len(above.lines) == len(methods)
    calm = plots.error_by_block(table[table["method"] != "lost"])
    assert calm.axes[1].get_yscale() == "linear"


def test_error_by_constant() -> None:
    table = pd.DataFrame({"constant": ["alpha"] * 2 + ["temperature"] * 3})
    table["value"] = [1.0, 0.0, 1000.0, 0.5, 50.0]
    table["difference"] = [0.0, 0.6, 0.02, 0.01, 0.0]
    table["low"] = [np.nan, 0.5, 0.01, 0.0, np.nan]
    table["high"] = [np.nan, 0.7, 0.03, 0.02, np.nan]
    left, right = plots.error_by_constant(table).axes
    assert [label.get_text() for label in right.get_xticklabels()] == ["0.5", "50", "1000"]
    np.testing.assert_allclose(np.asarray(left.lines[1].get_ydata(), float), [60, 0])
    assert left.get_yscale() == "symlog" and "logarithmic" in left.get_ylabel()
