"""Adjusted p-values against their definitions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tttlib import statistics


def test_holm_and_benjamini_hochberg_by_hand() -> None:
    p = [0.01, 0.04, np.nan, 0.03, 0.005]
    np.testing.assert_allclose(statistics.holm(p), [0.03, 0.06, np.nan, 0.06, 0.02])
    np.testing.assert_allclose(statistics.benjamini_hochberg(p), [0.02, 0.04, np.nan, 0.04, 0.02])
    assert np.isnan(statistics.holm([np.nan])).all()
    assert np.isnan(statistics.benjamini_hochberg([np.nan])).all()
    table = statistics.corrected(pd.DataFrame({"p": p}))
    np.testing.assert_allclose(table["p_holm"], statistics.holm(p))
    two = pd.DataFrame({"p": [0.01, 0.04, 0.03], "method": ["a", "a", "b"]}, index=[5, 5, 9])
    assert statistics.corrected(two, by="method")["p_holm"].tolist() == [0.02, 0.04, 0.03]
    with pytest.raises(ValueError, match="p-values"):
        statistics.holm([1.2])


def test_holm_keeps_the_chance_of_any_false_finding(rng: np.random.Generator) -> None:
    p = rng.random((2000, 8))
    any_found = np.mean([(statistics.holm(one) < 0.05).any() for one in p])
    assert any_found == pytest.approx(0.05, abs=0.015)
    assert (p < 0.05).any(1).mean() > 0.3
