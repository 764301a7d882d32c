"""Expected calibration error: how far stated confidence and accuracy lie apart, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tttlib.statistics.intervals import (
    Interval,
    degrees,
    factors_of,
    sample_weights,
    spread,
    student,
)

BINS = 15


def calibration_bins(confidence: ArrayLike, correct: ArrayLike) -> dict[str, NDArray]:
    """Return the 15 bins of a reliability diagram.

    Bin m of M holds the answers whose confidence lies in ((m - 1)/M, m/M]; 0 belongs to the first.

    Parameters
    ----------
    confidence
        Probabilities [N] of the predicted classes.
    correct
        Right (1) or wrong (0), [N].

    Returns
    -------
    dict
        Arrays [15]: low and high (the edges), n, confidence and accuracy (means, NaN in an empty
        bin).

    Raises
    ------
    ValueError
        For no answers, unequal lengths, or numbers outside [0,1].
    """
    p, right = _checked(confidence, correct)
    bins, edges = _bins(p), np.linspace(0, 1, BINS + 1)
    n = np.bincount(bins, minlength=BINS)
    sums = (np.bincount(bins, values, BINS) for values in (p, right))
    means = [np.divide(s, n, out=np.full(BINS, np.nan), where=n > 0) for s in sums]
    return {"low": edges[:-1], "high": edges[1:], "n": n, "confidence": means[0],
            "accuracy": means[1]}  # fmt: skip


def calibration_error(
    confidence: ArrayLike,
    correct: ArrayLike,
    clusters: Sequence[ArrayLike] = (),
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the expected calibration error (ECE) with its interval.

    ECE = sum over the bins of n_m / N * |accuracy_m - confidence_m|, with the 15 bins of equal
    width of `calibration_bins`. Absolute values add noise up: of N answers of a perfectly
    calibrated network the ECE is some sqrt(15 / N) / 4, not 0. So compare only equal numbers of
    answers.

    The interval has the standard error of the bootstrap over whole clusters and Student's t, and
    reaches further down by what the resamples, which have the noise twice, lie above the estimate.
    Percentiles would lie too high altogether.

    Parameters
    ----------
    confidence
        Probabilities [N] of the predicted classes.
    correct
        Right (1) or wrong (0), [N].
    clusters
        For each factor labels [N], as in `bootstrap`.
    level, resamples, seed
        Of the interval, as in `bootstrap`.

    Raises
    ------
    ValueError
        For no answers, unequal lengths, numbers outside [0,1], or all answers in one cluster.

    References
    ----------
    Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
    AAAI 2015; Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv 1706.04599,
    equation 3 (15 bins).
    """
    p, right = _checked(confidence, correct)
    return _interval([(p, right)], clusters, level, resamples, seed)


def paired_calibration(
    before: tuple[ArrayLike, ArrayLike],
    after: tuple[ArrayLike, ArrayLike],
    clusters: Sequence[ArrayLike] = (),
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the ECE of `after` minus that of `before` with its interval.

    Both are pairs (confidence [N], correct [N]) on the same images in the same order; a resample
    draws the same images for both. Definition and other arguments are those of `calibration_error`.

    Raises
    ------
    ValueError
        As `calibration_error`, and for pairs of unequal lengths.
    """
    a, b = _checked(*before), _checked(*after)
    if len(a[0]) != len(b[0]):
        raise ValueError(f"pairs need equal lengths, got {len(a[0])} and {len(b[0])}")
    return _interval([a, b], clusters, level, resamples, seed)


def _interval(
    answers: Sequence[tuple[NDArray, NDArray]],
    clusters: Sequence[ArrayLike],
    level: float,
    resamples: int,
    seed: int,
) -> Interval:
    """Return the ECE of the last answers minus that of the ones before, if there are two."""
    n = len(answers[0][0])
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"need 0 < level < 1 and resamples > 0, got {level} and {resamples}")
    factors = factors_of(n, clusters)
    cells, cell_of = np.unique(np.stack(factors), axis=1, return_inverse=True)  # [F,M], [N]
    cell_of = cell_of.reshape(-1)
    sizes, size = np.bincount(cell_of).astype(np.float64), len(cells[0])
    gaps = []  # of each, sum of correct - confidence by cell and bin
    for p, right in answers:
        place = cell_of * BINS + _bins(p)
        gaps.append(np.bincount(place, right - p, size * BINS).reshape(size, BINS))  # [M,15]

    def change(weights: NDArray) -> NDArray:
        """Return the ECE, or the difference of two, for weights [r,M] of the cells."""
        with np.errstate(invalid="ignore"):  # two factors can miss every occupied cell
            errors = [np.abs(weights @ gap).sum(1) / (weights @ sizes) for gap in gaps]
        return errors[-1] - (errors[0] if len(errors) > 1 else 0)

    estimate = float(change(np.ones((1, size)))[0])
    drawn = np.concatenate([change(w) for w in sample_weights(list(cells), resamples, seed)])
    error = float(spread(drawn))
    if error == 0:  # the same answers twice
        return Interval(estimate, estimate, estimate, n)
    bounds = student(estimate, error, degrees(factors), level)
    excess = float(np.nanmean(drawn)) - estimate  # as much as the estimate itself is too high
    lowest = 0.0 if len(answers) == 1 else -1.0
    low, high = float(bounds[0]) - max(0.0, excess), float(bounds[1]) - min(0.0, excess)
    return Interval(estimate, max(lowest, low), min(1.0, high), n)


def _bins(confidence: NDArray) -> NDArray[np.int64]:
    return np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1], right=True)


def _checked(confidence: ArrayLike, correct: ArrayLike) -> tuple[NDArray, NDArray]:
    p, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if p.shape != right.shape or p.ndim != 1 or not len(p):
        raise ValueError(
            f"calibration needs a confidence and an answer of each of N > 0 images, got shapes "
            f"{p.shape} and {right.shape}"
        )
    if not ((p >= 0) & (p <= 1) & (right >= 0) & (right <= 1)).all():
        raise ValueError(
            "confidences and answers must lie in [0,1]; some do not, or are missing (rows of an "
            "earlier version have no confidence: run them again)"
        )
    return p, right
