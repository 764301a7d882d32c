"""A check that a loaded model is as good on clean images as its card, or its publisher, says.

Most wrong numbers come from loaders (normalisation, class order, another subset), and nearly all
of these mistakes cost far more than a point of clean accuracy.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from scipy.stats import binomtest
from tqdm.auto import tqdm

from tttlib.data import ImageSet

logger = logging.getLogger(__name__)

TOLERANCE = 0.01


@torch.no_grad()
def right_answers(
    model: Any, images: ImageSet, batch_size: int = 250, *, progress: bool = False
) -> int:
    """Return how many whole, uncorrupted images a network classifies right in eval mode."""
    was_training, device, right = model.training, model.mean.device, 0
    model.eval()
    starts = range(0, len(images), batch_size)
    for start in tqdm(starts, desc="verify", unit="batch", leave=False, disable=not progress):
        x = torch.as_tensor(images.images[start : start + batch_size]).to(device)
        labels = images.labels[start : start + batch_size].to(device)
        right += int((model.classify(x.float() / 255).argmax(1) == labels).sum())
    model.train(was_training)
    return right


def verify(model: Any, dataset: ImageSet, *, batch_size: int = 250) -> dict[str, Any]:
    """Measure the clean accuracy of `model` and compare it with `model.card["clean_accuracy"]`.

    They disagree when they differ by more than one point AND the interval excludes what the card
    says. Both, because with few images a point is noise (400 images: plus or minus 3 to 5 points),
    and with very many the interval excludes differences that decoding or resizing make. So a small
    sample can only find gross mistakes: verify on a whole test set where you can.

    Returns
    -------
    dict
        dataset, n, accuracy, low, high (Wilson interval, 95 %), expected, expected_on and ok;
        accuracies in [0,1]. `ok` is None when the card expects nothing. It is False, and a warning
        is logged, when the two disagree.

    Raises
    ------
    ValueError
        For no images or another number of classes.
    """
    if len(dataset) == 0 or len(dataset.classes) != model.num_classes:
        raise ValueError(
            f"cannot verify a model of {model.num_classes} classes on {dataset.name!r} with "
            f"{len(dataset.classes)} classes and {len(dataset)} images; "
            "give clean images of the data it was trained for"
        )
    n = len(dataset)
    correct = right_answers(model, dataset, batch_size, progress=True)
    low, high = map(float, binomtest(correct, n).proportion_ci(0.95, method="wilson"))
    expected = model.card.get("clean_accuracy")
    outcome = {
        "dataset": f"{dataset.name} {dataset.split}",
        "n": n,
        "accuracy": correct / n,
        "low": low,
        "high": high,
        "expected": expected,
        "expected_on": model.card.get("clean_accuracy_on"),
        "ok": None if expected is None else agrees(correct / n, (low, high), expected),
    }
    _report(model, outcome)
    return outcome


def agrees(accuracy: float, interval: tuple[float, float], expected: float) -> bool:
    """Tell whether two accuracies agree: within one point, or inside the interval (low, high)."""
    low, high = interval
    return abs(accuracy - expected) <= TOLERANCE + 1e-9 or low <= expected <= high


def mismatch(outcome: dict[str, Any]) -> str:
    """Return what the result rows of a model say that failed, given what `verify` returned."""
    measured, expected = f"{outcome['accuracy']:.2%}", f"{outcome['expected']:.2%}"
    return f"clean accuracy {measured} on {outcome['dataset']}, {expected} expected"


def _report(model: Any, outcome: dict[str, Any]) -> None:
    name = model.card.get("name", "unnamed")
    sample = "[{low:.2%}, {high:.2%}] of {n} images of {dataset}".format(**outcome)
    measured = f"{outcome['accuracy']:.2%} {sample}"
    if outcome["ok"] is None:
        logger.info("%s: clean accuracy %s; nothing to compare with", name, measured)
        return
    expected = f"{outcome['expected']:.2%} ({outcome['expected_on'] or 'its card'})"
    if outcome["ok"]:
        logger.info("%s: clean accuracy %s, expected %s", name, measured, expected)
    else:
        logger.warning(
            "%s: clean accuracy is %s, but %s was expected. Do not use its numbers before you know "
            "why: normalisation, class order, preprocessing and the subset are the usual causes",
            name,
            measured,
            expected,
        )
