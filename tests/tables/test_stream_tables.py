"""Side by side on one stream: the right rows are kept, compared and averaged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tttlib.tables import stream_tables


def online_rows(correct: list[int], seed: int = 0) -> pd.DataFrame:
    n = len(correct)
    seen = pd.DataFrame(
        {
            "part": "stream",
            "position": range(n),
            "id": range(n),
            "domain": "fog",
            "severity": 5.0,
            "step": 1,
            "seed": seed,
            "correct": np.array(correct, dtype=bool),
        }
    )
    looked = seen.assign(part="held-out", step=0, correct=False)
    return pd.concat([seen.assign(step=0, correct=False), seen, looked])


def test_arrivals_keep_the_last_prediction_of_the_stream() -> None:
    rows = stream_tables.arrivals(online_rows([1, 0, 1]), "online")
    assert rows["correct"].tolist() == [True, False, True]
    assert set(rows["method"]) == {"online"} and set(rows["part"]) == {"stream"}


def test_on_pairs_keeps_what_the_other_saw() -> None:
    rows = stream_tables.arrivals(online_rows([1, 0, 1, 1]), "online")
    wanted = rows[rows["id"].isin([1, 3])].drop(columns="correct")
    assert stream_tables.on_pairs(rows, wanted)["id"].tolist() == [1, 3]
    with pytest.raises(ValueError, match="1 of 2 pairs"):
        stream_tables.on_pairs(rows[rows["id"] != 3], wanted)


def test_pairs_of_another_seed_are_other_pairs() -> None:
    rows = stream_tables.arrivals(online_rows([1, 0]), "online")
    other = stream_tables.arrivals(online_rows([1, 0], seed=1), "online")
    with pytest.raises(ValueError, match="2 of 2 pairs"):
        stream_tables.on_pairs(rows, other)


def test_moving_averages_follow_the_positions() -> None:
    rows = stream_tables.arrivals(online_rows([1, 1, 0, 0, 1]), "online")
    table = stream_tables.moving_averages(rows.sample(frac=1, random_state=0), 2)
    assert table["position"].tolist() == [1, 2, 3, 4]
    assert table["mean"].tolist() == [1.0, 0.5, 0.0, 0.5]
    assert set(table["method"]) == {"online"}


def test_fluctuations_of_a_method_that_drifts() -> None:
    random = np.random.default_rng(0)
    fixed = random.random(400) < 0.7
    lost = np.arange(400) > 200
    adapted = fixed & ~(lost & (random.random(400) < 0.6))
    a = stream_tables.arrivals(online_rows(list(adapted.astype(int))), "online")
    b = stream_tables.arrivals(online_rows(list(fixed.astype(int))), "source")
    table = stream_tables.fluctuations(a, b.sample(frac=1, random_state=1), 40)
    table = table.set_index("sequence")
    assert table.loc["adapted - source", "p"] < 0.01
    assert table.loc["adapted - source", "low"] > 1
    assert table.loc["source", "p"] > 0.05
    same = stream_tables.fluctuations(b, b, 40).set_index("sequence")
    assert same.loc["adapted - source", ["ratio", "low", "high", "p"]].isna().all()
    assert same.loc["adapted", "ratio"] == same.loc["source", "ratio"] > 0
    with pytest.raises(ValueError, match="same arrivals"):
        stream_tables.fluctuations(a, b.iloc[1:], 40)


def test_mean_over_orders_is_one_row_a_pair() -> None:
    a = stream_tables.arrivals(online_rows([1, 0]), "online").assign(order="a")
    b = stream_tables.arrivals(online_rows([1, 1]), "online").assign(order="b", position=[1, 0])
    table = stream_tables.mean_over(pd.concat([a, b]), "order")
    assert table.sort_values("id")["correct"].tolist() == [1.0, 0.5]


def test_heldout_change_is_end_minus_start() -> None:
    def held(position: int, domain: str, correct: list[int]) -> pd.DataFrame:
        rows = online_rows(correct).query("part == 'stream' and step == 1")
        return rows.assign(part="held-out", position=position, domain=domain)

    rows = pd.concat(
        [
            online_rows([1, 1, 1, 1]).query("part == 'stream'"),
            held(0, "fog", [0, 0, 1, 0]),
            held(2, "fog", [0, 0, 0, 0]),
            held(4, "fog", [1, 1, 1, 0]),
            held(0, "clean", [1, 1, 1, 1]),
            held(4, "clean", [1, 1, 0, 0]),
        ]
    )
    table = stream_tables.heldout_change(rows).set_index("images")
    assert table.loc["corrupted", ["n", "difference"]].tolist() == [4, 0.5]
    assert table.loc["clean", ["n", "difference"]].tolist() == [4, -0.5]
    with pytest.raises(ValueError, match="no held-out rows"):
        stream_tables.heldout_change(rows[rows["part"] == "stream"])


def streams_of_rows(*answers: list[int]) -> pd.DataFrame:
    parts = [online_rows(a).assign(stream=f"stream {i}") for i, a in enumerate(answers)]
    return pd.concat(parts, ignore_index=True)


def test_side_by_side_has_what_all_have_seen() -> None:
    online = stream_tables.arrivals(online_rows([1, 1, 0, 1]), "online")
    source = online.assign(method="", correct=False)
    few = online[online["id"].isin([0, 2])]
    standard = pd.concat([few.assign(step=k, correct=bool(k)) for k in (0, 1, 5)])
    table = stream_tables.side_by_side(source, standard, online)
    counts = table.groupby("method", sort=False)["correct"].agg(["size", "sum"])
    assert counts.index.tolist() == ["source", "standard, 1", "standard, 5", "online"]
    assert counts["size"].tolist() == [2] * 4 and counts["sum"].tolist() == [0, 2, 2, 1]


def test_names_of_streams_are_split() -> None:
    rows = pd.DataFrame({"stream": ["levels, rising", "levels, shuffled"], "method": "online"})
    split = stream_tables.split_names(pd.concat([rows, rows.assign(method="source")]))
    assert split["stream"].tolist() == ["levels"] * 4
    assert split["method"].tolist() == ["rising", "shuffled", "source", "source"]


def test_accuracies_on_arrivals_and_of_the_last_weights() -> None:
    rows = streams_of_rows([1, 0, 1, 1], [1, 1]).assign(method="online")
    held = rows["part"] == "held-out"
    rows.loc[held & rows["position"].isin([1, 3]), "correct"] = True  # the last of each stream
    rows.loc[held & (rows["id"] == 0), "domain"] = "clean"
    assert stream_tables.heldout_at_end(rows)["position"].tolist() == [3, 1]
    table = stream_tables.accuracies(stream_tables.arrivals(rows, "online"), rows, ["method"])
    assert table["images"].tolist() == ["arrivals", "held-out"]
    assert table["n"].tolist() == [6, 2] and table["mean"].tolist() == pytest.approx([5 / 6, 1.0])


def test_fluctuations_of_several_streams() -> None:
    random = np.random.default_rng(0)
    answers = random.integers(0, 2, (3, 40)).tolist()
    rows = stream_tables.arrivals(streams_of_rows(*answers), "online")
    source = rows.assign(correct=rows["correct"].where(rows["stream"] == "stream 2", False))
    table = stream_tables.fluctuations_of_streams(rows, source, 20)
    assert len(table) == 9 and set(table["window"]) == {10}
    one = stream_tables.fluctuations(*(t[t["stream"] == "stream 1"] for t in (rows, source)), 10)
    pd.testing.assert_frame_equal(table.iloc[3:6][one.columns].reset_index(drop=True), one)
    means = stream_tables.mean_ratios(table, ["sequence"]).set_index("sequence")
    assert means["n"].to_dict() == {"adapted": 3, "adapted - source": 2, "source": 1}
    known = table[table["sequence"] == "adapted"]["ratio"].mean()
    assert means.loc["adapted", "mean"] == pytest.approx(known)
