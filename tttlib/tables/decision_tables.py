"""Which method for which stream: the best, those that cannot be told from it, and PALM's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from tttlib.tables.adaptation_tables import against


def standing(rows: pd.DataFrame, *, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """Return the methods of one stream, best first, as fractions.

    The best method is the one of the lowest error in the same rows, so its own error is a little
    too low by luck.

    Parameters
    ----------
    rows
        Of several methods along one stream, with `error`.
    clusters
        As in `adaptation_tables.against`.

    Returns
    -------
    DataFrame
        Columns method, n (arrivals), error, difference from the best with low and high (95 %,
        the same arrivals; of the best 0), and as_good: whether the interval does not lie above 0.
    """
    errors = rows.groupby("method", sort=False)["error"].mean().sort_values()
    behind = against(rows, str(errors.index[0]), clusters=clusters).set_index("method")
    gaps = behind[["difference", "low", "high"]].astype("float64").reindex(errors.index)
    gaps.iloc[0] = 0.0
    table = pd.DataFrame({"n": rows.groupby("method").size()[errors.index], "error": errors})
    return table.join(gaps).assign(as_good=~(gaps["low"] > 0)).reset_index()


def decisions(
    streams: Mapping[str, pd.DataFrame], *, baseline: str = "palm", clusters: Sequence[str] = ()
) -> pd.DataFrame:
    """Return one row for each stream, errors in % and differences in points.

    Which method is best and which are "as good" is said by `standing`.

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
        table = standing(rows, clusters=clusters).set_index("method")
        best, mine = table.iloc[0], table.loc[baseline]
        found.append(
            {
                "stream": name,
                "n": best["n"],
                "best": table.index[0],
                "error": 100 * best["error"],
                "as good": ", ".join(table.index[1:][table["as_good"].iloc[1:]]),
                baseline: 100 * mine["error"],
                "rank": 1 + int((table["error"] < mine["error"]).sum()),
                **(100 * mine[["difference", "low", "high"]].astype("float64")),
            }
        )
    return pd.DataFrame(found)
