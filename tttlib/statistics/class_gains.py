"""Test whether classes differ in what a method gains, or one of them loses, beyond chance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

STATISTICS = ("variance", "lowest", "highest")
NULLS = ("labels", "signs")


class ClassTest(NamedTuple):
    """Result of a permutation test over C classes.

    Attributes
    ----------
    observed
        The statistic.
    p
        Its p-value.
    band
        Shape [C,2]: where the lowest, second lowest, … class mean lies in 95 % of permutations.
    permutations
        Number of permutations.
    """

    observed: float
    p: float
    band: NDArray[np.float64]
    permutations: int


def class_test(
    gains: ArrayLike,
    labels: ArrayLike,
    blocks: ArrayLike | None = None,
    *,
    statistic: str = "variance",
    null: str = "labels",
    permutations: int = 2000,
    seed: int = 0,
) -> ClassTest:
    """Test whether class means of `gains` stand out more than chance lets them.

    The p-value counts the observation itself, so it is never 0.

    Parameters
    ----------
    gains
        Finite values, shape [N].
    labels
        The class of each value, shape [N].
    blocks
        Shape [N]: values of one block depend on each other and lie in one class (a digit instance
        under several corruptions). Whole blocks get a label, or a sign, so classes change in size
        when blocks do. None: every value is its own block.
    statistic
        "variance": the sum over classes of n_c (mean_c - mean)²; large is extreme.
        "lowest" or "highest": the class mean furthest below or above the centre, in units of its
        standard error sd / sqrt(n_c); large departures are extreme.
    null
        "labels": the class says nothing about the gain. Labels are permuted; the centre is the
        mean of all gains. "signs": the method does nothing, before and after could be swapped.
        Signs are flipped; the centre is 0, so "lowest" asks whether a class is hurt.
    permutations
        Number of random permutations.
    seed
        Of the permutations.

    Raises
    ------
    ValueError
        For unknown names, unequal lengths, non-finite gains, fewer than two classes, or a block in
        two classes.

    References
    ----------
    Fisher, The Design of Experiments, 1935, chapter 3 (signs); Phipson and Smyth, Statistical
    Applications in Genetics 9(1), 2010 (p-values of permutations).
    """
    x, codes, block = _checked(gains, labels, blocks)
    for name, value, legal in (("statistic", statistic, STATISTICS), ("null", null, NULLS)):
        if value not in legal:
            raise ValueError(f"unknown {name} {value!r}; known are {', '.join(legal)}")
    rng = np.random.default_rng(seed)
    n_classes, n_blocks = int(codes.max()) + 1, int(block.max()) + 1
    label_of = np.empty(n_blocks, np.int64)
    label_of[block] = codes
    centre = float(x.mean()) if null == "labels" else 0.0
    observed, means = [], []
    for i in range(permutations + 1):  # the first is the observation
        if null == "labels":
            label, values = (label_of if i == 0 else rng.permutation(label_of))[block], x
        else:
            flips = np.ones(n_blocks) if i == 0 else rng.choice([-1.0, 1.0], n_blocks)
            label, values = codes, x * flips[block]
        size = np.bincount(label, minlength=n_classes)
        mean = np.bincount(label, values, n_classes) / size
        observed.append(_statistic(mean, size, centre, values.std(), statistic))
        means.append(np.sort(mean))
    p = float((np.asarray(observed) >= observed[0] - 1e-12).mean())
    band = np.quantile(np.asarray(means[1:]), [0.025, 0.975], axis=0).T  # [C,2]
    return ClassTest(float(observed[0]), p, band, permutations)


def class_intervals(
    gains: ArrayLike,
    labels: ArrayLike,
    blocks: ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the mean gain of each class, lowest first, alone and simultaneous intervals.

    Two imagined blocks of one value, +1 and -1, are added to each class, so that a class without a
    change is not taken for certain: with independent values this is Bonett and Price's adjusted
    Wald interval, but for Student's t and G / (G - 1).

    Parameters
    ----------
    gains
        Differences of right-or-wrong answers in [-1, 1], shape [N].
    labels
        The class of each value, shape [N].
    blocks
        Shape [N]: values of one block depend on each other. None: all are independent.
    level
        Coverage.

    Returns
    -------
    pandas.DataFrame
        Columns label, n, blocks, gain, low, high (each class alone, at `level`), low_all and
        high_all (all classes at once, Bonferroni).

    References
    ----------
    Bonett and Price, Journal of Educational and Behavioral Statistics 37, 2012; Liang and Zeger,
    Biometrika 73, 1986 (errors of dependent values).
    """
    x, codes, block = _checked(gains, labels, blocks)
    names = np.unique(np.asarray(labels))
    records = []
    for c, name in enumerate(names):
        own, groups = x[codes == c], np.unique(block[codes == c], return_inverse=True)[1]
        padded = np.concatenate([own, [1.0, -1.0]])
        g = int(groups.max()) + 3
        groups = np.concatenate([groups, [g - 2, g - 1]])
        middle = padded.mean()
        sums = np.bincount(groups, padded - middle)  # [G]
        error = float(np.sqrt((sums**2).sum() * g / (g - 1))) / len(padded)
        record = {"label": name, "n": len(own), "blocks": g - 2, "gain": own.mean()}
        for suffix, tail in (("", 1 - level), ("_all", (1 - level) / len(names))):
            half = stats.t.ppf(1 - tail / 2, g - 1) * error
            record[f"low{suffix}"] = max(-1.0, middle - half)
            record[f"high{suffix}"] = min(1.0, middle + half)
        records.append(record)
    table = pd.DataFrame(records)
    return table.sort_values(["gain", "label"], kind="stable", ignore_index=True)


def lowest(table: pd.DataFrame) -> tuple[float, float, float]:
    """Return estimate and interval of the smallest true class gain, from `class_intervals`.

    When every class lies in its simultaneous interval, the smallest lies between the smallest lower
    and the smallest upper bound. The estimate, the smallest mean, is too low: it was picked for
    being so.
    """
    return tuple(float(table[name].min()) for name in ("gain", "low_all", "high_all"))  # type: ignore[return-value]


def _statistic(mean: NDArray, size: NDArray, centre: float, sd: float, which: str) -> float:
    off = mean - centre
    if which == "variance":
        return float((size * off**2).sum())
    z = off * np.sqrt(size) / (sd or 1.0)
    return float(-z.min() if which == "lowest" else z.max())


def _checked(
    gains: ArrayLike, labels: ArrayLike, blocks: ArrayLike | None
) -> tuple[NDArray, NDArray, NDArray]:
    """Return gains, class codes and block codes, all [N]."""
    x = np.asarray(gains, np.float64)
    names = np.asarray(labels)
    block = np.arange(len(x)) if blocks is None else np.unique(blocks, return_inverse=True)[1]
    if x.ndim != 1 or names.shape != x.shape or block.shape != x.shape or not len(x):
        raise ValueError(
            f"gains, labels and blocks must be [N], N > 0, not {x.shape}, {names.shape}, "
            f"{block.shape}"
        )
    if not np.isfinite(x).all():
        raise ValueError("gains hold non-finite values; count and drop those images first")
    codes = np.unique(names, return_inverse=True)[1]
    if codes.max() == 0:
        raise ValueError(f"one class only ({names[0]}); classes are compared, so take two or more")
    if np.unique(np.stack([block, codes]), axis=1).shape[1] != block.max() + 1:
        raise ValueError("a block lies in two classes; let a block be what shares one class")
    return x, codes, block
