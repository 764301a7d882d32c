"""Claims and what intervals say about them: supported, contradicted or undecided.

A claim is a statement on one number: that it lies above or below a margin, or within the margin of
zero. An interval decides it only when all of its values agree. A claim of *no* effect is supported
by an interval inside the margin, never by one that is merely wide enough to hold zero.

Source of the rule for zero: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987
(two one-sided tests): an interval of level 1 - 2a inside the margin rejects at a, so one of 95 %
tests at 2.5 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike

from tttlib.results import Store
from tttlib.statistics import bootstrap

EXPECTED = ("above", "below", "zero")
VERDICTS = ("supported", "contradicted", "undecided")


def decide(low: float, high: float, *, expected: str, margin: float = 0.0) -> str:
    """Return what the interval [low, high] of an effect says of a claim; one of `VERDICTS`.

    ========  ===============  ==================================  =============================
    expected  the claim        supported when                      contradicted when
    ========  ===============  ==================================  =============================
    "above"   effect > margin  low > margin                        high < margin
    "below"   effect < -margin high < -margin                      low > -margin
    "zero"    |effect| < margin -margin < low and high < margin    low > margin or high < -margin
    ========  ===============  ==================================  =============================

    It is undecided otherwise: a bound that touches the margin, an interval without width on it, and
    bounds that could not be computed (NaN) decide nothing.

    Parameters
    ----------
    low, high
        The interval, in the unit of the effect.
    expected
        What the claim says of the effect, see the table.
    margin
        In the unit of the effect, 0 or more; above 0 for "zero", where it says how much is still as
        good as nothing: choose it before looking.

    Raises
    ------
    ValueError
        For another `expected`, a margin out of range, and low > high.
    """
    if expected not in EXPECTED:
        raise ValueError(f"unknown expected {expected!r}; known are {', '.join(EXPECTED)}")
    if not 0 <= margin < float("inf") or (expected == "zero" and margin == 0):
        raise ValueError(
            f"margin must be 0 or more, and above 0 for a claim of no effect, not {margin}"
        )
    if low > high:
        raise ValueError(f"an interval needs low <= high, not [{low}, {high}]; swap them")
    if expected == "zero":
        if -margin < low and high < margin:
            return "supported"
        return "contradicted" if low > margin or high < -margin else "undecided"
    if expected == "below":
        low, high = -high, -low
    if low > margin:
        return "supported"
    return "contradicted" if high < margin else "undecided"


@dataclass(frozen=True)
class Claim:
    """A claim with the number it is about; its `verdict` follows from the interval.

    Attributes
    ----------
    claim
        The statement, in words.
    estimate, low, high
        The effect and its interval; fractions, not per cent.
    n, unit
        How many of what the interval is over: 10, "classes".
    expected, margin
        What the claim says of the effect, see `decide`.
    level
        Coverage of the interval.
    measure
        What the effect is: "Pearson r of area and accuracy".
    verdict
        One of `VERDICTS`.
    """

    claim: str
    estimate: float
    low: float
    high: float
    n: int
    unit: str
    expected: str
    margin: float = 0.0
    level: float = 0.95
    measure: str = ""
    verdict: str = field(init=False)

    def __post_init__(self) -> None:
        verdict = decide(self.low, self.high, expected=self.expected, margin=self.margin)
        object.__setattr__(self, "verdict", verdict)


COLUMNS = (
    "claim", "verdict", "estimate", "low", "high", "n", "unit", "measure", "expected", "margin",
    "level",
)  # fmt: skip


def of_difference(
    claim: str,
    row: pd.Series,
    *,
    unit: str,
    measure: str,
    expected: str = "above",
    margin: float = 0.0,
) -> Claim:
    """Return a claim on one row of `results.paired_difference` (difference, low, high, n).

    A bootstrap interval has no width when all n values are equal, which 4 unchanged images are as
    well as 4,000. It is then widened by 3 / n, what n equal values leave open at 95 % (the rule of
    three: Hanley and Lippman-Hand, JAMA 249, 1983), so that few images do not support "no effect".
    """
    n, low, high = int(row["n"]), float(row["low"]), float(row["high"])
    room = 3 / n if low == high else 0.0
    return Claim(
        claim,
        float(row["difference"]),
        low - room,
        high + room,
        n=n,
        unit=unit,
        expected=expected,
        margin=margin,
        measure=measure,
    )


def of_values(
    claim: str,
    values: ArrayLike,
    *,
    unit: str,
    measure: str,
    expected: str = "above",
    margin: float = 0.0,
) -> Claim:
    """Return a claim on the mean of `values` [N], one of each `unit`, by their bootstrap.

    No values and non-finite ones raise a ValueError.
    """
    mean, low, high, n = bootstrap(values)
    row = pd.Series({"difference": mean, "low": low, "high": high, "n": n})
    return of_difference(claim, row, unit=unit, measure=measure, expected=expected, margin=margin)


def collect(store: Store) -> pd.DataFrame:
    """Return all claims kept in a folder of results, in the order of their notebooks.

    A folder without claims raises a FileNotFoundError.
    """
    paths = sorted(store.folder.glob("claims-*.parquet"))
    if not paths:
        raise FileNotFoundError(f"no claims in {store.folder}; run a notebook that ends with some")
    claims = pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
    return claims.sort_values("notebook", kind="stable", ignore_index=True)


def table(claims: Sequence[Claim]) -> pd.DataFrame:
    """Return one row per claim, columns `COLUMNS`."""
    return pd.DataFrame([asdict(one) for one in claims], columns=list(COLUMNS)).astype(
        {"estimate": "float64", "low": "float64", "high": "float64"}
    )


def keep(store: Store, unit: Mapping[str, Any], claims: Sequence[Claim]) -> pd.DataFrame:
    """Keep the claims as result rows of `unit` (its experiment is "claims"); return the rows.

    Claims follow from rows that are kept already and cost nothing, so they are always computed
    anew; the file is replaced only when they differ.
    """
    rows, unit = table(claims), {**unit, "experiment": "claims"}
    kept = store.run(unit, lambda: rows)
    same = list(kept.columns[: len(COLUMNS)]) == list(COLUMNS)
    if not same or not kept[list(COLUMNS)].equals(rows):
        kept = store.run(unit, lambda: rows, force=True)
    return kept
