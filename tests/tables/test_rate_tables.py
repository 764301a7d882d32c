"""PALM's decisions by tensor, on diagnostics whose answers are known."""

from __future__ import annotations

import pandas as pd
import pytest

from tttlib.tables import rate_tables as tables


def test_stages_and_zeros() -> None:
    table = tables.by_stage(
        pd.DataFrame(
            {
                "domain": "snow",
                "name": ["importance"] * 4 + ["loss"],
                "tensor": ["conv1.weight", "block1.a", "block1.b", "block1.c", ""],
                "value": [1.0, 0.5, 0.0, 1.0, 9.0],
            }
        )
    ).set_index("stage")
    assert table.loc["block1", ["tensors", "mean", "zeros"]].tolist() == [3, 0.5, 1 / 3]
    assert table.loc["conv1", "zeros"] == 0


def test_what_is_selected_and_how_often_that_changes() -> None:
    chosen = {("small", "fog"): 1.0, ("small", "snow"): 1.0}  # always
    chosen |= {("large", "fog"): 0.0, ("large", "snow"): 0.5}  # in half of the snow
    rows = [
        {"domain": domain, "name": name, "tensor": f"block1.{tensor}", "value": value * factor}
        for (tensor, domain), value in chosen.items()
        for name, factor in (("selected", 1.0), ("score", 3.0), ("lr", 9.0))
    ]
    found = tables.selection(pd.DataFrame(rows), {"block1.small": 16, "block1.large": 4608})
    assert found["stage"].unique().tolist() == ["block1"]
    assert found[["elements", "score", "selected"]].to_numpy().tolist() == [
        [16, 3.0, 1.0],
        [4608, 0.75, 0.25],
    ]
    assert tables.changed_decisions(pd.DataFrame(rows)).to_dict() == {"fog": 0.0, "snow": 0.25}


def test_each_stream_is_one_value() -> None:
    facts = [(f"block{stage}.{n}", "importance", 1.0 / stage if n else 0.0)
             for stage in (1, 2) for n in range(3)]  # fmt: skip
    facts += [("block1.a", "selected", 0.75), ("", "share_selected", 0.2)]
    one = pd.DataFrame(facts, columns=["tensor", "name", "value"]).assign(domain="fog")
    table = tables.of_each_stream([one, one.assign(value=2 * one["value"])])
    first, second = table.to_dict("records")
    assert first == pytest.approx(
        {"importance": 2 / 3 - 1 / 3, "resting": 0, "changed": 0.25, "selected": 0.2}
    )
    assert second["importance"] == pytest.approx(2 / 3) and second["selected"] == 0.4


def test_stage_contrast_takes_the_numbered_stages() -> None:
    stages = pd.DataFrame(
        {
            "domain": "fog",
            "stage": ["conv1", "block1", "block2", "block3", "bn1"],
            "tensors": [1, 9, 9, 9, 2],
            "mean": [9.0, 5.0, 4.0, 2.0, 0.0],
        }
    )
    assert tables.stage_contrast(stages, "mean").to_dict() == {"fog": 3.0}


def test_rate_changes_are_of_the_last_block_against_the_first() -> None:
    values = {("a", 0): 1.0, ("a", 1): 7.0, ("a", 2): 0.5, ("b", 0): 2.0, ("b", 1): 1.0}
    values[("b", 2)] = 2.0
    diagnostics = pd.DataFrame(
        [
            {"method": m, "name": "rates", "tensor": layer, "block": block, "value": value}
            for (layer, block), value in values.items()
            for m in ("autolr", "another")
        ]
    )
    found = tables.rate_changes(diagnostics)
    pieces = pd.concat([diagnostics, diagnostics.assign(value=diagnostics["value"] * 3)])
    again = tables.rate_changes(pieces)  # a long block is several units: their mean
    assert again["change"].tolist() == found["change"].tolist()
    assert again["rate"].tolist() == [2 * rate for rate in found["rate"]]
    found = found.pivot(index="layer", columns="block", values="change")
    assert found.loc["a"].to_dict() == {1: 6.0, 2: 0.5} and found.loc["b"].to_dict() == {
        1: 0.5,
        2: 0,
    }
