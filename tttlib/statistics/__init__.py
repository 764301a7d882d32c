"""Intervals, relations, projections, separability: the uncertainty behind tables and figures."""

from tttlib.statistics.classes import ClassTest, class_intervals, class_test, lowest
from tttlib.statistics.intervals import Interval, bootstrap, paired
from tttlib.statistics.logistic import logistic
from tttlib.statistics.multiplicity import benjamini_hochberg, corrected, holm
from tttlib.statistics.projection import Projection, pca
from tttlib.statistics.relation import (
    Correlation,
    correlate,
    reliability,
    smallest_correlation,
    smallest_difference,
)
from tttlib.statistics.separation import (
    Separability,
    separability,
    separability_table,
    silhouette,
    silhouette_values,
)

__all__ = [
    "ClassTest",
    "Correlation",
    "Interval",
    "Projection",
    "Separability",
    "benjamini_hochberg",
    "bootstrap",
    "class_intervals",
    "class_test",
    "corrected",
    "correlate",
    "holm",
    "logistic",
    "lowest",
    "paired",
    "pca",
    "reliability",
    "separability",
    "separability_table",
    "silhouette",
    "silhouette_values",
    "smallest_correlation",
    "smallest_difference",
]
