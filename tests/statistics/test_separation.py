"""Separability and silhouettes of known clouds."""

from __future__ import annotations

import numpy as np
import pytest

from tttlib import statistics


def test_separability_and_silhouette_on_known_clouds(rng: np.random.Generator) -> None:
    labels = np.repeat(["cat", "dog", "dog"], 60)
    noise = rng.normal(size=(180, 4))
    apart = noise + 8.0 * (labels == "dog")[:, None]
    far, mixed = statistics.separability(apart, labels), statistics.separability(noise, labels)
    assert far == (1.0, pytest.approx(2 / 3), 5)
    assert mixed.accuracy < 0.75
    assert statistics.silhouette(apart, labels) > 0.6
    assert abs(statistics.silhouette(noise, labels)) < 0.1


def test_groups_keep_versions_of_one_image_in_one_fold(rng: np.random.Generator) -> None:
    image = np.repeat(np.arange(24), 10)  # ten corrupted versions of each image
    labels = rng.permutation(np.arange(24) % 2)[image]  # says nothing: only the image tells it
    x = rng.normal(size=(24, 40))[image] + 0.01 * rng.normal(size=(240, 40))
    assert statistics.separability(x, labels).accuracy == 1.0  # leaks
    assert statistics.separability(x, labels, groups=image).accuracy < 0.8


def test_separability_refuses_what_it_cannot_test() -> None:
    x = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(ValueError, match="two different labels"):
        statistics.separability(x, np.zeros(6))
    with pytest.raises(ValueError, match="single point"):
        statistics.separability(x, [0, 0, 0, 0, 0, 1])
    with pytest.raises(ValueError, match="6 points but 5 labels"):
        statistics.silhouette(x, [0, 1, 0, 1, 0])


def test_hits_are_what_the_accuracy_counts(rng: np.random.Generator) -> None:
    domain, image = np.tile(np.arange(5), 24), np.repeat(np.arange(24), 5)
    x = rng.normal(size=(120, 8)) + 2 * rng.normal(size=(5, 8))[domain]
    hits, folds = statistics.linear_hits(x, domain, image)
    found = statistics.separability(x, domain, image)
    assert (hits.mean(), folds) == (found.accuracy, found.folds) and found.accuracy > 0.8
