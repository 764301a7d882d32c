"""Domains that come back, classes whose shares change, and two corruptions at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scenes_of import labelled, scenes

from tttlib import corruptions, streams
from tttlib.streams.stream import SECOND

PAIR = ("zoom_blur", "fog")


# -- domains that come back ------------------------------------------------------------------------


def test_rounds_bring_the_sequence_back() -> None:
    stream = streams.recurring(scenes(3), PAIR, rounds=2, batch_size=3)
    assert [(b.domain, b.block, b.index.tolist()) for b in stream] == [
        (domain, block, [0, 1, 2]) for block, domain in enumerate(PAIR * 2)
    ]
    assert stream.rows().drop_duplicates("block")["round"].tolist() == [0, 0, 1, 1]
    assert torch.equal(stream.batch(0).images, stream.batch(2).images)
    first = streams.continual(scenes(3), PAIR, batch_size=3)
    assert torch.equal(first.images(), stream.images()[:6])
    assert (
        stream.fingerprint()
        != streams.recurring(scenes(3), PAIR, rounds=3, batch_size=3).fingerprint()
    )


def test_blocks_of_some_images_are_dealt_from_shuffled_passes() -> None:
    stream = streams.recurring(scenes(7), PAIR, rounds=4, images=3, batch_size=2)
    index = stream.plan["index"].to_numpy().reshape(8, 3)
    assert all(len(set(block)) == 3 for block in index)
    times = np.bincount(index.ravel(), minlength=7)
    assert times.sum() == 24 and times.min() >= 3 and times.max() <= 4
    assert index[0].tolist() != [0, 1, 2] and stream.order == "shuffled by the seed"
    again = streams.recurring(scenes(7), PAIR, rounds=4, images=3, batch_size=2)
    other = streams.recurring(scenes(7), PAIR, rounds=4, images=3, batch_size=2, seed=1)
    assert stream.fingerprint() == again.fingerprint() != other.fingerprint()


def test_every_order_takes_a_domain_twice() -> None:
    dataset, twice = scenes(8), ("fog", "snow", "fog")
    assert streams.continual(dataset, twice, batch_size=8).plan["block"].nunique() == 3
    assert streams.correlated(dataset, twice, batch_size=8).plan["block"].nunique() == 3
    assert streams.label_shift(dataset, twice, batch_size=8).plan["block"].nunique() == 3
    every = streams.mixed(dataset, twice, batch_size=8, every=True).rows()
    assert every["domain"].value_counts().to_dict() == {"fog": 16, "snow": 8}
    dealt = streams.consecutive(dataset, twice, batch_size=8).rows()
    assert dealt["id"].is_unique and dealt["domain"].drop_duplicates().tolist() == ["fog", "snow"]
    assert dealt["block"].value_counts().tolist() == [3, 3, 2]
    assert len(streams.levels(dataset, "fog", (1, 5, 1), batch_size=8).plan) == 8


def test_a_corruption_that_comes_back_rises_anew() -> None:
    rows = streams.gradual(scenes(1), ("fog", "fog", "snow", "fog"), batch_size=1).rows()
    up = rows[streams.rising(rows)]
    assert up["block"].tolist() == [9 * k + s for k in range(4) for s in range(5)]


def test_equal_domains_have_fewer_orders() -> None:
    assert set(streams.orders(("fog", "fog", "snow"), 3)) == {
        ("fog", "fog", "snow"), ("fog", "snow", "fog"), ("snow", "fog", "fog"),
    }  # fmt: skip
    with pytest.raises(ValueError, match="3 domains do not have 4"):
        streams.orders(("fog", "fog", "snow"), 4)


# -- labels ----------------------------------------------------------------------------------------


def test_mixed_and_correlated_sorts_labels_and_shuffles_domains() -> None:
    dataset = labelled([1, 0, 2] * 20)
    stream = streams.correlated(dataset, PAIR, mixed=True, batch_size=8)
    rows = stream.rows()
    assert rows["label"].is_monotonic_increasing and set(rows["block"]) == {0}
    assert len(rows[["id", "domain"]].drop_duplicates()) == len(rows) == 120
    for _, of_class in rows.groupby("label"):
        assert 10 < (of_class["domain"] != of_class["domain"].shift()).sum() < 35
    chunks = streams.correlated(dataset, PAIR, mixed=True, concentration=1, batch_size=8).rows()
    assert (chunks["label"].diff() != 0).sum() > 3 and not chunks["label"].is_monotonic_increasing
    assert stream.name == "correlated, mixed"


def test_label_shift_has_a_geometric_profile() -> None:
    dataset = labelled([0] * 16 + [1] * 16 + [2] * 16)
    stream = streams.label_shift(dataset, ("fog", "snow", "frost"), imbalance=4, batch_size=8)
    rows = stream.rows()
    profiles = []
    for _, block in rows.groupby("block"):
        counts = block["label"].value_counts()
        assert sorted(counts) == [4, 8, 16] and block["id"].is_unique
        profiles.append(tuple(counts.sort_index()))
    assert len(set(profiles)) > 1
    still = streams.label_shift(dataset, PAIR, imbalance=4, moving=False, batch_size=8)
    first, second = (part["index"].tolist() for _, part in still.plan.groupby("block"))
    assert first == second and still.name != stream.name
    even = streams.label_shift(dataset, PAIR, imbalance=1, batch_size=8)
    assert len(even.plan) == 96
    steep = streams.label_shift(dataset, ("fog",), imbalance=1e6, batch_size=8)
    assert steep.rows()["label"].nunique() == 3  # no class vanishes
    one = streams.label_shift(labelled([5] * 9), ("fog",), imbalance=10, batch_size=8)
    assert len(one.plan) == 9


# -- two corruptions -------------------------------------------------------------------------------


def composed_plan(severity: float, second: float, domain: str = "fog+snow") -> pd.DataFrame:
    return pd.DataFrame(
        {"index": [2, 0], "domain": domain, "severity": severity, SECOND: second, "block": 0}
    )


def make(plan: pd.DataFrame, **changes: object) -> streams.Stream:
    dataset = replace(scenes(3), **changes) if changes else scenes(3)
    return streams.Stream(dataset, plan, batch_size=2, seed=3, name="both")


def test_the_second_corruption_is_made_on_the_first() -> None:
    dataset, where = scenes(3), [2, 0]
    batch = next(make(composed_plan(2.5, 4)))
    ids = dataset.ids[where]
    fog = corruptions.corrupt(dataset.images[where], "fog", 2.5, ids=ids, seed=3)
    both = corruptions.corrupt(fog, "snow", 4, ids=ids, seed=3)
    assert torch.equal(batch.images, both.float() / 255)
    assert batch.domain == "fog+snow" and batch.severity == 2.5
    assert batch.second_severities is not None and batch.second_severities.tolist() == [4, 4]


def test_severities_below_one_mix_and_zero_does_nothing() -> None:
    dataset = scenes(3)
    clean = dataset.images[[2, 0]]
    assert torch.equal(next(make(composed_plan(0, 0))).images, clean.float() / 255)
    snow = corruptions.corrupt(clean, "snow", 1, ids=dataset.ids[[2, 0]], seed=3)
    found = (next(make(composed_plan(0, 0.25))).images * 255).round()
    expected = 0.75 * clean.float() + 0.25 * snow.float()
    assert (found - expected).abs().max() <= 0.5 + 1e-4 and not torch.equal(found, clean.float())


def test_single_domains_may_stand_beside_two_corruptions() -> None:
    plan = pd.concat(
        [composed_plan(3, 2), composed_plan(5, 7, "snow"), composed_plan(5, 9, "clean")]
    )
    stream = make(plan)
    assert stream.plan[SECOND].tolist() == [2, 2, 0, 0, 0, 0]
    assert stream.plan["severity"].tolist() == [3, 3, 5, 5, 0, 0]
    alone = streams.corrupted(scenes(3), [2, 0], "snow", 5, seed=3)
    assert torch.equal(stream.images()[2:4], alone.float() / 255)
    prints = {make(composed_plan(3, second)).fingerprint() for second in (1, 1.5, 2)}
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(composed_plan(3, 6)), "from 0 to 5 in fog\\+snow"),
        (lambda: make(composed_plan(-1, 2)), "from 0 to 5 in fog\\+snow"),
        (lambda: make(composed_plan(3, float("nan"))), "has no severity"),
        (lambda: make(composed_plan(3, 2).drop(columns=SECOND)), "needs a column 'second_sev"),
        (lambda: make(composed_plan(3, 2, "fog+haze")), "unknown corruption 'haze'"),
        (lambda: make(composed_plan(3, 2, "fog+fog")), "one corruption or two different ones"),
        (lambda: make(composed_plan(3, 2, "fog+snow+frost")), "one corruption or two different"),
        (lambda: streams.recurring(scenes(3), rounds=0, batch_size=1), "rounds must be 1 or more"),
        (lambda: streams.recurring(scenes(3), (), rounds=2, batch_size=1), "at least one domain"),
        (lambda: streams.recurring(scenes(3), rounds=2, images=4, batch_size=1), "from 1 to 3"),
        (lambda: streams.recurring(scenes(3), rounds=2, images=0, batch_size=1), "from 1 to 3"),
        (lambda: streams.label_shift(scenes(3), imbalance=0.5, batch_size=1), "imbalance must be"),
        (lambda: streams.label_shift(scenes(3), ("haze",), batch_size=1), "'haze'"),
    ],
)
def test_what_cannot_be_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


def test_released_files_have_one_corruption() -> None:
    class Files:
        name = "released"

    with pytest.raises(ValueError, match="the files of released have one corruption, not fog"):
        make(composed_plan(3, 2), released=Files())
