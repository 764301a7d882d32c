"""Numbers that the notebooks must give again at tiny size, in tests/goldens/notebooks.json.

Made by `python tests/notebook_goldens.py RUN`, with RUN a folder in which all notebooks were
executed with the parameters of test_notebooks.TINY.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tttlib import results

FILE = Path(__file__).parent / "goldens" / "notebooks.json"
LOSS = 2e-3
"""Relative: float32 sums in another order, over a few steps of learning."""


def allowed(n: int) -> int:
    """How many of n answers may change: those whose two best classes are as good as equal."""
    return max(1, n // 20)


def summary(run: Path) -> dict[str, dict[str, float]]:
    """n, right answers and mean loss of test-time training, by experiment, network and domain."""
    rows = results.load(run / "results")
    rows = rows[rows["experiment"].isin(["ttt", "online"])]
    by = ["experiment", "method", "model", "domain", "severity"]
    found = {}
    for key, part in rows.groupby(by):
        name = " / ".join(map(str, key))
        found[name] = {
            "n": len(part),
            "correct": int(part["correct"].sum()),
            "loss": round(float(part["loss"].mean()), 6),
        }
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(summary(Path(sys.argv[1])), indent=1) + "\n", encoding="utf-8")
