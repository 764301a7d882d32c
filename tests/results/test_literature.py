"""Published tables are the papers', and stand beside our own numbers."""

from __future__ import annotations

import pytest
from ttt_units import Keep

from tttlib import corruptions, results


def test_published_table_is_the_reports() -> None:
    table = results.published("ttt_mae_report")
    named = "source citation method domain severity metric value protocol"
    assert table.columns.tolist() == named.split()
    assert not table.isna().any().any()
    accuracy = table[table["metric"] == "accuracy"]
    main = accuracy.pivot(index="method", columns="domain", values="value")
    order = ["gaussian_noise", "motion_blur", "zoom_blur", "contrast", "pixelate"]
    assert main.loc["Baseline", order].tolist() == [17.4, 32.2, 32.2, 6.4, 49.7]
    assert main.loc["TTT-MAE [batch 128]", order].tolist() == [25.1, 39.5, 42.9, 9.2, 59.9]
    assert main.loc["TTT-MAE [batch 8]", order].tolist() == [17.3, 33.5, 34.2, 7.0, 51.4]
    assert set(table[table["method"] == "TTT-MAE [batch 128]"]["source"]) == {"original paper"}
    with pytest.raises(ValueError, match=r"unknown .*'x'; known are .*ttt_mae_report"):
        results.published("x")


def test_published_means_are_the_means_of_the_published_corruptions() -> None:
    table = results.published("palm")
    table = table[table["setting"] == "continual"]
    single, mean = table[table["domain"] != "mean"], table[table["domain"] == "mean"]
    counts = single.groupby(["dataset", "method"])["value"].agg(["size", "mean"])
    assert (counts["size"] == 15).all() and len(counts) == 28
    stated = mean.set_index(["dataset", "method"])["value"].reindex(counts.index)
    assert (counts["mean"] - stated).abs().max() < 0.1  # rounding to one digit, and their own
    assert set(single["domain"]) == set(corruptions.NAMES)


def test_published_numbers_stand_beside(keep: Keep) -> None:
    folder = keep(domain="contrast", method="palm", stream="continual")
    (summary,) = results.tabulate([folder], where={"step": "last"})
    with pytest.raises(ValueError, match=r"dataset is cifar10-c.*--published-where dataset="):
        results.beside_published(summary.table.assign(domain="contrast"), "palm", summary.fixed)
    where = {"dataset": "cifar10-c", "setting": "continual"}
    table = summary.table.assign(domain="contrast")
    found = results.beside_published(table, "palm", summary.fixed, where).iloc[0]
    theirs = results.published("palm").query(
        "dataset == 'cifar10-c' and setting == 'continual' and name == 'palm' "
        "and domain == 'contrast'"
    )
    assert found["published"] == pytest.approx(100 - theirs["value"].item())
    assert found["mean"] == 100 and found["difference"] == 100 - found["published"]
