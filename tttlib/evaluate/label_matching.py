"""Whether the labels of a dataset and the outputs of a model mean the same classes."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from tttlib.data import ImageSet


@lru_cache(64)
def check(model: tuple[str, ...], dataset: tuple[str, ...], name: str) -> None:
    """Refuse a dataset whose classes are numbered otherwise than the outputs of the model.

    Names that one of them has twice (the cranes of ImageNet), or that only one of them has, are not
    compared.

    Parameters
    ----------
    model, dataset
        Class names in the order of the logits and of the labels; empty ones cannot be compared.
    name
        The name of the dataset.

    Raises
    ------
    ValueError
        If the numbers of classes differ, or a class stands at different places.
    """
    if not model or not dataset:
        return
    if len(model) != len(dataset):
        raise ValueError(
            f"{name} has {len(dataset)} classes and the model {len(model)}: take a model that was "
            "trained for these images"
        )
    outputs = _places(model)
    for class_name, label in _places(dataset).items():
        output = outputs.get(class_name, label)
        if output != label:
            raise ValueError(
                f"{class_name!r} is label {label} of {name} but output {output} of the model, so "
                "every answer would be judged wrongly. In a folder of your own, a file classes.txt "
                "with one class a line gives the order; the model's begins "
                f"{', '.join(model[:3])}"
            )


def check_outputs(outputs: int, dataset: ImageSet) -> None:
    """Refuse a model with fewer outputs than a dataset has classes: some labels it cannot answer.

    Raises
    ------
    ValueError
        If there are fewer outputs.
    """
    if outputs < len(dataset.classes):
        raise ValueError(
            f"the model has {outputs} outputs but {dataset.name} has {len(dataset.classes)} "
            "classes: take a model that was trained for these images, or images of its classes"
        )


def _places(names: tuple[str, ...]) -> dict[str, int]:
    count = Counter(names)
    return {name: place for place, name in enumerate(names) if count[name] == 1}
