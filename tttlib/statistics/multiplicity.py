"""p-values of many tests made at once."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return Holm's adjusted p-values, shape [M].

    Among tests whose adjusted value lies below a, the chance of any false finding is below a. NaN
    marks a test that could not be made; it stays NaN and does not count. Values outside [0, 1]
    raise a ValueError. Source: Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    adjusted, made = _checked(p)
    tested = adjusted[made]
    order = np.argsort(tested, kind="stable")
    steps = np.arange(len(order), 0, -1)
    tested[order] = np.minimum(np.maximum.accumulate(tested[order] * steps), 1)
    adjusted[made] = tested
    return adjusted


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Return Benjamini and Hochberg's adjusted p-values, shape [M].

    Of the findings whose adjusted value lies below q, at most a share q is false on average. Holds
    for independent and positively dependent tests; NaN as in `holm`. Source: Journal of the Royal
    Statistical Society B 57, 1995.
    """
    adjusted, made = _checked(p)
    if made.any():
        adjusted[made] = stats.false_discovery_control(adjusted[made])
    return adjusted


def corrected(table: pd.DataFrame, column: str = "p", *, by: str | None = None) -> pd.DataFrame:
    """Return the table with columns `<column>_holm` and `<column>_bh` added.

    Rows that share a value of the column `by` are one family of tests; without `by` all rows are.
    Two methods that test the same hypotheses are two families, not one of twice the size.
    """
    keys = np.zeros(len(table)) if by is None else table[by].to_numpy()
    p = table[column].to_numpy(np.float64)
    adjusted = {}
    for name, method in (("holm", holm), ("bh", benjamini_hochberg)):
        values = np.full(len(p), np.nan)
        for key in pd.unique(keys):
            values[keys == key] = method(p[keys == key])
        adjusted[f"{column}_{name}"] = values
    return table.assign(**adjusted)


def _checked(p: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return a copy of the p-values, and which of them were made (are not NaN)."""
    values = np.array(p, np.float64)
    made = ~np.isnan(values)
    if values.ndim != 1 or (values[made] < 0).any() or (values[made] > 1).any():
        raise ValueError(f"p-values must be [M] in [0,1] (NaN: not tested), not {values}")
    return values, made
