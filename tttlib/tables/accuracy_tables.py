"""Accuracy before and after test-time training, with intervals and published numbers."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tttlib import results

PUBLISHED_ROWS = {
    "report baseline": "Baseline",
    "report TTT, batch 8": "TTT-MAE [batch 8]",
    "paper TTT, batch 128": "TTT-MAE [batch 128]",
}

ALL = "all corruptions"
"""The domain of a gain over all corruptions."""


def gains_by(
    rows: pd.DataFrame, by: str | Sequence[str], *, clusters: Sequence[str] = (), step: int = -1
) -> pd.DataFrame:
    """Return accuracy before and after TTT and their paired difference, for each group of `by`.

    Parameters
    ----------
    rows
        Rows of `evaluate.test_time_training`. Groups of several domains pair images within each
        domain.
    by
        Columns that name the groups.
    clusters
        Columns that make images dependent.
    step
        The step to compare with step 0; -1 is the last of each group.

    Returns
    -------
    pandas.DataFrame
        Columns by…, n, step, baseline, accuracy, difference, low, high (fractions; the interval is
        that of the difference, over the same images), mended, broken, effective_n, df.
    """
    by = [by] if isinstance(by, str) else list(by)
    records = []
    for key, group in rows.groupby(by, sort=False):
        last = int(group["step"].max()) if step == -1 else step
        pair = group[group["step"].isin([0, last])]
        difference = results.paired_difference(
            pair, method_column="step", baseline=0, match=("domain", "id"), clusters=clusters
        ).iloc[0]
        mean = pair.groupby("step")["correct"].mean()
        names = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        record = {"n": int(difference["n"]), "step": last}
        record |= {"baseline": mean[0], "accuracy": mean[last]}
        rest = ["difference", "low", "high", "mended", "broken", "effective_n", "df"]
        records.append(names | record | dict(difference[rest]))
    return pd.DataFrame(records)


def gains_over_all(
    rows: pd.DataFrame, by: str, *, clusters: Sequence[str] = (), step: int = -1
) -> pd.DataFrame:
    """Return `gains_by` for each value of `by` under each domain, and over all of them (`ALL`)."""
    single = gains_by(rows, [by, "domain"], clusters=clusters, step=step)
    mean = gains_by(rows, by, clusters=clusters, step=step).assign(domain=ALL)
    return pd.concat([single, mean], ignore_index=True)


def leave_one_out(
    rows: pd.DataFrame, by: str, *, clusters: Sequence[str] = (), step: int = -1
) -> pd.DataFrame:
    """Return the gains over all domains but one, each left out in turn: column `without`."""
    return pd.concat(
        [
            gains_by(rows[rows["domain"] != name], by, clusters=clusters, step=step).assign(
                without=name
            )
            for name in dict.fromkeys(rows["domain"])
        ],
        ignore_index=True,
    )


def replication(
    rows: pd.DataFrame, *, clusters: Sequence[str] = (), published: str = "ttt_mae_report"
) -> pd.DataFrame:
    """Return the replication table: our accuracies with intervals beside the published ones, in %.

    One row per model and domain, and one per model over all corruptions ("mean of corruptions",
    clean excluded), where the interval is over the same images of all of them.
    """
    single = gains_by(rows, ["model", "domain"], clusters=clusters)
    corrupted = rows[rows["domain"] != "clean"]
    mean = gains_by(corrupted, "model", clusters=clusters).assign(domain="mean of corruptions")
    table = pd.concat([single, mean], ignore_index=True)
    table["order"] = pd.Categorical(table["model"], list(dict.fromkeys(rows["model"])))
    table = table.sort_values("order", kind="stable", ignore_index=True)
    gains = table[["difference", "low", "high"]].itertuples(index=False)
    shown = pd.DataFrame(
        {
            "model": table["model"],
            "domain": table["domain"].str.replace("_", " "),
            "n": table["n"],
            "no adaptation": percent(table["baseline"]),
            "after TTT": percent(table["accuracy"]),
            "gain [95 % interval]": [interval(*values) for values in gains],
        }
    )
    known = results.published(published).query("metric == 'accuracy'")
    for column, method in PUBLISHED_ROWS.items():
        values = known[known["method"] == method].set_index("domain")["value"]
        shown[column] = table["domain"].map(values).round(1)
    return shown


def after_peak(rows: pd.DataFrame, *, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """Return accuracy at the last step minus that at the best step, as one row.

    The best of many noisy steps looks better than it is, so the images are halved (by their place
    in the order of their ids): the best step of one half is scored on the other, both ways round.
    The row is one of `results.paired_difference`; `rows` are those of
    `evaluate.test_time_training` with one setting.
    """
    rank = rows["id"].rank(method="dense").astype(int)
    parts = []
    for half in (0, 1):
        here, other = rows[rank % 2 == half], rows[rank % 2 != half]
        best = other.groupby("step")["correct"].mean().idxmax()
        for when, step in {"peak": best, "last": rows["step"].max()}.items():
            parts.append(here[here["step"] == step].assign(when=when))
    return results.paired_difference(
        pd.concat(parts), method_column="when", baseline="peak", clusters=clusters
    )


def percent(fractions: pd.Series) -> pd.Series:
    """Return fractions in per cent with one digit."""
    return (100 * fractions).round(1)


def interval(middle: float, low: float, high: float) -> str:
    """Write fractions in points, as "+1.2 [-0.3, +2.7]"."""
    return f"{100 * middle:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def verdicts(differences: pd.DataFrame) -> dict[str, int]:
    """Count the intervals (columns low, high) above, below and across zero."""
    gain, harm = differences["low"] > 0, differences["high"] < 0
    return {
        "significant gain": int(gain.sum()),
        "significant harm": int(harm.sum()),
        "no significant change": int((~gain & ~harm).sum()),
    }
