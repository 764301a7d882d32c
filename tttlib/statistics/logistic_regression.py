"""Logistic regression with standardised coefficients and cluster-bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from tttlib.statistics.intervals import degrees, factors_of, sample_weights, spread, student

_STEPS = 50
_LARGEST_STEP = 5.0
_TOLERANCE = 1e-8
COLUMNS = (
    "term", "coefficient", "low", "high", "p", "odds_ratio", "odds_low", "odds_high", "one_sd",
    "n", "note",
)  # fmt: skip


def logistic(
    rows: pd.DataFrame,
    outcome: str,
    numeric: Sequence[str],
    categorical: Sequence[str] = (),
    *,
    clusters: Sequence[str] = (),
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Fit log odds(outcome) = intercept + sum of coefficient * standardised column.

    Firth's penalty keeps estimates finite where a term separates right from wrong, and takes the
    first-order bias away; without separation it changes little. The standard error is the
    bootstrap's, interval and p-value come from Student's t with as many degrees of freedom as the
    smallest factor has clusters, less one.

    Parameters
    ----------
    rows
        Table with the columns named below.
    outcome
        Column of right or wrong: bool, or 0 and 1.
    numeric
        Columns entered in units of their standard deviation in this sample (`one_sd`).
    categorical
        Columns entered as one term per level but the first, "domain: zoom_blur".
    clusters
        Columns that make rows dependent; whole clusters are drawn.
    level
        Coverage of the intervals.
    resamples
        Number of bootstrap samples.
    seed
        Of the random draws.

    Returns
    -------
    pandas.DataFrame
        One row per term, columns `COLUMNS`. An odds ratio of 2 says that one standard deviation
        more doubles the odds. A term that is constant, or a combination of those before it, has no
        coefficient (NaN) and a note saying so.

    Raises
    ------
    ValueError
        For a missing column, values that are not finite, another outcome, or no rows.

    References
    ----------
    Firth, Biometrika 80, 1993; Heinze and Schemper, Statistics in Medicine 21, 2002.
    """
    y, terms, scales = _design(rows, outcome, numeric, categorical, clusters)
    names, x = list(terms), np.stack([np.ones(len(y)), *terms.values()], 1)  # [N,1+P]
    notes = _notes(x, names)
    used = [0, *(i + 1 for i, name in enumerate(names) if not notes[name])]
    factors = factors_of(len(y), [rows[name].to_numpy() for name in clusters])
    fit = firth(x[:, used], y, np.ones((1, len(y))))[0]
    replicates = np.concatenate(
        [firth(x[:, used], y, w, fit) for w in sample_weights(factors, resamples, seed)]
    )
    low, high, p = student(fit, spread(replicates), degrees(factors), level)
    estimates = pd.DataFrame(
        {
            "term": ["intercept", *(names[i - 1] for i in used[1:])],
            **{"coefficient": fit, "low": low, "high": high, "p": p},
            **{"odds_ratio": np.exp(fit), "odds_low": np.exp(low), "odds_high": np.exp(high)},
        }
    )
    table = pd.DataFrame({"term": ["intercept", *names]}).merge(estimates, on="term", how="left")
    table["one_sd"] = table["term"].map(scales)
    table["n"], table["note"] = len(y), table["term"].map(notes).fillna("")
    return table[list(COLUMNS)]


def firth(
    x: NDArray, y: ArrayLike, weights: NDArray, start: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return coefficients [R,P] of R weighted fits of y [N] on x [N,P]; weights are [R,N].

    Newton's method on Firth's score sum_i w_i (y_i - m_i + h_i (1/2 - m_i)) x_i, where w_i h_i are
    the leverages; all fits advance together. NaN for a sample that leaves a coefficient
    undetermined.
    """
    y, (n, p) = np.asarray(y, np.float64), x.shape
    pairs = (x[:, :, None] * x[:, None, :]).reshape(n, p * p)
    beta = np.zeros((len(weights), p)) + (0 if start is None else np.asarray(start))
    lost = np.zeros(len(weights), bool)
    for _ in range(_STEPS):
        mean = expit(beta @ x.T)  # [R,N]
        curvature = weights * mean * (1 - mean)
        information = (curvature @ pairs).reshape(-1, p, p)
        values = np.linalg.eigvalsh(information)
        lost |= ~(values[:, 0] > 1e-10 * np.maximum(values[:, -1], 1e-300))
        information[lost] = np.eye(p)
        inverse = np.linalg.inv(information)
        leverage = curvature * (inverse.reshape(-1, p * p) @ pairs.T)
        score = (weights * (y - mean) + leverage * (0.5 - mean)) @ x  # [R,P]
        step = np.einsum("rij,rj->ri", inverse, score)
        step[lost] = 0
        longest = np.abs(step).max(1, keepdims=True)
        beta += step * np.minimum(1, _LARGEST_STEP / np.maximum(longest, 1e-300))
        if longest.max() < _TOLERANCE:
            break
    beta[lost | (longest[:, 0] > 1e-4)] = np.nan
    return beta


def _design(
    rows: pd.DataFrame,
    outcome: str,
    numeric: Sequence[str],
    categorical: Sequence[str],
    clusters: Sequence[str],
) -> tuple[NDArray, dict[str, NDArray], dict[str, float]]:
    """Return outcome [N], standardised terms [N] by name, and the numeric ones' deviations."""
    wanted = [outcome, *numeric, *categorical, *clusters]
    missing = [name for name in wanted if name not in rows]
    if missing or rows.empty:
        has = ", ".join(map(str, rows.columns))
        raise ValueError(
            f"no rows, or no column {(missing or ['…'])[0]!r} in them; they have {has}"
        )
    for name in (outcome, *numeric):
        if not np.isfinite(rows[name].to_numpy(np.float64)).all():
            raise ValueError(f"column {name!r} holds non-finite values; count and drop those rows")
    y = rows[outcome].to_numpy(np.float64)
    if not np.isin(y, (0, 1)).all():
        raise ValueError(f"outcome {outcome!r} must be right or wrong (1 or 0), not {np.unique(y)}")
    terms: dict[str, NDArray] = {}
    scales: dict[str, float] = {}
    for name in numeric:
        values = rows[name].to_numpy(np.float64)
        sd = float(values.std())
        terms[name] = (values - values.mean()) / (sd or 1.0)
        scales[name] = sd
    for name in categorical:
        for value in list(dict.fromkeys(rows[name]))[1:]:
            terms[f"{name}: {value}"] = (rows[name] == value).to_numpy(np.float64)
    return y, terms, scales


def _notes(x: NDArray, names: Sequence[str]) -> dict[str, str]:
    """Return by name why a term (column 1, 2, … of x) has no coefficient; "" if it has one."""
    notes, kept = {}, x[:, :1]
    for i, name in enumerate(names, 1):
        column = x[:, i : i + 1]
        if np.ptp(column) < 1e-12:
            notes[name] = "constant"
        elif np.linalg.matrix_rank(np.hstack([kept, column]), tol=1e-8) == kept.shape[1]:
            notes[name] = "a combination of the terms before it"
        else:
            notes[name], kept = "", np.hstack([kept, column])
    return notes
