"""Committed verdicts under the rule of `tables.claims`: python docs/verdict_rule.py.

The committed tables were decided by an older rule, and the answers behind them are not committed.
So the new interval is rebuilt from the old one as far as that goes, see the page. When all
notebooks have run under the new rule, this script and figures/verdict_rule.md can go.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from tttlib.statistics.paired_answers import bonett_price, with_doubt
from tttlib.tables import claims, verdict_tables

FIGURES = Path(__file__).resolve().parents[1] / "figures"
PAGE = FIGURES / "verdict_rule.md"
HEAD = """# Committed verdicts under the new rule

The rule before: a claim was *supported* or *contradicted* by the margin (mostly 0) and had no word
for an effect that is too small to matter; an interval of answers was the bootstrap's, widened only
when no answer changed at all, and counted rows of one image as images. The rule now stands in
[tttlib/statistics](../tttlib/statistics/README.md): the side of zero decides, an interval within
the margin on both sides is *negligible*, few changes and few clusters leave the interval wide, and
few values get Student's t.

The tables `*_claims_*.csv` are those of the rule before, because the answers behind them are not
committed. Below, the new interval is rebuilt from the old one: its width tells the standard error,
this about how many answers changed, and the design says how many rows one image or photograph has.
On scenes the five test photographs are the clusters (Student's t with 4 degrees of freedom). A
rebuilt interval is a good guess; the next run decides. Claims on the 15 corruptions or on the
layers of one stream are left out: they are not over independent values, and become undecided once
their stream is named to `claims.of_values`.

"""
DIRECTIONS = {  # beginnings of claims that are not "above" zero by a margin of 0.01
    "TTT leaves clean": ("zero", 0.01),
    "lambda is flat": ("zero", 0.01),
    "text or code does not": ("zero", 0.01),
    "reconstruction: a stream": ("zero", 0.02),
    "rotation: a stream": ("zero", 0.02),
    "size does not explain": ("zero", 0.1),
    "AdamW needs early": ("below", 0.01),
    "PALM's rates beat": ("below", 0.01),
    "some classes do not": ("below", 0.01),
}
ANSWERS = ("images", "arrivals", "pairs", "held-out images")
ONE_STREAM = ("corruptions", "layers x blocks")


def rows_per_image(notebook: str, claim: str) -> int:
    """Rows that one image gives to a claim: corruptions, and in the gradual setting severities."""
    if notebook == "05":
        if "gradual" in claim:
            return 135
        return 1 if "online TTT" in claim else 5 if "accumulates" in claim else 15
    everywhere = ("helps under", "gains under", "AdamW gains", "stopping AdamW")
    return 5 if any(words in claim for words in everywhere) and "online" not in claim else 1


def rebuilt(row: pd.Series, rows: int, photographs: bool) -> tuple[float, float]:
    """The new interval of answers from the old one, about."""
    n, half = int(row["n"]), (row["high"] - row["low"]) / 2
    error = half / stats.norm.ppf(0.975)
    unchanged = abs(row["estimate"]) < 5e-5 and abs(half - 3 / n) < 5e-5
    changes = 0.0 if unchanged else max(abs(row["estimate"]) * n, (error * n) ** 2)
    if photographs:
        clusters = 5
        low, high = bonett_price(0, 0, 5, df=4)
        if not unchanged:
            wide = stats.t.ppf(0.975, 4) * error * np.sqrt(clusters / (clusters - 1))
            low, high = row["estimate"] - wide, row["estimate"] + wide
    else:
        effect = float(with_doubt(1, changes, rows))
        counts = [(changes + sign * row["estimate"] * n) / 2 / effect for sign in (1, -1)]
        low, high = bonett_price(*counts, n / effect, df=max(1, n // rows - 1))
    old = (0.0, 0.0) if unchanged else (row["low"], row["high"])
    return min(float(low), old[0]), max(float(high), old[1])


def compared() -> pd.DataFrame:
    """One row per committed claim: both verdicts and the interval of the new one."""
    found = []
    for path in sorted(FIGURES.glob("??_claims_*.csv")):
        notebook, data = path.name[:2], path.stem.split("claims_")[1]
        for _, row in pd.read_csv(path).iterrows():
            if row["unit"] in ONE_STREAM:
                continue
            begins = [v for k, v in DIRECTIONS.items() if row["claim"].startswith(k)]
            expected, margin = begins[0] if begins else ("above", claims.MARGIN)
            low, high, null = row["low"], row["high"], 0.0
            if row["claim"] == "online accuracy fluctuates beyond noise":
                margin, null = 0.1, 1.0
            elif row["unit"] in ANSWERS and notebook in ("02", "03", "05", "06"):
                low, high = rebuilt(row, rows_per_image(notebook, row["claim"]), data == "scenes")
            verdict = claims.decide(low - null, high - null, expected=expected, margin=margin)
            found.append(
                {
                    "notebook": notebook,
                    "data": data,
                    "claim": f"{row['claim']} ({row['measure']})",
                    "before": row["verdict"],
                    "now": verdict,
                    "size": claims.size_of(low - null, high - null, margin),
                    "interval before": f"[{row['low']:+.3f}, {row['high']:+.3f}]",
                    "interval now, about": f"[{low:+.3f}, {high:+.3f}]",
                }
            )
    return pd.DataFrame(found)


def page() -> str:
    table = compared()
    changed = table[table["before"] != table["now"]]
    counts = table.groupby(["data", "before", "now"]).size().rename("claims").reset_index()
    return (
        f"{HEAD}## Those that change\n\n{verdict_tables.markdown(changed)}\n\n"
        f"## All, counted\n\n{verdict_tables.markdown(counts)}\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
