"""Architectures by name: the sizes of the papers' models, and small ones.

`build` makes a network of given sizes, `create` one of a preset's sizes. Which file goes with a
preset, and how that model was trained, is in `sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from tttlib.models.efficientnet_lite import efficientnet_lite0
from tttlib.models.mae import MaskedAutoencoder
from tttlib.models.resnext import ResNeXt
from tttlib.models.rotation_net import RotationNet
from tttlib.models.wide_resnet import WideResNet

Sizes = dict[str, Any]
Part = tuple[int, int, int]  # width, depth and heads of a transformer


def _mae(image: tuple[int, int], encoder: Part, decoder: Part, head: Part, classes: int) -> Sizes:
    """Return the sizes of a masked autoencoder on images of a side, in patches of a side."""
    sizes = {"img_size": image[0], "patch_size": image[1], "num_classes": classes}
    for part, numbers in (("", encoder), ("decoder_", decoder), ("classifier_", head)):
        names = (f"{part}embed_dim", f"{part}depth", f"{part}num_heads")
        sizes |= dict(zip(names, numbers, strict=True))
    return sizes


def _wide(family: str, depth: int, width: int, **others: int) -> Sizes:
    return {"family": family, "depth": depth, "width": width, "num_classes": 10, **others}


def _resnext(depth: int, base_width: int) -> Sizes:
    widths = {"cardinality": 4, "base_width": base_width}
    return {"family": "resnext", "depth": depth, **widths, "num_classes": 100}


_DECODER, _HEAD = (512, 8, 16), (768, 12, 12)

PRESETS: dict[str, Sizes] = {
    # The released TTT-MAE models (MAE, table 1 and code; head sizes as its TTT script sets).
    "small": _mae((224, 16), (384, 12, 12), _DECODER, (512, 8, 16), 1000),
    "base": _mae((224, 16), (768, 12, 12), _DECODER, _HEAD, 1000),
    "large": _mae((224, 16), (1024, 24, 16), _DECODER, _HEAD, 1000),
    "huge": _mae((224, 14), (1280, 32, 16), _DECODER, _HEAD, 1000),
    # 32x32 and 64x64 models that two processor cores can train.
    "scenes": _mae((32, 4), (96, 4, 3), (64, 2, 2), (96, 2, 3), 10),
    "scenes-small": _mae((32, 4), (64, 4, 2), (32, 1, 1), (64, 1, 2), 10),
    "tiny-imagenet": _mae((64, 8), (192, 12, 3), (128, 4, 4), (192, 3, 3), 200),
    # For CIFAR-sized photographs: minutes on one GPU.
    "cifar": _mae((32, 4), (192, 8, 3), (128, 2, 4), (192, 2, 3), 10),
    # The source model of CIFAR-10-C, and two that two processor cores can train.
    "wrn-28-10": _wide("wide_resnet", 28, 10),
    "wrn-16-2": _wide("wide_resnet", 16, 2),
    "wrn-10-1": _wide("wide_resnet", 10, 1),
    # Class and rotation on a shared trunk (Sun et al. 2020), at a size for two processor cores.
    "rot-10-1": _wide("rotation_net", 10, 1, stem_stride=2, split=2),
    # The same at the depth of the paper's ResNet-26 (26 convolutions on the way to the class).
    "rot-28-1": _wide("rotation_net", 28, 1, split=2),
    # The source models of CIFAR-100-C and ImageNet-C, and a small one in between.
    "resnext-29": _resnext(29, 32),
    "resnext-20": _resnext(20, 16),
    "resnet-50": {"family": "resnet50", "num_classes": 1000},
    # ImageNet weights that come from the package index.
    "efficientnet-lite0": {"family": "efficientnet_lite0", "num_classes": 1000},
}


def _resnet50(**sizes: Any) -> torch.nn.Module:
    from tttlib.models.resnet50 import ResNet50  # here, because torchvision is slow to import

    return ResNet50(**sizes)


_FAMILIES: dict[str, Callable[..., torch.nn.Module]] = {
    "mae": MaskedAutoencoder,  # the default of a card that names none
    "wide_resnet": WideResNet,
    "resnext": ResNeXt,
    "rotation_net": RotationNet,
    "resnet50": _resnet50,
    "efficientnet_lite0": efficientnet_lite0,
}


def build(architecture: Mapping[str, Any]) -> Any:
    """Return a freshly initialised network of given sizes.

    Their entry `family` says which kind; without one it is a `MaskedAutoencoder`.

    Raises
    ------
    ValueError
        For an unknown family or sizes that do not divide.
    """
    sizes = dict(architecture)
    family = sizes.pop("family", "mae")
    if family not in _FAMILIES:
        raise ValueError(f"unknown model family {family!r}; known are {', '.join(_FAMILIES)}")
    return _FAMILIES[family](**sizes)


def create(name: str, **overrides: Any) -> Any:
    """Return a freshly initialised network of a preset's sizes.

    Parameters
    ----------
    name
        One of `PRESETS`.
    **overrides
        Sizes that differ from the preset's.

    Raises
    ------
    ValueError
        For an unknown name or sizes that do not divide.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown model preset {name!r}; known are {', '.join(PRESETS)}")
    return build({**PRESETS[name], **overrides})
