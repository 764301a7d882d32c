"""Tables for readers: the arithmetic of the replication table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tttlib.tables import accuracy_tables


def rows(gain: float = 0.25, n: int = 40) -> pd.DataFrame:
    """n images, two domains, steps 0 to 2; half right before, `gain` more of them after step 2."""
    records = []
    for domain in ("clean", "zoom_blur"):
        for i in range(n):
            after = i < n * (0.5 + (gain if domain == "zoom_blur" else 0))
            for step, correct in enumerate((i < n / 2, i < n / 2, after)):
                records.append(
                    {"model": "m", "domain": domain, "id": i, "step": step, "correct": correct}
                )
    return pd.DataFrame(records)


def test_gains_are_paired_differences_from_step_zero() -> None:
    found = accuracy_tables.gains_by(rows(), ["model", "domain"]).set_index("domain")
    assert found.loc["clean", "difference"] == 0
    blur = found.loc["zoom_blur"]
    assert (blur["baseline"], blur["accuracy"], blur["difference"]) == (0.5, 0.75, 0.25)
    assert blur["low"] < 0.25 < blur["high"] and blur["low"] > 0
    assert (found["n"] == 40).all() and (found["step"] == 2).all()


def test_an_earlier_step_can_be_asked_for() -> None:
    assert (accuracy_tables.gains_by(rows(), "domain", step=1)["difference"] == 0).all()


def test_each_domain_is_left_out_in_turn_and_none_is() -> None:
    whole = accuracy_tables.gains_over_all(rows(), "model").set_index("domain")
    assert list(whole.index) == ["clean", "zoom_blur", accuracy_tables.ALL]
    assert whole["difference"].tolist() == [0, 0.25, 0.125]
    assert whole["n"].tolist() == [40, 40, 80]
    without = accuracy_tables.leave_one_out(rows(), "model").set_index("without")
    assert without["difference"].to_dict() == {"clean": 0.25, "zoom_blur": 0}


def test_replication_table_stands_beside_the_published_numbers() -> None:
    table = accuracy_tables.replication(rows()).set_index("domain")
    assert list(table.index) == ["clean", "zoom blur", "mean of corruptions"]
    assert table.loc["zoom blur", "after TTT"] == 75.0
    assert table.loc["zoom blur", "report baseline"] == 32.2
    assert table.loc["zoom blur", "paper TTT, batch 128"] == 42.9
    assert np.isnan(table.loc["clean", "report baseline"])
    # the mean leaves the clean images out
    assert table.loc["mean of corruptions", "gain [95 % interval]"].startswith("+25.0 [")


def test_models_keep_their_order() -> None:
    both = pd.concat([rows().assign(model="z"), rows().assign(model="a")])
    assert list(dict.fromkeys(accuracy_tables.replication(both)["model"])) == ["z", "a"]


def test_verdicts_count_intervals_by_their_side_of_zero() -> None:
    found = pd.DataFrame({"low": [0.1, -0.2, -0.1], "high": [0.2, -0.1, 0.1]})
    assert accuracy_tables.verdicts(found) == {
        "significant gain": 1,
        "significant harm": 1,
        "no significant change": 1,
    }


@pytest.mark.parametrize(("middle", "text"), [(0.012, "+1.2"), (-0.012, "-1.2")])
def test_interval_is_printed_in_points(middle: float, text: str) -> None:
    assert accuracy_tables.interval(middle, -0.031, 0.027) == f"{text} [-3.1, +2.7]"


def test_after_peak_finds_a_fall_and_no_fall_in_noise() -> None:
    random = np.random.default_rng(0)
    steps, n = 21, 400
    chance = 0.5 + 0.2 * np.sin(
        np.linspace(0, np.pi, steps)
    )  # best at step 10, as at first at last
    right = random.random(n)[:, None] < chance
    falling = pd.DataFrame(
        {
            "domain": "fog",
            "id": np.repeat(np.arange(n), steps),
            "step": np.tile(np.arange(steps), n),
            "correct": right.ravel(),
        }
    )
    found = accuracy_tables.after_peak(falling).iloc[0]
    assert found["high"] < -0.1 and found["n"] == n
    noise = falling.assign(correct=random.random(len(falling)) < 0.5)
    best = noise.groupby("step")["correct"].mean()
    assert best.max() - best.iloc[-1] > 0.02  # what a naive peak would call a fall
    found = accuracy_tables.after_peak(noise).iloc[0]
    assert found["low"] < 0 < found["high"]
