"""Intervals, projections, separability: the uncertainty and geometry behind tables and figures."""

from tttlib.statistics.fluctuation import Fluctuation, fluctuation, moving_average
from tttlib.statistics.intervals import Interval, bootstrap, paired
from tttlib.statistics.projection import Projection, pca
from tttlib.statistics.separation import (
    Separability,
    separability,
    separability_table,
    silhouette,
    silhouette_values,
)

__all__ = [
    "Fluctuation",
    "Interval",
    "Projection",
    "Separability",
    "bootstrap",
    "fluctuation",
    "moving_average",
    "paired",
    "pca",
    "separability",
    "separability_table",
    "silhouette",
    "silhouette_values",
]
