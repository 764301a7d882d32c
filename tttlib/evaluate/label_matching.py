"""Whether the labels of a dataset mean what the outputs of a model mean."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache


@lru_cache(64)
def check(model: tuple[str, ...], dataset: tuple[str, ...], name: str) -> None:
    """ValueError when class names that both have stand at different places, or numbers differ.

    model, dataset  class names in the order of logits and labels; empty ones cannot be compared
    Names that one of them has twice (ImageNet's cranes) or that differ are not compared.
    """
    if not model or not dataset:
        return
    if len(model) != len(dataset):
        raise ValueError(
            f"{name} has {len(dataset)} classes and the model {len(model)}: take a model that was "
            "trained for these images"
        )
    at = _places(model)
    for label, class_ in _places(dataset).items():
        if label in at and at[label] != class_:
            raise ValueError(
                f"{label!r} is label {class_} of {name} but output {at[label]} of the model: every "
                "answer would be judged wrongly. In a folder of your own, a file classes.txt with "
                f"one class a line gives the order; the model's begins {', '.join(model[:3])}"
            )


def _places(names: tuple[str, ...]) -> dict[str, int]:
    count = Counter(names)
    return {name: place for place, name in enumerate(names) if count[name] == 1}
