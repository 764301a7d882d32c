"""The answers of notebook 06: each claim is on the rows that its words name, and on no others."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pytest

from tttlib.tables import accuracy_tables, task_tables


def answers(right: Sequence[Sequence[bool]], **columns: object) -> pd.DataFrame:
    """Rows of images (one for each inner sequence) whose answers after step 0, 1, … are given."""
    rows = [
        {"domain": "fog", "severity": 5, "id": i, "step": step, "correct": correct}
        for i, steps in enumerate(right)
        for step, correct in enumerate(steps)
    ]
    return pd.DataFrame(rows).assign(**columns)


def test_a_gain_over_all_corruptions_is_a_claim_for_each_method() -> None:
    mended = [answers([(False, True)] * 30, method=name, domain="fog") for name in "ab"]
    same = [answers([(True, True)] * 30, method=name, domain="snow") for name in "ab"]
    gained = accuracy_tables.gains_over_all(pd.concat(mended + same), "method")
    claims = task_tables.of_gains(gained)
    assert [claim.claim[0] for claim in claims] == ["a", "b"]
    assert {(claim.estimate, claim.n, claim.mended) for claim in claims} == {(0.5, 60, 30)}


def test_online_is_compared_on_the_images_of_standard_alone() -> None:
    online = answers([(False, True)] * 20 + [(True, False)] * 80, mode="online")
    standard = answers([(False, False, False)] * 20, mode="standard")
    (claim,) = task_tables.of_modes(pd.concat([online, standard]).assign(task="rotation"))
    assert (claim.estimate, claim.n, claim.verdict) == (1.0, 20, "supported")
    assert claim.claim.startswith("rotation: online")


def test_the_larger_rate_loses_more_from_the_first_to_the_last_step() -> None:
    calm = answers([(False, True, True, True)] * 12, lr=0.1)
    wild = answers([(False, True, True, i < 3) for i in range(12)], lr=0.3)
    (claim,) = task_tables.of_rates(pd.concat([calm, wild]))
    assert (claim.estimate, claim.verdict) == (-0.75, "supported")
    assert "from step 1 to step 3" in claim.claim
    assert task_tables.of_rates(calm) == []
    assert task_tables.of_rates(pd.concat([calm, wild]).query("step < 2")) == []


def test_a_choice_looks_better_where_it_was_made() -> None:
    chosen = pd.Series({"difference": 0.05, "low": 0.02, "high": 0.08, "n": 200})
    reported = pd.Series({"difference": 0.01, "low": -0.03, "high": 0.05, "n": 400})
    claim = task_tables.of_choice(chosen, reported)
    assert claim.estimate == pytest.approx(-0.04) and claim.n == 600
    # both half widths, 0.03 and 0.04, joined as root of their sum of squares
    assert (claim.low, claim.high) == pytest.approx((-0.09, 0.01))
    assert claim.verdict == "undecided" and claim.expected == "below"


def test_stopping_compares_the_best_step_with_none_and_with_the_last() -> None:
    gains, early = task_tables.of_stopping(answers([(False, True, False)] * 40), 1, 1)
    assert gains.claim == "AdamW gains with settings chosen on other corruptions"
    assert (gains.measure, early.measure) == ("at step 1 - before", "at step 1 - at step 2")
    assert gains.estimate == early.estimate == 1.0


def test_clean_and_corrupted_arrivals_are_told_apart() -> None:
    online = [answers([(True,)] * 10, method="online"), answers([(False,)] * 10, method="online")]
    source = [answers([(False,)] * 10, method="source"), answers([(False,)] * 10, method="source")]
    pairs = [
        part.assign(domain=d)
        for s in (online, source)
        for part, d in zip(s, ("clean", "fog"), strict=True)
    ]
    heldout = pd.DataFrame({"images": ["clean, held out"], "difference": 0.1, "n": 4})
    table = task_tables.by_share(
        pd.concat(pairs).assign(task="rotation", share=0.5),
        heldout.assign(task="rotation", share=0.5),
    )
    assert table["difference"].tolist() == [1.0, 0.1, 0.0] and table["n"].tolist() == [10, 4, 10]
    assert table["what"].tolist()[::2] == ["rotation: clean", "rotation: corrupted"]
    assert set(table["stream"]) == {"50 % clean"}


def test_only_clean_images_must_stay_as_they_are() -> None:
    rows = pd.DataFrame({"task": "rotation", "stream": "50 % clean"}, index=range(3))
    rows["images"] = ["corrupted", "clean", "clean, held out"]
    rows = rows.assign(difference=0.0, low=-0.01, high=0.01, n=900)
    claims = task_tables.of_clean_images(rows)
    assert [claim.claim.split(" images ", 1)[1] for claim in claims] == [
        "leaves clean arrivals as they are",
        "leaves held-out clean images as they are",
    ]
    assert {claim.verdict for claim in claims} == {"supported"}


def test_most_masks_are_compared_with_fewest_under_each_rule() -> None:
    def runs(rule: str, after: dict[int, bool]) -> list[pd.DataFrame]:
        return [
            answers([(False, right)] * 25, masks=masks, rule=rule) for masks, right in after.items()
        ]

    rows = runs(task_tables.SCALED, {1: False, 4: False, 8: True})
    rows += runs(task_tables.FIXED, {1: True, 4: True, 8: False})
    scaled, fixed = task_tables.of_masks(pd.concat(rows), 8)
    assert scaled.claim == "many masks beat many steps at equal compute"
    assert (scaled.estimate, scaled.verdict) == (1.0, "supported")
    assert (fixed.estimate, fixed.expected, fixed.verdict) == (-1.0, "below", "supported")
    assert scaled.measure == "8 masks - 1, masks x steps = 8"
