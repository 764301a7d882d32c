"""The papers' tables of errors, on rows whose means are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tttlib import corruptions, data, statistics, streams
from tttlib.tables import adaptation_tables as tables


def rows(method: str, error: dict[str, float], n: int = 40) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "method": method,
                "block": block,
                "domain": domain,
                "severity": 5.0,
                "id": range(n),
                "correct": np.arange(n) >= share * n,
            }
        )
        for block, (domain, share) in enumerate(error.items())
    ]
    return tables.with_error(pd.concat(parts))


def test_error_table_has_a_column_per_corruption_and_leaves_clean_out() -> None:
    table = tables.error_table(
        pd.concat(
            [
                rows("source", {"fog": 0.5, "contrast": 0.25, "clean": 0.0}),
                rows("palm", {"fog": 0.25, "contrast": 0.25, "clean": 1.0}),
            ]
        )
    ).set_index("method")
    assert list(table.columns) == ["fog", "contr", "mean", "low", "high", "n"]
    assert table.loc["source", ["fog", "contr", "mean"]].tolist() == [50.0, 25.0, 37.5]
    assert table.loc["palm", "mean"] == 25.0 and table.loc["palm", "n"] == 80
    assert table.loc["source", "low"] < 37.5 < table.loc["source", "high"]


def test_against_is_paired() -> None:
    both = pd.concat([rows("source", {"fog": 0.5}), rows("palm", {"fog": 0.25})])
    found = tables.against(both, "source").iloc[0]
    assert found["method"] == "palm" and found["difference"] == -0.25 and found["high"] < 0


def test_measures_stand_below_each_other() -> None:
    both = pd.concat([rows("source", {"fog": 0.5, "clean": 1}), rows("palm", {"fog": 0.25})])
    both = both.assign(confidence=0.9, nll=np.where(both["correct"], 0.5, 2.5), brier=0.2)
    table = tables.measures_table(both).set_index(["method", "measure"])
    assert table.loc["source", "mean"].to_dict() == pytest.approx(
        {"error": 0.5, "ece": 0.4, "nll": 1.5, "brier": 0.2}
    )
    assert (table["n"] == 40).all() and table.loc[("palm", "ece"), "mean"] == pytest.approx(0.15)
    corrupted = both[both["domain"] != "clean"]
    change = {v: tables.against(corrupted, "source", value=v).iloc[0] for v in tables.MEASURES}
    assert change["nll"]["difference"] == -0.5 and change["nll"]["high"] < 0
    assert change["ece"]["difference"] == pytest.approx(-0.25)


def test_accumulation_is_not_being_worse() -> None:
    domains = ["fog", "snow", "frost", "brightness", "contrast", "pixelate", "clean"]
    fixed = rows("bn1", dict.fromkeys(domains, 0.25))
    worse = rows("tent", dict.fromkeys(domains, 0.5))
    growing = rows("tent", dict(zip(domains, [0.25, 0.25, 0.3, 0.3, 0.5, 0.5, 1], strict=True)))
    found = tables.accumulation(pd.concat([fixed, worse]), "tent", "bn1")
    assert found["difference"] == 0 and found["n"] == 40
    found = tables.accumulation(pd.concat([fixed, growing]), "tent", "bn1")
    assert found["difference"] == pytest.approx(0.25) and found["low"] > 0
    back = tables.accumulation(pd.concat([fixed, growing]), "bn1", "tent")
    assert back["difference"] == pytest.approx(-0.25) and back["high"] < 0


def test_accumulation_over_other_images_in_every_block() -> None:
    domains = ["fog", "snow", "frost", "brightness", "contrast", "pixelate", "clean"]
    fixed = rows("bn1", dict.fromkeys(domains, 0.25), n=200)
    growing = dict(zip(domains, [0.25, 0.25, 0.3, 0.3, 0.5, 0.5, 1], strict=True))
    both = pd.concat([fixed, rows("tent", growing, n=200)])
    both = both.assign(id=200 * both["block"] + both["id"])
    found = tables.accumulation(both, "tent", "bn1")
    assert found["difference"] == pytest.approx(0.25) and found["n"] == 800
    assert 0.15 < found["low"] < 0.25 < found["high"] < 0.35
    flat = tables.accumulation(both.assign(error=0.0), "tent", "bn1")
    assert flat["difference"] == 0 and flat["low"] < 0 < flat["high"]  # as wide as n allows


def test_thirds_of_a_stream_are_five_blocks_each() -> None:
    late = dict.fromkeys(corruptions.NAMES[10:], 0.5)
    errors = dict.fromkeys([*corruptions.NAMES, streams.CLEAN], 0.0)
    both = pd.concat([rows("tent", errors | late), rows("bn1", errors), rows("palm", errors)])
    table = tables.by_thirds(both, "tent", "bn1").set_index("place")
    assert table["difference"].to_dict() == {"1-5": 0.0, "6-10": 0.0, "11-15": 0.5}
    assert table["method"].unique().tolist() == ["tent"] and set(table["n"]) == {200}


def test_power_tells_more_with_more_arrivals() -> None:
    differences = tables.against(
        pd.concat([rows("palm", {"fog": 0.25}), rows("bn1", {"fog": 0.5})]), "palm"
    )
    (few,), (many,) = (tables.power(differences, n)["told"] for n in (100, 10_000))
    table = tables.power(differences, 100)
    assert table[["method", "n", "disagree"]].to_numpy().tolist() == [["bn1", 40, 25.0]]
    assert few == round(100 * statistics.smallest_margin(100, 0.25), 1) > many > 0


def test_gradual_averages() -> None:
    stream = streams.gradual(data.load("scenes", "test", n=4), ["fog", "snow"], batch_size=4)
    seen = stream.rows()
    # right at severities up to 3, wrong above; on the way down always wrong
    up = streams.rising(seen)
    seen = tables.with_error(seen.assign(method="m", correct=up & (seen["severity"] <= 3)))
    table = tables.gradual_table(seen).iloc[0]
    assert table["severity 5, mean"] == 100.0
    assert table["rising, mean"] == 40.0
    assert table["all, mean"] == pytest.approx(100 * 6 / 9, abs=0.1)


def test_published_numbers_are_found_by_our_names() -> None:
    assert tables.published_errors("cifar10-c")["palm"] == 15.5
    assert tables.published_errors("imagenet-c", setting="gradual")["cotta"] == 38.8
    assert len({tables.short(name) for name in corruptions.NAMES}) == 15


def test_by_constant() -> None:
    names = ["temperature 0.5", "alpha 1", "temperature 1e+03", "eta x 10", "lars"]
    ablation = pd.DataFrame({"method": names, "difference": [0.1, 0.2, 0.3, 0.4, 0.5]})
    ablation = ablation.assign(low=-1.0, high=1.0)
    table = tables.by_constant(ablation, {"temperature": 50, "alpha": 0.5, "lambda": 0})
    assert list(table["constant"]) == [
        "temperature",
        "alpha",
        "temperature",
        "temperature",
        "alpha",
    ]
    assert list(table["value"]) == [0.5, 1, 1000, 50, 0.5]
    assert list(table["low"].isna()) == [False] * 3 + [True] * 2
    assert list(table["difference"]) == [0.1, 0.2, 0.3, 0, 0]


def test_another_setting_is_used_only_if_it_is_better_beyond_chance() -> None:
    few = pd.concat([rows("paper's", {"fog": 0.5}), rows("luck", {"fog": 0.475})])
    best, table = tables.best_beyond_chance(few)
    assert best == "paper's" and table["used"].tolist() == [True, False]
    assert table["setting"].tolist() == ["paper's", "luck"]
    assert table["error, %"].tolist() == [50.0, 47.5]
    clearly = pd.concat([rows("paper's", {"fog": 0.5}), rows("better", {"fog": 0.1})])
    assert tables.best_beyond_chance(clearly)[0] == "better"
