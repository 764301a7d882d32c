"""The statements on online test-time training follow from rows, one network after the other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tttlib.tables import online_claims

PAIRING = {"match": ("domain", "id"), "clusters": ()}
N = 2000


def answers(network: str, **right: float) -> pd.DataFrame:
    """N answers of each method, of which it has the first share `right` right."""
    return pd.concat(
        pd.DataFrame(
            {"network": network, "method": method, "domain": "fog", "id": np.arange(N),
             "severity": 5, "seed": 0, "correct": np.arange(N) < share * N}
        )
        for method, share in right.items()
    )  # fmt: skip


def test_separate_streams_are_compared_with_none_with_standard_and_along_the_stream():
    many = pd.concat(
        [answers("a", **{"standard, 5": 0.5, "standard, 1": 0.1, "online": 0.6}),
         answers("b", **{"standard, 5": 0.6, "standard, 1": 0.1, "online": 0.5})]
    )  # fmt: skip
    gained = {"difference": 0.1, "low": 0.05, "high": 0.15, "n": 9, "domain": "all"}
    whole = pd.DataFrame([{"network": name, **gained} for name in "ab"])
    held = pd.concat(
        answers("a", x=share).assign(part="held-out", position=at)
        for at, share in ((0, 0.5), (9, 0.55))
    )
    told = online_claims.of_separate(whole, many, {"a": held, "b": held}, 5, **PAIRING)
    names = (online_claims.HELPS, online_claims.BEATS, online_claims.HELD_OUT)
    assert [c.claim for c in told] == [*names, *names]
    assert [c.estimate for c in told] == pytest.approx([0.1, 0.1, 0.05, 0.1, -0.1, 0.05])
    assert told[1].measure == "a: online - standard after 5 steps"
    assert [c.verdict for c in told[3:5]] == ["supported", "contradicted"]


def test_companies_are_compared_on_the_same_pairs():
    company = answers("a", source=0.9, separate=0.7, consecutive=0.6, shuffled=0.4)
    told = online_claims.of_companies(company, **PAIRING)
    assert [c.claim.split(" corruptions")[0] for c in told] == ["separate", "consecutive"]
    assert [c.estimate for c in told] == pytest.approx([0.1, 0.2])
    assert [c.measure for c in told] == ["a: separate - consecutive", "a: consecutive - shuffled"]


def test_growth_and_brakes_and_forgetting_take_their_rows():
    row = {"difference": -0.05, "low": -0.07, "high": -0.03, "n": 50}
    rising = pd.DataFrame([{"network": "a", "stream": s, **row} for s in online_claims.GROWING])
    grown = online_claims.of_growth(rising)
    assert [c.claim for c in grown] == list(online_claims.GROWING.values())
    (brake,) = online_claims.of_brakes(pd.DataFrame([{"method": "pull", **row}]), "a")
    assert brake.claim.startswith("pull: better") and brake.verdict == "contradicted"
    change = pd.DataFrame([{"method": "a", "images": i, **row} for i in ("corrupted", "clean")])
    (lost,) = online_claims.of_forgetting(change)
    assert lost.verdict == "supported" and lost.unit == "clean held-out images"


def ratios(network: str, ratio: float) -> pd.DataFrame:
    rows = [
        {"network": network, "window": w, "sequence": s, "ratio": ratio + 0.001 * i}
        for i in range(5)
        for w in (10, 100)
        for s in ("adapted", "adapted - source")
    ]
    return pd.DataFrame(rows)


def test_fluctuation_is_tested_at_the_window_of_each_network():
    rows = pd.concat([ratios("a", 1.5), ratios("b", float("nan"))])
    (claim,) = online_claims.of_fluctuations(rows, {"a": 10, "b": 100})
    assert claim.n == 5 and claim.estimate == pytest.approx(0.502)
    assert claim.measure.startswith("a: variance of the average over 10 arrivals")


def test_claims_are_kept_by_network_with_the_general_ones_first():
    row = pd.Series({"difference": 0.0, "low": -0.02, "high": 0.02, "n": 9})
    texts = ("helps held-out", online_claims.FLUCTUATES, online_claims.HELPS)
    told = [online_claims._of(text, row, "pairs", f"{n}: x") for text in texts for n in ("b", "a")]
    found = online_claims.in_order(told, ["b", "a"])
    assert [c.measure[0] for c in found] == ["b"] * 3 + ["a"] * 3
    assert [c.claim for c in found[:3]] == list(reversed(texts))
