"""Intervals, tests, correlations and projections behind the tables and figures."""

from tttlib.statistics.calibration_error import (
    calibration_bins,
    calibration_error,
    paired_calibration,
)
from tttlib.statistics.class_gains import ClassTest, class_intervals, class_test, lowest
from tttlib.statistics.correlation import Correlation, correlate, reliability
from tttlib.statistics.covariance import StreamingCovariance
from tttlib.statistics.intervals import (
    Interval,
    bootstrap,
    difference_of_means,
    mean_of_few,
    paired,
)
from tttlib.statistics.logistic_regression import logistic
from tttlib.statistics.moving_averages import (
    Fluctuation,
    fluctuation,
    longest_window,
    moving_average,
)
from tttlib.statistics.multiplicity import benjamini_hochberg, corrected, holm
from tttlib.statistics.paired_answers import PairedAnswers, paired_answers
from tttlib.statistics.power import (
    SampleSize,
    images_needed,
    power_table,
    smallest_correlation,
    smallest_difference,
    smallest_margin,
)
from tttlib.statistics.projection import Projection, pca
from tttlib.statistics.separation import (
    Separability,
    linear_hits,
    separability,
    separability_table,
    silhouette,
    silhouette_values,
)
from tttlib.statistics.variance_components import variance_shares

__all__ = [
    "ClassTest",
    "Correlation",
    "Fluctuation",
    "Interval",
    "PairedAnswers",
    "Projection",
    "SampleSize",
    "Separability",
    "StreamingCovariance",
    "benjamini_hochberg",
    "bootstrap",
    "calibration_bins",
    "calibration_error",
    "class_intervals",
    "class_test",
    "corrected",
    "correlate",
    "difference_of_means",
    "fluctuation",
    "holm",
    "images_needed",
    "linear_hits",
    "logistic",
    "longest_window",
    "lowest",
    "mean_of_few",
    "moving_average",
    "paired",
    "paired_answers",
    "paired_calibration",
    "pca",
    "power_table",
    "reliability",
    "separability",
    "separability_table",
    "silhouette",
    "silhouette_values",
    "smallest_correlation",
    "smallest_difference",
    "smallest_margin",
    "variance_shares",
]
