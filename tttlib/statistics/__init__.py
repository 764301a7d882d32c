"""Intervals, projections, separability: the uncertainty and geometry behind tables and figures."""

from tttlib.statistics.covariance import StreamingCovariance
from tttlib.statistics.fluctuation import Fluctuation, fluctuation, moving_average
from tttlib.statistics.intervals import Interval, bootstrap, paired
from tttlib.statistics.projection import Projection, pca
from tttlib.statistics.separation import (
    Separability,
    linear_hits,
    separability,
    separability_table,
    silhouette,
    silhouette_values,
)
from tttlib.statistics.variance import variance_shares

__all__ = [
    "Fluctuation",
    "Interval",
    "Projection",
    "Separability",
    "StreamingCovariance",
    "bootstrap",
    "fluctuation",
    "linear_hits",
    "moving_average",
    "paired",
    "pca",
    "separability",
    "separability_table",
    "silhouette",
    "silhouette_values",
    "variance_shares",
]
