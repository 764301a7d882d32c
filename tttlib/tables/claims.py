"""Claims and what intervals say about them: supported, contradicted, negligible or undecided.

A claim is a statement on one number: that it lies above zero, below zero, or that it is as good as
zero. Besides its direction it declares a margin, the smallest effect that matters, fixed before the
numbers are seen. One 95 % interval decides it: the sign of the effect when it lies on one side of
zero, the absence of an effect that matters when it lies within the margin on both sides.

Source of the rule for no effect: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15,
1987 (two one-sided tests): an interval of level 1 - 2a inside the margin rejects at a, so one of
95 % tests at 2.5 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import inf, isnan, nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from tttlib import statistics
from tttlib.results import Store

EXPECTED = ("above", "below", "zero")
VERDICTS = ("supported", "contradicted", "negligible", "undecided")
SIZES = ("beyond the margin", "within the margin", "may lie within the margin", "")
MARGIN = 0.01
"""One point of accuracy or error: what matters, unless a claim argues for another margin."""


def decide(low: float, high: float, *, expected: str, margin: float = MARGIN) -> str:
    """Return what the interval [low, high] of an effect says of a claim; one of `VERDICTS`.

    ========  ==============  ===========================  ===============================
    expected  supported when  contradicted when            negligible when
    ========  ==============  ===========================  ===============================
    "above"   low > 0         high < 0                     -margin < low and high < margin
    "below"   high < 0        low > 0                      -margin < low and high < margin
    "zero"    -margin < low   low > margin                 never: this is what it claims
              and high        or high < -margin
              < margin
    ========  ==============  ===========================  ===============================

    The first that applies, from left to right; undecided when none does: a bound that touches the
    limit, and bounds that could not be computed (NaN), decide nothing. How the interval of a
    directed effect lies to the margin is said by `size_of`.

    Parameters
    ----------
    low, high
        The interval, in the unit of the effect.
    expected
        What the claim says of the effect.
    margin
        The smallest effect that matters, above 0 and in the unit of the effect; choose it before
        looking.

    Raises
    ------
    ValueError
        For another `expected`, a margin out of range, and low > high.
    """
    if expected not in EXPECTED:
        raise ValueError(f"unknown expected {expected!r}; known are {', '.join(EXPECTED)}")
    if not 0 < margin < inf:
        raise ValueError(f"margin must be above 0, the smallest effect that matters, not {margin}")
    if low > high:
        raise ValueError(f"an interval needs low <= high, not [{low}, {high}]; swap them")
    inside = -margin < low and high < margin
    if expected == "zero":
        if inside:
            return "supported"
        return "contradicted" if low > margin or high < -margin else "undecided"
    if expected == "below":
        low, high = -high, -low
    if low > 0 or high < 0:
        return "supported" if low > 0 else "contradicted"
    return "negligible" if inside else "undecided"


def size_of(low: float, high: float, margin: float = MARGIN) -> str:
    """Return how an interval on one side of zero lies to the margin; one of `SIZES`.

    An interval on both sides of zero, or without bounds, is "within the margin" or "".
    """
    if low > margin or high < -margin:
        return "beyond the margin"
    if -margin < low and high < margin:
        return "within the margin"
    return "may lie within the margin" if low > 0 or high < 0 else ""


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
        What the claim says of the effect, and the smallest effect that matters, see `decide`.
    level
        Coverage of the interval.
    measure
        What the effect is: "Pearson r of area and accuracy".
    null
        The value of the effect that is none: 0, or 1 for a ratio. The margin is counted from it.
    mended, broken
        Answers that became right and that became wrong; NaN where the effect is not of answers.
    effective_n
        How many independent images tell as much; NaN where that is not known.
    df
        Degrees of freedom of the interval.
    family
        Claims of one family are adjusted together for their number, see `table`.
    verdict, size
        One of `VERDICTS`, and one of `SIZES`.
    """

    claim: str
    estimate: float
    low: float
    high: float
    n: int
    unit: str
    expected: str
    margin: float = MARGIN
    level: float = 0.95
    measure: str = ""
    null: float = 0.0
    mended: float = nan
    broken: float = nan
    effective_n: float = nan
    df: float = inf
    family: str = ""
    verdict: str = field(init=False)
    size: str = field(init=False)

    def __post_init__(self) -> None:
        low, high = self.low - self.null, self.high - self.null
        verdict = decide(low, high, expected=self.expected, margin=self.margin)
        object.__setattr__(self, "verdict", verdict)
        object.__setattr__(self, "size", size_of(low, high, self.margin))

    @property
    def p(self) -> float:
        """The p-value that agrees with the verdict: decided exactly when it is below 1 - level.

        Of zero, or, if that is smaller, of an effect as large as the margin (doubled, since an
        interval of 95 % tests each side at 2.5 %). Only one of the two can decide wrongly for a
        given true effect, so the smaller needs no correction. NaN without an interval of some
        width.
        """
        centre = (self.low + self.high) / 2 - self.null
        error = (self.high - self.low) / 2 / stats.t.ppf((1 + self.level) / 2, self.df)
        if isnan(error) or error <= 0:
            return nan
        outside = stats.t.sf((self.margin - abs(centre)) / error, self.df)
        other = 1 - outside if self.expected == "zero" else stats.t.sf(abs(centre) / error, self.df)
        return float(min(1.0, 2 * outside, 2 * other))

    @property
    def needed(self) -> float:
        """How many rows would decide an undecided claim on answers, from its flips and clusters.

        Enough to call the effect negligible if there is none, and to tell the sign of one as large
        as the margin, each in four of five repetitions. NaN for other claims.
        """
        if self.verdict != "undecided" or isnan(self.mended + self.broken + self.effective_n):
            return nan
        flips = min(1.0, max(self.mended + self.broken, 1.0) / self.n)
        alone = statistics.images_needed(self.margin, flips, level=self.level).images
        return float(np.ceil(alone * self.n / self.effective_n))


COLUMNS = (
    "claim", "verdict", "size", "estimate", "low", "high", "n", "unit", "measure", "expected",
    "margin", "level", "null", "mended", "broken", "effective_n", "df", "needed", "family", "p",
    "p_holm", "verdict_holm",
)  # fmt: skip
SHOWN = (
    "claim", "verdict", "size", "estimate", "low", "high", "n", "unit", "mended", "broken",
    "effective_n", "needed", "verdict_holm", "measure",
)  # fmt: skip
"""The columns that a reader needs, for the last table of a notebook."""
NAMES = {
    "claim": "statement", "verdict": "verdict", "estimate": "estimate", "low": "from",
    "high": "to", "n": "n", "unit": "of", "needed": "needed", "verdict_holm": "verdict after Holm",
    "measure": "measure",
}  # fmt: skip
"""What that table shows of them, under the names that stand above the columns."""
_NUMBERS = ("estimate", "low", "high", "margin", "level", "null", "mended", "broken", "effective_n",
            "df", "needed", "p")  # fmt: skip


def of_difference(
    claim: str,
    row: pd.Series,
    *,
    unit: str,
    measure: str,
    expected: str = "above",
    margin: float = MARGIN,
    family: str = "",
) -> Claim:
    """Return a claim on one row of `results.paired_difference` (difference, low, high, n).

    The interval of answers is wide enough for few changes (`statistics.paired_answers`). Another
    interval has no width when all n values are equal, which 4 unchanged images are as well as
    4,000. It is then widened by 3 / n, what n equal values leave open at 95 % (the rule of three:
    Hanley and Lippman-Hand, JAMA 249, 1983), so that few images do not support "no effect".
    """
    n, low, high = int(row["n"]), float(row["low"]), float(row["high"])
    room = 3 / n if low == high else 0.0
    known = ("mended", "broken", "effective_n", "df")
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
        family=family,
        **{name: float(row[name]) for name in known if name in row},
    )


def of_values(
    claim: str,
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    unit: str,
    measure: str,
    expected: str = "above",
    margin: float = MARGIN,
    family: str = "",
) -> Claim:
    """Return a claim on the mean of `values` [N], one of each `unit`, by Student's t.

    Values that share a label of `clusters` [N] depend on each other and count as one, their mean; a
    single independent value decides nothing. No values and non-finite ones raise a ValueError.
    """
    mean, low, high, n = statistics.mean_of_few(values, clusters)
    row = pd.Series({"difference": mean, "low": low, "high": high, "n": n, "df": max(1, n - 1)})
    return of_difference(
        claim, row, unit=unit, measure=measure, expected=expected, margin=margin, family=family
    )


def of_row(row: pd.Series) -> Claim:
    """Return the claim that a row of `table` or `collect` tells of."""
    known = {f.name: row[f.name] for f in fields(Claim) if f.init and f.name in row}
    return Claim(**known | {"n": int(row["n"])})


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
    """Return one row per claim, columns `COLUMNS`.

    `verdict_holm` is the verdict that stands when the number of claims in the `family` is accounted
    for (Holm); a claim whose adjusted p-value `p_holm` is not below 1 - level becomes undecided.
    """
    names = [*(f.name for f in fields(Claim)), "p", "needed"]
    rows = pd.DataFrame([{name: getattr(claim, name) for name in names} for claim in claims])
    rows = rows.reindex(columns=names).astype(dict.fromkeys(_NUMBERS, "float64"))
    rows = statistics.corrected(rows, by="family")
    stands = rows["p_holm"] < 1 - rows["level"]
    rows["verdict_holm"] = rows["verdict"].where(stands, "undecided")
    return rows[list(COLUMNS)]


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
