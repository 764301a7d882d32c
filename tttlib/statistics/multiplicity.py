"""p-values of many tests made at once."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values [M]: the chance of any false finding among those below a stays below a.

    NaN marks a test that could not be made; it stays NaN and does not count. Raises ValueError for
    values outside [0,1]. Source: Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    values, made = _checked(p)
    order = np.argsort(values[made], kind="stable")
    m = len(order)
    stepped = np.maximum.accumulate(values[made][order] * np.arange(m, 0, -1))
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(stepped, 1)
    return _filled(made, adjusted)


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values [M]: of the findings below q, at most a share q is false on average.

    NaN as in `holm`. Holds for independent and positively dependent tests.
    Source: Benjamini and Hochberg, Journal of the Royal Statistical Society B 57, 1995.
    """
    values, made = _checked(p)
    found = stats.false_discovery_control(values[made]) if made.any() else values[made]
    return _filled(made, found)


def corrected(table: pd.DataFrame, column: str = "p", *, by: str | None = None) -> pd.DataFrame:
    """The table with `<column>_holm` and `<column>_bh`.

    by  rows that share a value of this column are one family of tests; None: all rows are. Two
        methods that test the same hypotheses are two families, not one of twice the size
    """
    keys = pd.Series(0, index=range(len(table))) if by is None else table[by].reset_index(drop=True)
    p = table[column].to_numpy(np.float64)
    adjusted = {"holm": np.full(len(p), np.nan), "bh": np.full(len(p), np.nan)}
    for key in keys.unique():
        mine = (keys == key).to_numpy()
        adjusted["holm"][mine] = holm(p[mine])
        adjusted["bh"][mine] = benjamini_hochberg(p[mine])
    return table.assign(**{f"{column}_{name}": values for name, values in adjusted.items()})


def _checked(p: ArrayLike) -> tuple[NDArray, NDArray]:
    values = np.asarray(p, np.float64)
    made = ~np.isnan(values)
    if values.ndim != 1 or (values[made] < 0).any() or (values[made] > 1).any():
        raise ValueError(f"p-values must be [M] in [0,1] (NaN: not tested), not {values}")
    return values, made


def _filled(made: NDArray, adjusted: NDArray) -> NDArray[np.float64]:
    out = np.full(len(made), np.nan)
    out[made] = adjusted
    return out
