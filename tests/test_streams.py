"""Streams: what arrives when, and that an image's corruption does not depend on the batches."""

from __future__ import annotations

import pytest
import torch

from tttlib import corruptions, data, streams
from tttlib.data import ImageSet
from tttlib.streams import Batch

DOMAINS = ("gaussian_noise", "clean", "contrast")


def scenes(n: int = 7) -> ImageSet:
    return data.load("scenes", "test", n=n)


def stream(
    dataset: ImageSet, domains: tuple[str, ...] = DOMAINS, **settings: object
) -> list[Batch]:
    return list(streams.continual(dataset, domains, **{"batch_size": 3, **settings}))


def test_order_and_record() -> None:
    dataset = scenes()
    batches = stream(dataset)
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


def test_clean_images_arrive_unchanged() -> None:
    dataset = scenes()
    for batch in stream(dataset, ("clean",)):
        assert torch.equal(batch.images, dataset.images[batch.index].float() / 255)


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


def test_seed_and_image_change_the_noise() -> None:
    dataset = scenes(2)
    a, b = (stream(dataset, ("gaussian_noise",), seed=seed)[0].images for seed in (0, 1))
    assert not torch.equal(a, b)
    twins = ImageSet(
        "twins", "test", dataset.images[[0, 0]], torch.zeros(2).long(), ("a",), dataset.ids, ""
    )
    first, second = stream(twins, ("gaussian_noise",))[0].images
    assert not torch.equal(first, second)


def test_the_dataset_is_not_changed() -> None:
    dataset = scenes()
    before = dataset.images.clone()
    for batch in stream(dataset):
        batch.images.zero_()
    assert torch.equal(dataset.images, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be 1 or more, not 0"),
        ({"batch_size": -3}, "batch_size must be 1 or more, not -3"),
        ({"severity": 0}, "severity"),
        ({"severity": 6}, "severity"),
        ({"domains": ("contrast", "haze")}, "'haze'"),
    ],
)
def test_errors_come_before_the_first_batch(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        streams.continual(scenes(), **{"domains": DOMAINS, "batch_size": 3, **settings})
