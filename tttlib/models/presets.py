"""Architectures by name: the sizes of the papers' models, and small ones.

`build` makes a network of given sizes, `create` one of a preset's sizes. Which file goes with a
preset, and how that model was trained, is in `sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from tttlib.models.mae import MaskedAutoencoder
from tttlib.models.resnext import ResNeXt
from tttlib.models.rotation_net import RotationNet
from tttlib.models.wide_resnet import WideResNet

_SMALL_DECODER = {"decoder_embed_dim": 512, "decoder_depth": 8, "decoder_num_heads": 16}
_HEAD_768 = {
    "classifier_embed_dim": 768,
    "classifier_depth": 12,
    "classifier_num_heads": 12,
}


def _vit(dim: int, depth: int, heads: int, patch: int, head: Mapping[str, int]) -> dict[str, Any]:
    return {
        "img_size": 224,
        "patch_size": patch,
        "embed_dim": dim,
        "depth": depth,
        "num_heads": heads,
        "num_classes": 1000,
        **_SMALL_DECODER,
        **head,
    }


# Sizes of the released TTT-MAE models (MAE, table 1 and code; head sizes as its TTT script sets).
PRESETS: dict[str, dict[str, Any]] = {
    "small": _vit(
        384,
        12,
        12,
        16,
        {"classifier_embed_dim": 512, "classifier_depth": 8, "classifier_num_heads": 16},
    ),
    "base": _vit(768, 12, 12, 16, _HEAD_768),
    "large": _vit(1024, 24, 16, 16, _HEAD_768),
    "huge": _vit(1280, 32, 16, 14, _HEAD_768),
    # 32x32 and 64x64 models that two processor cores can train.
    "scenes": {
        "img_size": 32,
        "patch_size": 4,
        "embed_dim": 96,
        "depth": 4,
        "num_heads": 3,
        "decoder_embed_dim": 64,
        "decoder_depth": 2,
        "decoder_num_heads": 2,
        "num_classes": 10,
        "classifier_embed_dim": 96,
        "classifier_depth": 2,
        "classifier_num_heads": 3,
    },
    "tiny-imagenet": {
        "img_size": 64,
        "patch_size": 8,
        "embed_dim": 192,
        "depth": 12,
        "num_heads": 3,
        "decoder_embed_dim": 128,
        "decoder_depth": 4,
        "decoder_num_heads": 4,
        "num_classes": 200,
        "classifier_embed_dim": 192,
        "classifier_depth": 3,
        "classifier_num_heads": 3,
    },
    # For CIFAR-sized photographs: minutes on one GPU.
    "cifar": {
        "img_size": 32,
        "patch_size": 4,
        "embed_dim": 192,
        "depth": 8,
        "num_heads": 3,
        "decoder_embed_dim": 128,
        "decoder_depth": 2,
        "decoder_num_heads": 4,
        "num_classes": 10,
        "classifier_embed_dim": 192,
        "classifier_depth": 2,
        "classifier_num_heads": 3,
    },
    # The source model of CIFAR-10-C, and two that two processor cores can train.
    "wrn-28-10": {"family": "wide_resnet", "depth": 28, "width": 10, "num_classes": 10},
    "wrn-16-2": {"family": "wide_resnet", "depth": 16, "width": 2, "num_classes": 10},
    "wrn-10-1": {"family": "wide_resnet", "depth": 10, "width": 1, "num_classes": 10},
    # Class and rotation on a shared trunk (Sun et al. 2020), at a size for two processor cores.
    "rot-10-1": {
        "family": "rotation_net",
        "depth": 10,
        "width": 1,
        "num_classes": 10,
        "stem_stride": 2,
        "split": 2,
    },
    # The same at the depth of the paper's ResNet-26 (26 convolutions on the way to the class).
    "rot-28-1": {
        "family": "rotation_net",
        "depth": 28,
        "width": 1,
        "num_classes": 10,
        "split": 2,
    },
    # The source models of CIFAR-100-C and ImageNet-C, and a small one in between.
    "resnext-29": {
        "family": "resnext",
        "depth": 29,
        "cardinality": 4,
        "base_width": 32,
        "num_classes": 100,
    },
    "resnext-20": {
        "family": "resnext",
        "depth": 20,
        "cardinality": 4,
        "base_width": 16,
        "num_classes": 100,
    },
    "resnet-50": {"family": "resnet50", "num_classes": 1000},
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
}


def build(architecture: Mapping[str, Any]) -> Any:
    """A freshly initialised `MaskedAutoencoder` or classifier; `family` in the sizes says which.

    Raises ValueError for an unknown family or sizes that do not divide.
    """
    sizes = dict(architecture)
    family = sizes.pop("family", "mae")
    if family not in _FAMILIES:
        raise ValueError(f"unknown model family {family!r}; known are {', '.join(_FAMILIES)}")
    return _FAMILIES[family](**sizes)


def create(name: str, **overrides: Any) -> Any:
    """A freshly initialised model of a preset's sizes.

    name       one of `PRESETS`; `overrides` replace single sizes
    Raises ValueError for an unknown name or sizes that do not divide.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown model preset {name!r}; known are {', '.join(PRESETS)}")
    return build({**PRESETS[name], **overrides})
