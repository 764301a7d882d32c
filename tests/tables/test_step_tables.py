"""What the steps of notebook 02 are said to do follows from the rows."""

import numpy as np
import pandas as pd
import pytest

from tttlib import statistics
from tttlib.tables import step_tables


def tried() -> pd.DataFrame:
    rows = [(0.1, -0.05, -0.09, -0.02, 2, 12), (0.001, 0.0, -0.004, 0.004, 0, 0),
            (0.01, 0.04, 0.02, 0.06, 9, 1)]  # fmt: skip
    columns = ["lr", "difference", "low", "high", "mended", "broken"]
    return pd.DataFrame(rows, columns=columns).assign(model="mae", n=200)


def test_smallest_chosen_and_largest_step():
    told = step_tables.of_steps(tried(), {"mae": 0.01})
    assert [c.verdict for c in told] == ["supported"] * 3
    assert [c.measure.split(" rate ")[1].split(":")[0] for c in told] == ["0.001", "0.01", "0.1"]
    assert [c.estimate for c in told] == [0.0, 0.04, -0.05]


def test_what_images_can_decide_follows_the_share_of_changed_answers():
    table = step_tables.decidable(tried(), "model", {"mae": 0.01}, {"mae": 500})
    (row,) = table.to_dict("records")
    assert row["answers changed"] == 0.05 and row["images here"] == 500
    assert row["images for a margin of 1 point"] == statistics.images_needed(0.01, 0.05).images
    assert row["smallest effect they tell"] == statistics.smallest_margin(500, 0.05)
    still = step_tables.decidable(tried(), "model", {"mae": 0.001}, {"mae": 500})
    assert still["answers changed"].item() == step_tables.RARELY


def test_a_choice_may_be_named_by_two_columns():
    both = pd.concat(
        [tried().assign(mode=mode, n=n) for mode, n in {"online": 100, "reset": 400}.items()]
    )
    rates = {("mae", "online"): 0.01, ("mae", "reset"): 0.1}
    table = step_tables.decidable(both, ["model", "mode"], rates, dict.fromkeys(rates, 50))
    assert table["mode"].tolist() == ["online", "reset"]
    assert table["answers changed"].tolist() == [0.1, 14 / 400]


def losses() -> pd.DataFrame:
    """Twenty images, three updates; the last loss is 0.1 below the first one, a tenth of it."""
    rng = np.random.default_rng(0)
    rows = [
        {"model": "mae", "domain": d, "id": i, "step": k, "loss": value}
        for d in ("clean", "fog")
        for i in range(20)
        for k, value in enumerate((1.0, 5.0, 0.9 + rng.normal(0, 0.01), float("nan")))
    ]
    return pd.DataFrame(rows)


def test_the_loss_before_the_last_update_is_compared_with_the_first():
    table = step_tables.loss_change(losses(), ["model", "domain"])
    assert table["n"].tolist() == [20, 20] and (table["when"] == "last").all()
    assert table["difference"].to_numpy() == pytest.approx(-0.1, abs=0.01)


def test_the_fall_of_the_loss_is_a_share_of_the_first():
    double = losses().assign(loss=lambda t: 2 * t["loss"])
    for rows in (losses(), double):
        (claim,) = step_tables.of_losses(rows)
        assert claim.verdict == "supported" and claim.expected == "below"
        assert claim.estimate == pytest.approx(-0.1, abs=0.01)


def test_cosines_below_a_tenth_are_none():
    rows = {"model": ["mae", "rot"], "mean": [0.02, 0.3], "low": [-0.01, 0.2], "high": [0.05, 0.4]}
    told = step_tables.of_cosines(pd.DataFrame(rows).assign(n=96))
    assert [c.verdict for c in told] == ["negligible", "supported"]
