"""How far labels organise points: silhouettes and linear classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_samples, silhouette_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


class Separability(NamedTuple):
    """Cross-validated accuracy of a linear classifier and of always guessing the largest class."""

    accuracy: float
    chance: float
    folds: int


def silhouette(x: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean silhouette in [-1, 1] of points `x` [N,D] with `labels` [N]; 0 is overlap.

    Source: Rousseeuw, Journal of Computational and Applied Mathematics 20, 1987 (Euclidean).
    """
    codes = _codes(x, labels)
    return float(silhouette_score(np.asarray(x, dtype=np.float64), codes))


def silhouette_values(x: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Return each point's silhouette, [N]; bootstrap them for an interval of their mean."""
    codes = _codes(x, labels)
    return np.asarray(silhouette_samples(np.asarray(x, dtype=np.float64), codes))


def separability_table(x: ArrayLike, rows: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """Return how far each factor organises the points `x` [N,D].

    A factor is a column of `rows` [N]; points of one `id` stay in one fold. Columns factor, n,
    groups, silhouette, accuracy, chance (fractions) and folds.
    """
    return pd.DataFrame(
        {
            "factor": factor,
            "n": len(rows),
            "groups": rows[factor].nunique(),
            "silhouette": silhouette(x, rows[factor]),
            **separability(x, rows[factor], rows["id"])._asdict(),
        }
        for factor in factors
    )


def separability(
    x: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
) -> Separability:
    """Return how well a linear classifier tells `labels` from the points `x`.

    Logistic regression (L2, C = 1) on standardised features, accuracy over stratified folds.

    Parameters
    ----------
    x
        Points, shape [N,D].
    labels
        Two or more different ones, shape [N].
    groups
        Shape [N]: points that share one stay in one fold, for instance the corrupted versions of
        one source image, which otherwise stand in both the training and the test fold.
    folds
        Fewer are used where a class has fewer points (or groups).
    seed
        Of the split into folds.

    Raises
    ------
    ValueError
        For fewer than two classes, or when a class has a single point (or group).
    """
    hits, folds = linear_hits(x, labels, groups, folds=folds, seed=seed)
    _, counts = np.unique(np.asarray(labels), return_counts=True)
    return Separability(float(hits.mean()), float(counts.max() / counts.sum()), folds)


def linear_hits(
    x: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
) -> tuple[NDArray[np.bool_], int]:
    """Return which points the classifier of `separability` gets right, [N], and the folds used.

    Their mean is its accuracy; bootstrap them, by group, for an interval. Unequal lengths raise a
    ValueError, and so does what `separability` refuses.
    """
    points, codes = np.asarray(x, dtype=np.float64), _codes(x, labels)
    units = np.arange(len(codes)) if groups is None else np.asarray(groups)
    if len(units) != len(codes):
        raise ValueError(f"{len(codes)} points but {len(units)} groups")
    folds = min(folds, *(len(np.unique(units[codes == c])) for c in np.unique(codes)))
    if folds < 2:
        raise ValueError("a class has a single point or group: nothing is left to test on")
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    split = splitter(folds, shuffle=True, random_state=seed)
    hits = np.zeros(len(codes), dtype=bool)
    for train, test in split.split(points, codes, None if groups is None else units):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        classifier.fit(points[train], codes[train])
        hits[test] = classifier.predict(points[test]) == codes[test]
    return hits, folds


def _codes(x: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Return `labels` as int [N]; a ValueError when they do not fit `x` or are all equal."""
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    if len(codes) != len(np.asarray(x)):
        raise ValueError(f"{len(np.asarray(x))} points but {len(codes)} labels")
    if len(names) < 2:
        raise ValueError(f"need at least two different labels, got only {names}")
    return codes
