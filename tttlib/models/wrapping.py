"""Anyone's network as one of ours: normalisation inside, class names, logits out."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tttlib.models.normalised import NormalisedNetwork, logits_of
from tttlib.models.sources import class_names

logger = logging.getLogger(__name__)


class Wrapped(NormalisedNetwork):
    """A network behind its normalisation, see `wrap`; `num_classes` is 0 where it is not known."""

    outputs: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        *,
        size: int | None = None,
        outputs: Sequence[int] | None = None,
    ) -> None:
        super().__init__(num_classes if outputs is None else len(outputs))
        self.network = network
        self.size = size
        kept = None if outputs is None else torch.tensor(list(outputs))
        self.register_buffer("outputs", kept, persistent=False)
        self.card: dict[str, Any] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B,C] of images [B,3,H,W] in [0,1].

        Raises
        ------
        ValueError
            For an answer without logits, or with another number of them than there are classes.
        """
        if self.size is not None:
            images = resized(images, self.size)
        x = self.normalize(images).to(next(self.network.parameters()).dtype)
        logits = logits_of(answer := self.network(x))
        name = self.card.get("name", type(self.network).__name__)
        if logits is None or logits.ndim != 2:
            raise ValueError(
                f"{name} answers with {_described(answer)}, not with logits [B,C]; "
                "wrap a module whose forward returns them"
            )
        if self.outputs is not None:
            return logits[:, self.outputs]
        if self.num_classes and logits.shape[1] != self.num_classes:
            raise ValueError(
                f"{name} has {logits.shape[1]} outputs, but {self.num_classes} class "
                "names were given; name every output in order"
            )
        return logits

    classify = forward


def wrap(
    module: nn.Module,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] | str | None = None,
    name: str | None = None,
    size: int | None = None,
    outputs: Sequence[int] | None = None,
) -> Wrapped:
    """Return a copy of any network, in eval mode, that takes images in [0,1] and has class names.

    Parameters
    ----------
    module
        Maps normalised images [B,3,H,W] to logits [B,C], or to an object or dict with `logits`.
    mean, std
        Three numbers each, for pixels in [0,1], of the normalisation that the network was trained
        with. None takes what a timm network says of itself.
    classes
        Names in the order of the logits, or "imagenet", "cifar10" or "cifar100" for theirs. None
        where they are not known; then nothing compares them with the data.
    name
        What result rows call the network; by default its architecture.
    size
        Side in pixels to which the network itself resizes its images (`resized`), so that they are
        corrupted, and seen by a method, at the size of the dataset. None takes them as they are.
    outputs
        Positions of the logits that count, in the order of the dataset's labels, for images of some
        of the network's classes. `classes` then names all outputs or those.

    Raises
    ------
    ValueError
        For a normalisation that is missing, impossible or inside already, and names that do not fit
        the outputs. Outputs are counted at once where the network says how many it has, else at
        the first call.
    """
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise ValueError(f"wrap takes a torch.nn.Module, not {type(module).__name__}")
    if next(module.parameters(), None) is None:
        raise ValueError(f"the network, a {type(module).__name__}, has no parameters")
    stated: Mapping[str, Any] = getattr(module, "pretrained_cfg", None) or {}
    name = name or stated.get("architecture") or type(module).__name__
    values = _normalisation(module, stated, mean, std, name)
    names = class_names(classes) if isinstance(classes, str) else tuple(classes or ())
    config = getattr(module, "config", None)  # of Hugging Face
    answers = getattr(module, "num_classes", None) or getattr(config, "num_labels", None)
    all_of_them = len(names) if outputs is None or len(names) != len(outputs) else 0
    if all_of_them and isinstance(answers, int) and answers != all_of_them:
        raise ValueError(
            f"{name} has {answers} outputs, but {len(names)} class names were given; name every "
            "output in order"
        )
    if outputs is not None:
        last = answers if isinstance(answers, int) else all_of_them or max(outputs, default=0) + 1
        if (
            len(set(outputs)) < 2
            or len(set(outputs)) < len(outputs)
            or not (min(outputs) >= 0 and max(outputs) < last)
        ):
            raise ValueError(
                f"outputs must be two or more different positions from 0 to {last - 1}, not "
                f"{list(outputs)[:8]}"
            )
        names = tuple(names[k] for k in outputs) if all_of_them else names
    if size is not None and size < 1:
        raise ValueError(f"size is a side in pixels, 1 or more, not {size}")
    num_classes = len(names) or (answers if isinstance(answers, int) else 0)
    network = Wrapped(copy.deepcopy(module), num_classes, size=size, outputs=outputs).eval()
    network.to(next(module.parameters()).device)
    network.classes = names
    for buffer, numbers in zip((network.mean, network.std), values, strict=True):
        buffer.copy_(torch.tensor(numbers).view(1, 3, 1, 1))
    network.card = {"name": name, "mean": values[0], "std": values[1], "classes": list(names)}
    network.card |= {} if size is None else {"resized": f"bicubic to {size} pixels"}
    network.card |= {} if outputs is None else {"outputs": list(outputs)}
    return network


def resized(images: Tensor, size: int) -> Tensor:
    """Return images [B,3,H,W] in [0,1] at `size` pixels: bicubic, antialiased, clipped to [0,1]."""
    if images.shape[-2:] == (size, size):
        return images
    how: dict[str, Any] = {"size": (size, size), "mode": "bicubic", "antialias": True}
    return F.interpolate(images, align_corners=False, **how).clamp(0, 1)


def _normalisation(
    module: nn.Module,
    stated: Mapping[str, Any],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    name: str,
) -> tuple[list[float], list[float]]:
    """Return mean and deviation, three numbers each."""
    known = [None if stated.get(k) is None else list(stated[k]) for k in ("mean", "std")]
    values = [list(v) if v is not None else k for v, k in zip((mean, std), known, strict=True)]
    if values[0] is None or values[1] is None:
        raise ValueError(
            f"{name} does not say how its images are normalised; give mean=… and std=… of its "
            "training, (0, 0, 0) and (1, 1, 1) if it takes pixels in [0,1] as they are"
        )
    m, s = (torch.tensor(v, dtype=torch.float64) for v in values)
    if m.shape != (3,) or s.shape != (3,) or not ((m >= 0) & (m <= 1) & (s > 0) & (s <= 1)).all():
        raise ValueError(
            f"mean {values[0]} and std {values[1]} must be three numbers each for pixels in [0,1], "
            "std positive; divide those for pixels in 0..255 by 255"
        )
    inside = [pair for pair in (("mean", "std"), ("mu", "sigma")) if _holds(module, pair)]
    if (inside or hasattr(module, "normalize")) and not ((m == 0) & (s == 1)).all():
        raise ValueError(
            f"{name} normalises by itself already ({' and '.join(inside[0]) if inside else ''}"
            f"{'' if inside else 'normalize'}); wrap it with mean=(0, 0, 0) and std=(1, 1, 1)"
        )
    if None not in known and values != known:
        logger.warning("%s was made with mean %s and std %s; yours are used", name, *known)
    return values[0], values[1]


def _holds(module: nn.Module, names: tuple[str, str]) -> bool:
    return all(torch.is_tensor(getattr(module, n, None)) for n in names)


def _described(answer: Any) -> str:
    shape = f" {list(answer.shape)}" if torch.is_tensor(answer) else ""
    return f"a {type(answer).__name__}{shape}"
