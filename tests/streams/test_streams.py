"""Streams: what arrives when, and that an image's corruption does not depend on the batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tttlib import corruptions, data, streams
from tttlib.data import ImageSet
from tttlib.streams import Batch
from tttlib.streams import stream as stream_module

DOMAINS = ("gaussian_noise", "clean", "contrast")


def scenes(n: int = 7) -> ImageSet:
    return data.load("scenes", "test", n=n)


def stream(
    dataset: ImageSet, domains: tuple[str, ...] = DOMAINS, **settings: object
) -> list[Batch]:
    return list(streams.continual(dataset, domains, **{"batch_size": 3, **settings}))


def test_order_and_record() -> None:
    dataset = scenes()
    whole = streams.continual(dataset, DOMAINS, batch_size=3)
    assert len(whole) == 9 == len(list(whole))
    assert torch.equal(torch.cat([b.images for b in whole]), whole.images())
    batches = list(whole)  # it starts anew
    assert [(b.domain, b.index.tolist()) for b in batches] == [
        (domain, index) for domain in DOMAINS for index in ([0, 1, 2], [3, 4, 5], [6])
    ]
    for batch in batches:
        assert batch.images.dtype == torch.float32
        assert batch.images.shape == (len(batch.index), 3, 32, 32)
        assert torch.equal(batch.labels, dataset.labels[batch.index])
        levels = batch.images * 255
        torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
        assert levels.min() >= 0 and levels.max() <= 255
        assert batch.severity == (0 if batch.domain == "clean" else 5)
        if batch.domain == "clean":
            assert torch.equal(batch.images, dataset.images[batch.index].float() / 255)
        batch.images.zero_()
    assert torch.equal(dataset.images, scenes().images)


@pytest.mark.parametrize("domain", ["gaussian_noise", "contrast"])
def test_images_are_those_of_corrupt(domain: str) -> None:
    dataset = scenes()
    got = torch.cat([b.images for b in stream(dataset, (domain,), severity=2, seed=4)])
    expected = corruptions.corrupt(dataset.images, domain, 2, ids=dataset.ids, seed=4)
    assert torch.equal(got, expected.float() / 255)
    assert (got != dataset.images.float() / 255).any()


def test_corruption_depends_on_the_id_alone() -> None:
    dataset = scenes()
    whole = torch.cat([b.images for b in stream(dataset, ("gaussian_noise",), batch_size=7)])
    for batch_size in (1, 2, 100):
        again = stream(dataset, ("contrast", "gaussian_noise"), batch_size=batch_size)
        noisy = torch.cat([b.images for b in again if b.domain == "gaussian_noise"])
        assert torch.equal(noisy, whole)
    index = [5, 0, 3]
    some = torch.cat([b.images for b in stream(dataset.subset(index), ("gaussian_noise",))])
    assert torch.equal(some, whole[index])


# -- orders ----------------------------------------------------------------------------------------

BLURS = ("zoom_blur", "defocus_blur")


def pairs(stream: streams.Stream) -> set[tuple[object, ...]]:
    rows = stream.rows()
    return set(rows[["id", "domain", "severity"]].itertuples(index=False, name=None))


def test_consecutive_shows_each_image_once_domain_after_domain() -> None:
    dataset = scenes()
    stream = streams.consecutive(dataset, BLURS, batch_size=3)
    rows = stream.rows()
    assert sorted(rows["id"]) == sorted(dataset.ids.tolist())
    assert rows["domain"].tolist() == ["zoom_blur"] * 3 + ["defocus_blur"] * 4
    assert [(b.domain, len(b.images), b.block) for b in stream] == [
        ("zoom_blur", 3, 0),
        ("defocus_blur", 3, 1),
        ("defocus_blur", 1, 1),
    ]


def test_orders_show_the_same_pairs_and_the_same_pixels() -> None:
    dataset = scenes()
    first = streams.consecutive(dataset, BLURS, batch_size=3)
    back = streams.consecutive(dataset, BLURS[::-1], batch_size=3)
    mixed = streams.mixed(dataset, BLURS, batch_size=3)
    assert pairs(first) == pairs(back) == pairs(mixed)
    assert mixed.rows()["domain"].nunique() == 2
    assert mixed.rows()["id"].tolist() != first.rows()["id"].tolist()
    batch = next(streams.mixed(dataset, BLURS, batch_size=7))
    assert batch.domain == streams.MIXED and batch.severity == 5
    assert set(batch.domains) == set(BLURS) and batch.severities.tolist() == [5.0] * 7
    pixels = dict(zip(first.rows()["id"], first.images(), strict=True))
    for name, image in zip(mixed.rows()["id"], mixed.images(), strict=True):
        assert torch.equal(image, pixels[name])


@pytest.mark.parametrize(("share", "clean"), [(0.0, 0), (1.0, 40)])
def test_a_share_of_a_mixed_stream_is_clean(share: float, clean: int) -> None:
    rows = streams.mixed(scenes(40), BLURS, batch_size=4, clean=share).rows()
    assert (rows["domain"] == "clean").sum() == clean
    half = streams.mixed(scenes(40), BLURS, batch_size=4, clean=0.5).rows()
    assert 8 <= (half["domain"] == "clean").sum() <= 32
    assert set(half.loc[half["domain"] == "clean", "severity"]) == {0.0}


def test_levels_in_order_and_shuffled() -> None:
    dataset = scenes(10)
    levels = streams.levels(dataset, "zoom_blur", batch_size=1)
    assert levels.rows()["severity"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert [b.severity for b in levels] == levels.rows()["severity"].tolist()
    shuffled = streams.levels(dataset, "zoom_blur", shuffled=True, batch_size=10)
    assert pairs(shuffled) == pairs(levels)
    assert torch.isnan(torch.tensor(next(shuffled).severity))


def test_interpolated_severity_rises_with_every_image() -> None:
    dataset = scenes(9)
    stream = streams.interpolated(dataset, "contrast", batch_size=4)
    assert stream.rows()["severity"].tolist() == [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
    row = stream.rows().iloc[3]
    where = int((dataset.ids == row["id"]).nonzero())
    alone = corruptions.corrupt(dataset.images[[where]], "contrast", 2.5, ids=dataset.ids[[where]])
    assert torch.equal(stream.images()[3], alone[0].float() / 255)
    shuffled = streams.interpolated(dataset, "contrast", shuffled=True, batch_size=4)
    assert pairs(shuffled) == pairs(stream)


def test_correlated_sorts_by_class_or_chunks() -> None:
    dataset = scenes(200)
    rows = streams.correlated(dataset, ["contrast", "clean"], batch_size=8).rows()
    for _, part in rows.groupby("domain"):
        assert part["label"].is_monotonic_increasing and len(part) == 200

    def runs(concentration: float) -> int:
        how = {"concentration": concentration, "batch_size": 8, "seed": 1}
        stream = streams.correlated(dataset, ["clean"], **how)
        labels = stream.rows()["label"]
        assert sorted(stream.rows()["id"]) == sorted(dataset.ids.tolist())
        return int((labels.diff() != 0).sum())

    assert 10 < runs(0.01) < runs(1) < runs(1000) < 200


def test_small_streams_make_their_images_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def pixels(kept: int) -> tuple[list[torch.Tensor], int]:
        calls: list[str] = []
        monkeypatch.setattr(stream_module, "KEPT_BYTES", kept)
        stream = streams.continual(scenes(4), ["fog"], batch_size=2)
        made = stream_module.corrupted

        def counted(*arguments: Any, **options: Any) -> torch.Tensor:
            calls.append("")
            return made(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(stream_module, "corrupted", counted)
            seen = [batch.images for _ in range(2) for batch in stream]
        seen[0].zero_()  # what a caller does to its batch changes no other
        return [*seen[1:], stream.batch(0).images], len(calls)

    (kept, once), (anew, twice) = pixels(2**20), pixels(0)
    assert all(torch.equal(a, b) for a, b in zip(kept, anew, strict=True))
    assert (once, twice) == (2, 4)


def test_thinning_keeps_the_order_and_the_pixels() -> None:
    stream = streams.mixed(scenes(20), BLURS, batch_size=3)
    few = stream.thinned(5)
    where = [0, 5, 10, 14, 19]
    assert few.rows()["id"].tolist() == stream.rows()["id"].iloc[where].tolist()
    assert torch.equal(few.images(), stream.images()[where])
    assert len(stream.thinned(99).plan) == 20
    with pytest.raises(ValueError, match="n must be 1 or more"):
        stream.thinned(0)


def test_one_domain_of_a_stream_alone() -> None:
    stream = streams.mixed(scenes(9), BLURS, batch_size=3)
    alone = stream.where(domain="zoom_blur")
    kept = (stream.plan["domain"] == "zoom_blur").to_numpy()
    assert torch.equal(alone.images(), stream.images()[torch.tensor(kept)])
    with pytest.raises(ValueError, match="no 'fog' in this stream; it has"):
        stream.where(domain="fog")


def test_the_fingerprint_tells_orders_and_seeds_apart() -> None:
    dataset = scenes()
    found = {
        streams.consecutive(dataset, BLURS, batch_size=1).fingerprint(),
        streams.consecutive(dataset, BLURS[::-1], batch_size=1).fingerprint(),
        streams.mixed(dataset, BLURS, batch_size=1).fingerprint(),
        streams.mixed(dataset, BLURS, batch_size=1, seed=1).fingerprint(),
    }
    assert len(found) == 4
    assert streams.mixed(dataset, BLURS, batch_size=1).fingerprint() in found


def test_gradual_rises_and_falls() -> None:
    stream = streams.gradual(scenes(2), BLURS, batch_size=2)
    assert [b.severity for b in stream] == [1, 2, 3, 4, 5, 4, 3, 2, 1] * 2
    assert [b.domain for b in stream] == ["zoom_blur"] * 9 + ["defocus_blur"] * 9
    assert [b.block for b in stream] == list(range(18))
    rows = stream.rows()
    up = rows[streams.rising(rows)].drop_duplicates("block")
    assert up["severity"].tolist() == [1, 2, 3, 4, 5] * 2 and up["block"].tolist()[5] == 9


def test_the_full_gradual_streams_have_the_published_numbers_of_blocks() -> None:
    for schedule, blocks in {"released": 135, "cotta": 131}.items():
        stream = streams.gradual(scenes(1), schedule=schedule, batch_size=1)
        assert stream.plan["block"].nunique() == blocks
    first = stream.plan[stream.plan["domain"] == "gaussian_noise"]["severity"]
    assert first.tolist() == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("make", [streams.continual, streams.gradual])
def test_blocks_of_distinct_images_share_none(make: Callable[..., streams.Stream]) -> None:
    dataset, cells = scenes(62), {streams.continual: 3, streams.gradual: 27}[make]
    stream = make(dataset, DOMAINS, batch_size=2, distinct=True)
    plan = stream.plan
    assert plan["index"].is_unique and plan["block"].nunique() == cells
    assert set(plan.groupby("block").size()) == {62 // cells}
    assert stream.name.endswith(", distinct")
    cell = plan[plan["block"] == 1].iloc[0]
    whole = make(dataset, DOMAINS, batch_size=62).plan
    of_block = ["domain", "severity"]
    assert (cell[of_block] == whole[whole["block"] == 1].iloc[0][of_block]).all()
    with pytest.raises(ValueError, match=f"{cells} blocks of distinct images need at least"):
        make(dataset.subset(range(2)), DOMAINS, batch_size=2, distinct=True)


def test_sorted_images_of_distinct_blocks_are_shuffled_first() -> None:
    dataset = labelled([0] * 8 + [1] * 8)
    stream = streams.continual(dataset, ("fog", "snow"), batch_size=4, distinct=True)
    first = stream.dataset.labels[stream.plan["index"].tolist()[:8]]
    assert set(first.tolist()) == {0, 1} and stream.order == "shuffled by the seed"


def test_random_orders_start_with_the_given_one_and_differ() -> None:
    found = streams.orders(DOMAINS, 6)
    assert found[0] == DOMAINS and len(set(found)) == 6
    assert all(sorted(order) == sorted(DOMAINS) for order in found)
    assert found == streams.orders(DOMAINS, 6) != streams.orders(DOMAINS, 6, seed=1)
    with pytest.raises(ValueError, match="3 domains do not have 7"):
        streams.orders(DOMAINS, 7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: streams.continual(d, batch_size=0), "batch_size must be 1 or more, not 0"),
        (lambda d: streams.continual(d, batch_size=-3), "batch_size must be 1 or more, not -3"),
        (lambda d: streams.continual(d, severity=0, batch_size=1), "severity"),
        (lambda d: streams.continual(d, severity=6, batch_size=1), "severity"),
        (lambda d: streams.continual(d, ("contrast", "haze"), batch_size=1), "'haze'"),
        (lambda d: streams.continual(d, order="sorted", batch_size=1), "known are as stored, shuf"),
        (lambda d: streams.mixed(d, BLURS, batch_size=1, clean=2), "clean must be a share"),
        (lambda d: streams.consecutive(d, (), batch_size=1), "at least one domain"),
        (lambda d: streams.gradual(d, schedule="x", batch_size=1), "known are released, cotta"),
        (lambda d: streams.correlated(d, concentration=-1, batch_size=1), "concentration"),
        (lambda d: streams.interpolated(d, "fog", low=0, batch_size=1), "severity"),
        (lambda d: streams.levels(d, "fog", (1, 7), batch_size=1), "severity"),
        (lambda d: streams.continual(d.subset([]), batch_size=1), "at least one image"),
    ],
)
def test_orders_refuse_what_they_cannot_do(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(scenes())  # type: ignore[operator]


# -- sets that are stored class after class --------------------------------------------------------


def labelled(labels: list[int]) -> ImageSet:
    return replace(scenes(len(labels)), labels=torch.tensor(labels))


CLASS_AFTER_CLASS = {
    "sorted": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "folders in another order": [2, 2, 2, 2, 0, 0, 0, 0, 1, 1, 1, 1],
    "one image of each class": list(range(10)),
    "sizes differ": [0] + [1] * 8 + [5, 5],
}
MIXED_CLASSES = {
    "mixed": [0, 1, 0, 1, 2, 0, 2, 1, 0],
    "one class": [3] * 9,
    "too few to tell": [0, 0, 1, 1, 2, 2, 3],
    "all different in any order": [4, 1, 9, 0, 3, 8, 2, 7],
}


@pytest.mark.parametrize("labels", CLASS_AFTER_CLASS.values(), ids=CLASS_AFTER_CLASS)
def test_class_after_class_is_shuffled_alike_in_every_block(labels: list[int]) -> None:
    dataset, n = labelled(labels), len(labels)
    for make in (streams.continual, streams.gradual):
        stream = make(dataset, BLURS, batch_size=4)
        index = stream.plan["index"].to_numpy().reshape(-1, n)
        assert (index == index[0]).all() and sorted(index[0]) == list(range(n))
        assert index[0].tolist() != list(range(n)) and "shuffled" in str(stream.order)
        assert stream.where(domain=BLURS[0]).thinned(3).order == stream.order
        other = make(dataset, BLURS, batch_size=4, seed=1)
        assert other.plan["index"].tolist() != stream.plan["index"].tolist()
        stored = make(dataset, BLURS, batch_size=4, order="as stored")
        assert stored.plan["index"].tolist()[:n] == list(range(n)) and stored.order is None
    same = streams.mixed(dataset, BLURS, batch_size=4, every=True)
    assert same.rows()["id"].value_counts().eq(2).all() and same.order is None
    assert len(pairs(same)) == 2 * n


@pytest.mark.parametrize("labels", MIXED_CLASSES.values(), ids=MIXED_CLASSES)
def test_other_sets_arrive_as_they_are_stored(labels: list[int]) -> None:
    dataset, n = labelled(labels), len(labels)
    stream = streams.continual(dataset, BLURS, batch_size=4)
    assert stream.plan["index"].tolist() == [*range(n)] * 2 and stream.order is None
    shuffled = streams.continual(dataset, BLURS, batch_size=4, order="shuffled")
    assert shuffled.plan["index"].tolist()[:n] != list(range(n)) and shuffled.order
