"""The best method of a stream, those as good, and where PALM stands."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tttlib.tables import decision_tables


def rows(errors: dict[str, float], n: int = 400) -> pd.DataFrame:
    """Answers to the same n images; the first errors * n are wrong."""
    ids = [f"image {k}" for k in range(n)]
    parts = [
        pd.DataFrame({"method": m, "id": ids, "domain": "fog", "severity": 5.0, "block": 0,
                      "seed": 0, "error": (np.arange(n) < e * n).astype(float)})
        for m, e in errors.items()
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_ties_are_told_from_defeats() -> None:
    table = decision_tables.decisions(
        {
            "easy": rows({"source": 0.5, "palm": 0.205, "roid": 0.2}),
            "hard": rows({"source": 0.3, "palm": 0.9, "lame": 0.1}),
            "won": rows({"source": 0.3, "palm": 0.2}),
        }
    ).set_index("stream")
    assert list(table["best"]) == ["roid", "lame", "palm"]
    assert list(table["as good"]) == ["palm", "", ""]
    assert list(table["rank"]) == [2, 3, 1]
    assert table["difference"].to_numpy() == pytest.approx([0.5, 80, 0])
    assert table.loc["easy", "low"] <= 0 < table.loc["hard", "low"] < 80
    assert list(table["n"]) == [400] * 3 and table["error"].to_numpy() == pytest.approx(
        [20, 10, 20]
    )


def test_a_standing_is_sorted_and_says_who_is_as_good() -> None:
    table = decision_tables.standing(rows({"source": 0.5, "palm": 0.205, "roid": 0.2}))
    assert list(table["method"]) == ["roid", "palm", "source"]
    assert table["error"].tolist() == [0.2, 0.205, 0.5] and list(table["n"]) == [400] * 3
    assert list(table["as_good"]) == [True, True, False]
    assert table["difference"].to_numpy() == pytest.approx([0, 0.005, 0.3])
    assert table.loc[0, ["low", "high"]].tolist() == [0, 0]
    assert table.loc[1, "low"] <= 0 < table.loc[1, "high"] < table.loc[2, "low"] < 0.3
