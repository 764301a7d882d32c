"""Which images a question is asked on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tttlib.data import ImageSet


def of_each_class(
    dataset: ImageSet, classes: Sequence[str | int], per_class: int, seed: int = 0
) -> ImageSet:
    """`per_class` images of each of `classes`, drawn with `seed`: class after class, in file order.

    classes  names or label indices; none: all classes of the dataset
    A class's images do not depend on the other classes. Raises ValueError for an unknown class, one
    named twice, and when a class has fewer images.
    """
    labels = [_label(dataset, c) for c in classes] or list(range(len(dataset.classes)))
    if len(set(labels)) < len(labels):
        raise ValueError(f"classes must differ, not {list(classes)!r}")
    index = []
    for label in labels:
        mine = np.flatnonzero(dataset.labels.numpy() == label)
        if not 0 < per_class <= len(mine):
            raise ValueError(
                f"cannot draw {per_class} images of class {dataset.classes[label]!r}: "
                f"{dataset.name!r} split {dataset.split!r} has {len(mine)}"
            )
        drawn = np.random.default_rng([seed, len(mine)]).permutation(len(mine))[:per_class]
        index.append(np.sort(mine[drawn]))
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
