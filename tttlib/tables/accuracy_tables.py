"""Tables for readers: accuracies in per cent, intervals, and the published numbers beside them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tttlib import results

PUBLISHED_ROWS = {
    "report baseline": "Baseline",
    "report TTT, batch 8": "TTT-MAE [batch 8]",
    "paper TTT, batch 128": "TTT-MAE [batch 128]",
}


def gains_by(
    rows: pd.DataFrame, by: str | Sequence[str], *, clusters: Sequence[str] = (), step: int = -1
) -> pd.DataFrame:
    """Accuracy before and after TTT and the paired difference, for each group of `by`.

    rows  of `evaluate.test_time_training`; step -1 is the last of each group
    Columns: by…, n, baseline, accuracy, difference, low, high (fractions; the interval is of the
    difference, over the same images). Groups of several domains pair images within each domain.
    """
    by = [by] if isinstance(by, str) else list(by)
    records = []
    for key, group in rows.groupby(by, sort=False):
        last = int(group["step"].max()) if step == -1 else step
        pair = group[group["step"].isin([0, last])]
        found = results.paired_difference(
            pair, method_column="step", baseline=0, match=("domain", "id"), clusters=clusters
        ).iloc[0]
        mean = pair.groupby("step")["correct"].mean()
        values = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        records.append(
            {
                **values,
                "n": int(found["n"]),
                "step": last,
                "baseline": mean[0],
                "accuracy": mean[last],
                "difference": found["difference"],
                "low": found["low"],
                "high": found["high"],
            }
        )
    return pd.DataFrame(records)


def replication(
    rows: pd.DataFrame, *, clusters: Sequence[str] = (), published: str = "ttt_mae_report"
) -> pd.DataFrame:
    """The replication table: ours with intervals, the published accuracies beside them, in %.

    One row per model and domain, and one per model over all corruptions ("mean of corruptions",
    clean excluded), where the interval is over the same images of all of them.
    """
    single = gains_by(rows, ["model", "domain"], clusters=clusters)
    corrupted = rows[rows["domain"] != "clean"]
    mean = gains_by(corrupted, "model", clusters=clusters).assign(domain="mean of corruptions")
    table = pd.concat([single, mean], ignore_index=True)
    table["order"] = pd.Categorical(table["model"], list(dict.fromkeys(rows["model"])))
    table = table.sort_values("order", kind="stable").drop(columns="order")
    shown = pd.DataFrame(
        {
            "model": table["model"],
            "domain": table["domain"].str.replace("_", " "),
            "n": table["n"],
            "no adaptation": percent(table["baseline"]),
            "after TTT": percent(table["accuracy"]),
            "gain [95 % interval]": [
                interval(*values)
                for values in table[["difference", "low", "high"]].itertuples(index=False)
            ],
        }
    )
    known = results.published(published)
    known = known[known["metric"] == "accuracy"]
    for column, method in PUBLISHED_ROWS.items():
        values = known[known["method"] == method].set_index("domain")["value"]
        shown[column] = table["domain"].map(values).round(1).to_numpy()
    return shown.reset_index(drop=True)


def after_peak(rows: pd.DataFrame, *, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """Accuracy at the last step minus that at the best step; one row as of `paired_difference`.

    The best of many noisy steps looks better than it is, so the images are halved (by their place
    in the order of their ids): the best step of one half is scored on the other, both ways round.
    rows  of `evaluate.test_time_training`, one setting
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
    """Fractions -> per cent with one digit."""
    return (100 * fractions).round(1)


def interval(middle: float, low: float, high: float) -> str:
    """Fractions -> "+1.2 [-0.3, +2.7]" in points."""
    return f"{100 * middle:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def verdicts(differences: pd.DataFrame) -> dict[str, int]:
    """How many intervals lie above, below and across zero (columns low, high)."""
    gain, harm = differences["low"] > 0, differences["high"] < 0
    return {
        "significant gain": int(gain.sum()),
        "significant harm": int(harm.sum()),
        "no significant change": int((~gain & ~harm).sum()),
    }
