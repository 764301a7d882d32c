"""Shares of the variance of points that go with the corruption, the class and the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

FACTORS = ("corruption", "class", "corruption x class", "image", "rest")
DIFFERENCE = "corruption - class"


@dataclass(frozen=True)
class Design:
    """Points of I images under each of A corruptions, as inner products of the images.

    Attributes
    ----------
    level
        Shape [I,I], inner products of the images' means over the corruptions.
    effect
        Shape [I,I], those of what the corruptions add to them, summed over the corruptions.
    member
        Shape [I,C], 1 where an image belongs to a class.
    ids
        The images, shape [I].
    corruptions
        Their number, A.
    """

    level: NDArray[np.float64]
    effect: NDArray[np.float64]
    member: NDArray[np.float64]
    ids: NDArray
    corruptions: int


def variance_shares(
    x: ArrayLike,
    rows: pd.DataFrame,
    *,
    baseline: ArrayLike | None = None,
    clusters: Sequence[str] = (),
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Return shares of the total variance of the points `x` by corruption, class and image.

    Two-way analysis of variance with repeated measures (images are nested in classes and seen under
    every corruption), sums of squares over all dimensions. The factors:

    corruption, class
        Between the means of corruptions, of classes.
    corruption x class
        What a corruption does to one class and not to another.
    image
        Between images of one class, whatever the corruption.
    rest
        What a corruption does to one image and not to others of its class.

    Corruptions and classes are taken as they are (fixed), images as a sample. The interval comes
    from drawing images with replacement within their class. Each cluster column is drawn on its own
    besides, and widens a bound by what its distance from the estimate exceeds that of the images
    (in squares, as variances of crossed clusters add).

    Parameters
    ----------
    x
        Points, shape [N,D].
    rows
        Table of N rows with columns domain, class and id: every image once under every domain.
    baseline
        Shape [N,D]: the same points before something was done; shares and intervals are then those
        of the difference, `x` minus `baseline`.
    clusters
        Columns of `rows` that make images dependent.
    level
        Coverage of the intervals.
    resamples
        Number of bootstrap samples.
    seed
        Of the random draws.

    Returns
    -------
    pandas.DataFrame
        One row per factor, and "corruption - class": factor, share, low, high, raw, n (images),
        classes, corruptions. `raw` is the plain quotient of sums of squares (eta squared), which
        counts the chance differences of group means as effects; `share` (omega squared) takes their
        expected size away, so that a factor without effect gets 0 on average, sometimes a little
        less. Both kinds sum to 1.

    Raises
    ------
    ValueError
        Unless every image is once under each of two or more domains, with two or more classes and
        two or more images in a class.

    References
    ----------
    Hays, Statistics for Psychologists, 1963 (omega squared); Olejnik and Algina, Psychological
    Methods 8(4), 2003 (its repeated-measures forms); Cameron, Gelbach, Miller, "Robust inference
    with multiway clustering", Journal of Business and Economic Statistics 29(2), 2011 (variances of
    crossed clusters).
    """
    designs = [design(x, rows)]
    if baseline is not None:
        designs.append(design(baseline, rows))
    first = designs[0]
    per_image = rows.drop_duplicates("id").set_index("id").loc[first.ids]

    def weighted(weights: NDArray, correct: bool = True) -> NDArray:
        """Return shares [R,6] of the images drawn as often as `weights` [R,I] say."""
        values = [shares(d, weights, correct=correct) for d in designs]
        both = values[0] - values[1] if len(values) == 2 else values[0]
        return np.concatenate([both, both[:, :1] - both[:, 1:2]], axis=1)

    once = np.ones((1, len(first.ids)))
    share, rng = weighted(once)[0], np.random.default_rng(seed)
    tails = ((1 - level) / 2, (1 + level) / 2)
    images = _bounds(weighted(_within(first.member, resamples, rng)), tails) - share  # [2,6]
    squares = images**2
    for name in clusters:
        codes = np.unique(per_image[name], return_inverse=True)[1]
        cluster = _bounds(weighted(_drawn(codes, resamples, rng)), tails) - share
        outward = cluster * np.array([[-1], [1]]) > 0
        squares += (cluster**2 * outward - images**2).clip(0)
    low, high = np.array([[-1], [1]]) * np.sqrt(squares) + share
    return pd.DataFrame(
        {
            "factor": [*FACTORS, DIFFERENCE],
            "share": share,
            "low": low,
            "high": high,
            "raw": weighted(once, correct=False)[0],
            "n": len(first.ids),
            "classes": first.member.shape[1],
            "corruptions": first.corruptions,
        }
    )


def design(x: ArrayLike, rows: pd.DataFrame) -> Design:
    """Return points [N,D] with their rows (domain, class, id) as a `Design`.

    Raises
    ------
    ValueError
        For points that are not finite or all equal, an image that is not once under each of two or
        more corruptions, and fewer than two classes or two images of one.
    """
    points = np.asarray(x, dtype=np.float64)
    if points.ndim != 2 or len(points) != len(rows) or not np.isfinite(points).all():
        raise ValueError(f"{len(rows)} rows need as many finite points, got {points.shape}")
    if not np.ptp(points, axis=0).any():
        raise ValueError("all points are equal: there is no variance to share out")
    domains, domain = np.unique(rows["domain"], return_inverse=True)
    ids, image = np.unique(rows["id"], return_inverse=True)
    cells = np.bincount(image * len(domains) + domain, minlength=len(ids) * len(domains))
    if len(domains) < 2 or (cells != 1).any():
        raise ValueError(
            f"every image must be once under each of two or more corruptions; there are "
            f"{len(domains)} and {int((cells != 1).sum())} of {len(cells)} pairs are not"
        )
    names, label = np.unique(rows["class"], return_inverse=True)
    member = np.zeros((len(ids), len(names)))
    member[image, label] = 1
    if len(names) < 2 or member.sum(0).max() < 2 or (member.sum(1) > 1).any():
        raise ValueError(
            f"need two or more classes, two images of one class and one class for each image; got "
            f"{len(ids)} images of {len(names)} classes"
        )
    table = np.empty((len(ids), len(domains), points.shape[1]))
    table[image, domain] = points - points.mean(0)
    means = table.mean(1)  # [I,D]
    effects = (table - means[:, None]).reshape(len(ids), -1)  # [I,A*D]
    return Design(means @ means.T, effects @ effects.T, member, ids, len(domains))


def shares(design: Design, weights: NDArray, *, correct: bool = True) -> NDArray[np.float64]:
    """Return shares [R,5], ordered as `FACTORS`, of images weighted by `weights` [R,I].

    An image drawn twice brings the same deviation twice: the variance of a weighted mean grows by
    sum(w^2) / sum(w)^2, and the correction follows it. With all weights 1 this is the textbook's.
    Not finite where no class has two images.
    """
    w, a = np.asarray(weights, dtype=np.float64), design.corruptions
    total = w.sum(1)  # [R]
    per_class = w @ design.member  # [R,C]
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(per_class > 0, 1 / per_class, 0.0)
        repeats = (w**2 @ design.member * inverse).sum(1)  # [R]: C when every weight is 1
        overall = (w**2).sum(1) / total  # 1 when every weight is 1
        free = total - repeats  # I - C when every weight is 1
        squares = {}
        for name, gram in (("effect", design.effect), ("level", design.level)):
            everything = w @ np.diag(gram)
            mean = _form(w, gram) / total
            classes = np.zeros_like(total)
            for c, column in enumerate(design.member.T):
                inside = np.flatnonzero(column)
                classes += _form(w[:, inside], gram[np.ix_(inside, inside)]) * inverse[:, c]
            plain = np.stack([mean, classes - mean, everything - classes])  # [3,R]
            noise = plain[2] / free * correct  # of one image
            squares[name] = plain - np.stack([overall, repeats - overall, -repeats]) * noise
        # The level's own mean is where the points lie, no variance.
        effect, level = squares["effect"], a * squares["level"]
        parts = np.stack([effect[0], level[1], effect[1], level[2], effect[2]])
        return (parts / parts.sum(0)).T


def _form(w: NDArray, gram: NDArray) -> NDArray[np.float64]:
    """Return w^T gram w for each row of `w`, [R]."""
    return np.einsum("ri,ri->r", w @ gram, w)


def _bounds(draws: NDArray, tails: tuple[float, float]) -> NDArray[np.float64]:
    """Return quantiles [2,6] of those draws [R,6] that left a class with two images."""
    draws = draws[np.isfinite(draws).all(1)]
    if not len(draws):
        raise ValueError("no resample had two images of one class: more images are needed")
    return np.quantile(draws, tails, axis=0)


def _within(member: NDArray, resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return how often each image is drawn when classes keep their size, [R,I]."""
    weights = np.empty((resamples, len(member)))
    for column in member.T:
        inside = np.flatnonzero(column)
        weights[:, inside] = _drawn(np.arange(len(inside)), resamples, rng)
    return weights


def _drawn(codes: NDArray, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return how often each image is drawn when whole clusters `codes` [I] are, [R,I]."""
    k = int(codes.max()) + 1
    return rng.multinomial(k, np.full(k, 1 / k), size=resamples)[:, codes]
