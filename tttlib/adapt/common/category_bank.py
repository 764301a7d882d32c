"""RoTTA's bank: few images of the stream, even over the predicted classes, recent and certain.

Yuan, Xie and Li, CVPR 2023, arXiv 2303.13899, section 3.3 (category-balanced sampling with
timeliness and uncertainty). The bank is C lists of items, one a class; it holds N at most, and a
list about N/C:
    score(age, u) = lambda_t / (1 + exp(-age/N)) + lambda_u u / ln C
An image of class y with uncertainty u is appended to its list while that is shorter than N/C and
the bank is not full. Else the item of the highest score must make room for it: among the items of
list y if that is not shorter than N/C, otherwise among those of all longest lists. If that score is
not above score(0, u), the new image is not stored. Then all items age by 1, the new one too.
Of equal scores the last item goes, list by list and then by position. Where C > N, a list holds one
item at most.

An item is a dict {"image": [3,H,W], "age", "uncertainty"}, so that a bank can be saved.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor

Bank = list[list[dict[str, Any]]]


def add(
    bank: Bank,
    image: Tensor,
    label: int,
    uncertainty: float,
    *,
    capacity: int,
    lambda_t: float,
    lambda_u: float,
) -> None:
    """Offer an image [3,H,W] of predicted class `label` to a bank, and age the bank.

    Parameters
    ----------
    bank
        C lists, changed in place.
    image, label, uncertainty
        The image is copied if it is stored; one whose uncertainty u is not finite is not.
    capacity
        N.
    lambda_t, lambda_u
        Weights of age and uncertainty.
    """
    classes = len(bank)

    def score(age: int, u: float) -> float:
        return lambda_t / (1 + math.exp(-age / capacity)) + lambda_u * u / math.log(classes)

    stored = math.isfinite(uncertainty)
    if stored:
        candidates = _candidates(bank, label, capacity)
        if candidates:
            scores = [score(bank[c][i]["age"], bank[c][i]["uncertainty"]) for c, i in candidates]
            highest = max(scores)
            stored = highest > score(0, uncertainty)
            if stored:
                last = len(scores) - 1 - scores[::-1].index(highest)
                of_class, place = candidates[last]
                del bank[of_class][place]
    if stored:
        bank[label].append({"image": image.clone(), "age": 0, "uncertainty": uncertainty})
    for item in items(bank):
        item["age"] += 1


def items(bank: Bank) -> Iterator[dict[str, Any]]:
    """Yield the items list by list, in the order in which they came."""
    for of_class in bank:
        yield from of_class


def _candidates(bank: Bank, label: int, capacity: int) -> list[tuple[int, int]]:
    """Return class and position of the items one of which must go; none if there is room."""
    lengths = [len(of_class) for of_class in bank]
    if lengths[label] * len(bank) >= capacity:  # not shorter than N/C
        lists = [label]
    elif sum(lengths) < capacity:
        return []
    else:
        lists = [c for c, length in enumerate(lengths) if length == max(lengths)]
    return [(c, i) for c in lists for i in range(lengths[c])]
