"""Which images a question is asked on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tttlib.data import ImageSet


def of_each_class(
    dataset: ImageSet, classes: Sequence[str | int], per_class: int, seed: int = 0
) -> ImageSet:
    """Draw the same number of images of each class: class after class, in the order of the file.

    The images of a class do not depend on the other classes.

    Parameters
    ----------
    dataset
        The images to draw from.
    classes
        Names or label indices; all classes of the dataset if there are none.
    per_class
        The number of images of each class.
    seed
        The seed of the draw.

    Raises
    ------
    ValueError
        If a class is unknown, is named twice or has fewer images.
    """
    labels = [_label(dataset, c) for c in classes] or list(range(len(dataset.classes)))
    if len(set(labels)) < len(labels):
        raise ValueError(f"classes must differ, not {list(classes)!r}")
    index = []
    for label in labels:
        members = np.flatnonzero(dataset.labels.numpy() == label)
        if not 0 < per_class <= len(members):
            raise ValueError(
                f"cannot draw {per_class} images of class {dataset.classes[label]!r}: "
                f"{dataset.name!r} split {dataset.split!r} has {len(members)}"
            )
        drawn = np.random.default_rng([seed, len(members)]).permutation(len(members))[:per_class]
        index.append(np.sort(members[drawn]))
    return dataset.subset(np.concatenate(index))


def _label(dataset: ImageSet, name: str | int) -> int:
    if isinstance(name, str) and name in dataset.classes:
        return dataset.classes.index(name)
    if not isinstance(name, str) and 0 <= name < len(dataset.classes):
        return int(name)
    known = ", ".join(dataset.classes[:20]) + (" …" if len(dataset.classes) > 20 else "")
    raise ValueError(
        f"no class {name!r} in {dataset.name!r}; it has {len(dataset.classes)}: {known}; name them "
        f"or give indices from 0"
    )
