"""Summaries respect what makes rows dependent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tttlib import results


# Two methods on two domains, 400 images each; the same images, so errors are shared.
@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    hard = np.tile(rng.random(400), 2)
    base = pd.DataFrame(
        {
            "domain": np.repeat(["contrast", "fog"], 400),
            "id": np.tile(np.arange(400), 2),
            "photograph": np.tile(np.arange(400) % 12, 2),
        }
    )
    better = base.assign(method="ttt", correct=hard < 0.56)
    return pd.concat([base.assign(method="source", correct=hard < 0.5), better])


def test_summary_holds_each_group_with_its_interval(runs: pd.DataFrame) -> None:
    table = results.summarise(runs, ["domain", "method"])
    assert table.columns.tolist() == ["domain", "method", "n", "mean", "low", "high"]
    assert table["n"].tolist() == [400] * 4
    source = table[table["method"] == "source"].iloc[0]
    truth = runs[(runs["method"] == "source") & (runs["domain"] == "contrast")]["correct"].mean()
    assert source["mean"] == pytest.approx(truth)
    half = 1.96 * np.sqrt(truth * (1 - truth) / 400)
    assert source["high"] - source["low"] == pytest.approx(2 * half, rel=0.1)


def test_images_seen_in_two_domains_are_not_counted_as_independent(runs: pd.DataFrame) -> None:
    source = runs[runs["method"] == "source"]
    both = results.summarise(source, "method").iloc[0]  # the two domains are copies
    one = results.summarise(source, "domain").iloc[0]
    assert both["n"] == 800
    assert both["high"] - both["low"] == pytest.approx(one["high"] - one["low"], rel=0.1)


def test_named_clusters_widen_the_interval(runs: pd.DataFrame) -> None:
    dependent = runs.assign(correct=runs["photograph"] % 2 == 0)
    plain = results.summarise(dependent, "method").iloc[0]
    clustered = results.summarise(dependent, "method", clusters=["photograph"]).iloc[0]
    assert clustered["high"] - clustered["low"] > 3 * (plain["high"] - plain["low"])


def test_paired_difference_matches_images_in_any_order(runs: pd.DataFrame) -> None:
    shuffled = runs.sample(frac=1, random_state=1)
    table = results.paired_difference(
        shuffled, "domain", method_column="method", baseline="source"
    ).sort_values("domain")
    wide = runs.pivot(index=["domain", "id"], columns="method", values="correct").astype(float)
    want = (wide["ttt"] - wide["source"]).groupby("domain").mean()
    assert table["difference"].to_numpy() == pytest.approx(want.to_numpy())
    assert table["method"].tolist() == ["ttt", "ttt"]
    assert (table["low"] > 0).all()
    assert (table["n"] == 400).all()
    overall = results.paired_difference(runs, method_column="method", baseline="source").iloc[0]
    assert overall["n"] == 800
    assert overall["difference"] == pytest.approx(want.mean())
    # the copy in the second domain adds rows, not knowledge
    assert overall["high"] - overall["low"] == pytest.approx(
        table.iloc[0]["high"] - table.iloc[0]["low"], rel=0.12
    )


def test_paired_difference_refuses_unequal_images(runs: pd.DataFrame) -> None:
    options: dict[str, Any] = {"method_column": "method", "baseline": "source"}
    lacking = runs[~((runs["method"] == "ttt") & (runs["id"] == 7))]
    with pytest.raises(ValueError, match=r"same images: 2 of 800 .*domain=contrast, id=7"):
        results.paired_difference(lacking, **options)
    with pytest.raises(ValueError, match="more than once"):
        results.paired_difference(runs, match=["id"], **options)
    with pytest.raises(ValueError, match=r"no baseline method = 'tent'.*'source', 'ttt'"):
        results.paired_difference(runs, method_column="method", baseline="tent")
    with pytest.raises(ValueError, match="no column 'step'"):
        results.summarise(runs, "step")


def test_calibration_error_of_groups_and_its_paired_difference(runs: pd.DataFrame) -> None:
    sure = runs.assign(confidence=np.where(runs["method"] == "ttt", 0.6, 0.9))
    table = results.summarise(sure, "method", value="ece").set_index("method")
    accuracy = sure.groupby("method")["correct"].mean()
    assert table.loc["source", "mean"] == pytest.approx(0.9 - accuracy["source"])
    assert table.loc["ttt", "mean"] == pytest.approx(abs(0.6 - accuracy["ttt"]))
    assert (table["low"] < table["mean"]).all() and (table["n"] == 800).all()
    how: dict[str, Any] = {"method_column": "method", "baseline": "source", "value": "ece"}
    change = results.paired_difference(sure, **how).iloc[0]
    assert change["difference"] == pytest.approx(
        table.loc["ttt", "mean"] - table.loc["source", "mean"]
    )
    assert change["low"] < change["difference"] < change["high"] < 0 and change["n"] == 800
    swapped = results.paired_difference(sure.sample(frac=1, random_state=0), **how).iloc[0]
    assert swapped["difference"] == pytest.approx(change["difference"])


def test_rows_of_earlier_versions_have_no_calibration(runs: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no column 'confidence' in the rows"):
        results.summarise(runs, "method", value="ece")
    joined = runs.assign(confidence=np.where(runs["id"] < 9, np.nan, 0.5))
    with pytest.raises(ValueError, match="rows of an earlier version have no confidence"):
        results.summarise(joined, "method", value="ece")
    assert len(results.summarise(joined, "method")) == 2
