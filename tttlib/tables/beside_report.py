"""Accuracies on online streams beside those of the replication report of TTT-MAE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tttlib import results
from tttlib.tables import stream_tables


def streams(
    pairs: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], clusters: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the accuracy of each network and way on streams, with the report's where it has one.

    Parameters
    ----------
    pairs
        By the report's name of a stream, "four blurs" or "zoom_blur, severities 1 to 5": what
        arrived (rows of `stream_tables.arrivals`) and the rows of `evaluate.online`, both with the
        columns network and method.
    clusters
        Of the intervals.

    Returns
    -------
    pandas.DataFrame
        Columns network, method, n, mean, low, high (fractions), images ("arrivals" or "held-out"),
        stream and published, % (NaN where the report has none).
    """
    table = pd.concat(
        stream_tables.accuracies(*pair, ["network", "method"], clusters).assign(stream=name)
        for name, pair in pairs.items()
    )
    published = results.published("ttt_mae_report").set_index(["domain", "method"])["value"]
    names = "TTT-MAE online, " + table["method"]
    names += np.where(table["stream"].str.contains("severities"), " severity", "")
    names += np.where(table["images"] == "held-out", ", evaluation set", "")
    keys = zip(table["stream"], names, strict=True)
    return table.assign(**{"published, %": [published.get(key) for key in keys]})
