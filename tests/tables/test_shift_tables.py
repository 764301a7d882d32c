"""Tables and verdicts of the distribution shift: they say what the rows say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tttlib.tables import shift_tables


def map_rows() -> pd.DataFrame:
    """Corruption (3) always read; class (2) right for two of three images."""
    image = np.repeat(np.arange(30), 3)
    return pd.DataFrame(
        {
            "id": image,
            "domain": np.tile(["a", "b", "c"], 30),
            "read_corruption": True,
            "read_class": image % 3 > 0,
            "chance_corruption": 1 / 3,
            "chance_class": 0.5,
            "silhouette_corruption": 0.2,
            "silhouette_class": np.where(image % 2, 0.3, -0.1),
        }
    )


def test_reading_is_above_chance_and_paired_by_image() -> None:
    table = shift_tables.reading(map_rows()).set_index(["measure", "factor"])
    assert table.loc[(shift_tables.READ, "corruption"), "mean"] == pytest.approx(1)
    assert table.loc[(shift_tables.READ, "class"), "mean"] == pytest.approx((2 / 3 - 0.5) / 0.5)
    found = table.loc[(shift_tables.READ, "corruption - class")]
    assert found["mean"] == pytest.approx(1 - 1 / 3)
    # 30 images of which a third is read wrongly everywhere, not 90 points
    half = 1.96 * 2 * np.sqrt(2 / 9 / 30)
    assert found["high"] - found["low"] == pytest.approx(2 * half, rel=0.15)
    assert table.loc[(shift_tables.SILHOUETTE, "corruption - class"), "mean"] == pytest.approx(0.1)
    assert table.loc[(shift_tables.SILHOUETTE, "corruption"), "n"] == 90


def adapted() -> pd.DataFrame:
    def rows(method: str, *states: str) -> list[dict]:
        return [
            {"method": method, "state": s, "kind": kind, "factor": f, "share": 0.01,
             "low": 0.005, "high": 0.02, "n": 12}
            for s in ("before", *states)
            for kind in ("share", "change")[: 1 + (s != "before")]
            for f in ("corruption", "class")
        ]  # fmt: skip

    return pd.DataFrame(
        rows("standard", "after") + rows("online", "after", "end of stream"), index=None
    )


def test_states_are_named_once() -> None:
    found = shift_tables.states(adapted())
    names = ["before", "standard", "online, as met", "online, end of stream"]
    assert list(dict.fromkeys(found["shown"])) == names
    assert found.groupby("shown", sort=False).size().tolist() == [2, 4, 4, 4]


def verdicts(
    low: float, high: float, silhouette: float, without: pd.DataFrame | None = None
) -> pd.DataFrame:
    rows = [
        {
            "severity": s,
            "layer": layer,
            "factor": f,
            "share": 0.1,
            "low": low,
            "high": high,
            "n": 30,
        }
        for s, layer in ((1, "norm"), (5, "block 1"), (5, "norm"))
        for f in ("corruption", "class", "corruption - class")
    ]
    variance = pd.DataFrame(rows)
    variance.loc[variance["layer"] == "block 1", ["share", "low", "high"]] = 9
    variance.loc[variance["severity"] == 1, ["share", "low", "high"]] = -9
    change = pd.DataFrame(
        {"step": [5, 10], "difference": [9, silhouette], "low": [9, silhouette - 0.1],
         "high": [9, silhouette + 0.1], "n": [12, 12]}
    )  # fmt: skip
    read = shift_tables.reading(map_rows())
    found = shift_tables.dominance(variance, read, without)
    found.append(shift_tables.separation(change))
    found += shift_tables.changes(shift_tables.states(adapted()))
    return pd.DataFrame([vars(claim) for claim in found])


def test_verdicts_follow_the_intervals() -> None:
    table = verdicts(0.05, 0.2, -0.3)
    names = [shift_tables.DOMINATES] * 4 + [shift_tables.SEPARATE] * 4 + [shift_tables.RAISES] * 3
    assert table["claim"].tolist() == names
    assert table["verdict"].tolist() == [
        "supported", "contradicted", "supported", "supported", "contradicted", *["supported"] * 6,
    ]  # fmt: skip
    assert [m[-10:] for m in table["measure"][:2]] == ["severity 5", "severity 1"]
    assert table["n"].tolist() == [30] * 4 + [12] * 7
    assert table["estimate"].iloc[4] == -0.3 and "10 steps" in table["measure"].iloc[4]
    assert verdicts(-0.05, 0.2, 0.0)["verdict"].tolist()[:8:4] == ["undecided"] * 2
    assert verdicts(-0.2, -0.1, 0.3)["verdict"].tolist()[:8:4] == ["contradicted", "supported"]


def test_the_corruption_that_carries_the_share_is_left_out() -> None:
    without = pd.DataFrame(
        {"without": ["fog", "contrast", "fog"], "share": [0.2, 0.1, 0.0], "low": [0.1, -0.1, 0.0],
         "high": [0.3, 0.2, 0.0], "n": 30, "factor": ["corruption - class"] * 2 + ["class"]}
    )  # fmt: skip
    found = verdicts(0.05, 0.2, -0.3, without)
    row = found[found["measure"].str.contains("without")].iloc[0]
    assert (row["measure"][-16:], row["estimate"]) == ("without contrast", 0.1)
    assert row["claim"] == shift_tables.DOMINATES and row["verdict"] == "undecided"


def test_explained_are_the_two_components() -> None:
    rows = pd.DataFrame({"explained1": [0.5, 0.5], "explained2": [0.2, 0.2]})
    assert shift_tables.explained(rows) == [0.5, 0.2]


def test_the_corruption_that_matters_most_is_left_out_first() -> None:
    shares = {"corruption": (0.3, 0.1), "class": (0.1, 0.2), "corruption - class": (0.2, -0.1)}
    rows = pd.DataFrame(
        {"without": name, "factor": f, "share": values[i], "low": values[i] - 1, "high": 2}
        for i, name in enumerate(("fog", "contrast"))
        for f, values in shares.items()
    )
    table = shift_tables.left_out(rows)
    assert table["without"].tolist() == ["contrast", "fog"]
    assert list(table.columns)[1:] == ["corruption", "class", "corruption - class", "low", "high"]
    assert table.iloc[0, 1:].tolist() == pytest.approx([0.1, 0.2, -0.1, -1.1, 2])


def test_what_a_line_reads() -> None:
    told = shift_tables.of_reading(shift_tables.reading(map_rows()), 30)
    assert [c.estimate for c in told] == pytest.approx([1, 1 / 3, 2 / 3])
    assert [c.verdict for c in told] == ["supported", "undecided", "supported"]
    assert {c.n for c in told} == {30}


def test_shares_rise_with_severity_and_depth() -> None:
    values = {
        ("block 1", 1, "class"): 0.1, ("block 1", 5, "class"): 0.1, ("norm", 1, "class"): 0.3,
        ("norm", 5, "class"): 0.05, ("norm", 1, "corruption - class"): -0.2,
        ("norm", 5, "corruption - class"): 0.4, ("block 1", 5, "corruption - class"): 9,
        ("block 1", 1, "corruption - class"): 9,
    }  # fmt: skip
    rows = [
        {"layer": layer, "severity": s, "factor": f, "share": x, "low": x - 0.02, "high": x + 0.01,
         "n": 30}
        for (layer, s, f), x in values.items()
    ]  # fmt: skip
    severe, deep = shift_tables.along(pd.DataFrame(rows))
    assert severe.estimate == pytest.approx(0.6) and severe.verdict == "supported"
    assert (severe.low, severe.high) == pytest.approx((0.57, 0.63))
    assert deep.estimate == pytest.approx(-0.05) and deep.verdict == "contradicted"
    assert "severity 5 - 1" in severe.measure and "norm - block 1" in deep.measure
    assert not shift_tables.along(pd.DataFrame([r for r in rows if r["layer"] == "norm"][1::2]))
