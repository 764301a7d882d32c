"""Which method for which stream: the best, those that cannot be told from it, and PALM's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from tttlib.tables.adaptation_tables import against


def decisions(
    streams: Mapping[str, pd.DataFrame], *, baseline: str = "palm", clusters: Sequence[str] = ()
) -> pd.DataFrame:
    """Return one row for each stream, errors in % and differences in points.

    The best method is the one of the lowest error in the same rows, so its own error is a little
    too low by luck. A method is "as good" when the 95 % interval of its paired difference from the
    best does not lie above zero.

    Parameters
    ----------
    streams
        What stands in the table -> rows of several methods along one stream, with `error`.
    baseline
        The method whose place is asked for.
    clusters
        As in `adaptation_tables.against`.

    Returns
    -------
    DataFrame
        Columns stream, n (arrivals), best, error, as good (names), and of the baseline its error,
        rank (1 is the best) and difference from the best with low and high.
    """
    found = []
    for name, rows in streams.items():
        errors = 100 * rows.groupby("method", sort=False)["error"].mean().sort_values()
        best = str(errors.index[0])
        behind = against(rows, best, clusters=clusters).set_index("method")
        as_good = [m for m in errors.index[1:] if not behind.loc[m, "low"] > 0]
        gap = 100 * behind[["difference", "low", "high"]].astype("float64")
        place = gap.loc[baseline] if baseline in gap.index else pd.Series(0.0, gap.columns)
        found.append(
            {
                "stream": name,
                "n": int((rows["method"] == best).sum()),
                "best": best,
                "error": errors.iloc[0],
                "as good": ", ".join(as_good),
                baseline: errors[baseline],
                "rank": 1 + int((errors < errors[baseline]).sum()),
                "difference": place["difference"],
                "low": place["low"],
                "high": place["high"],
            }
        )
    return pd.DataFrame(found)
