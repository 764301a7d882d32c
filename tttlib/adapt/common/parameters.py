"""Which parameters a method trains.

But for `everything`, a parameter is considered if its own name is `weight` or `bias` (class tokens
and position embeddings are not) and if the logits depend on it (the decoder of a masked autoencoder
is not, nor is the rotation branch of a `RotationNet`). Names come in the order of
`named_parameters`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tttlib.models.mae import MaskedAutoencoder
from tttlib.models.rotation_net import RotationNet

_FIRST = re.compile(r"(^|\.)(layer1|block1|stage_1|blocks\.0)(\.|$)")
_LAST = re.compile(r"layer4|blocks\.9|blocks\.10|blocks\.11|norm\.|^norm$")
NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_IDLE = {MaskedAutoencoder: "decoder_", RotationNet: "rotation_"}  # parts of self-supervision


def all_weights(model: nn.Module) -> list[str]:
    """Return the names of all weights and biases."""
    return _names(model, lambda name, module: True)


def everything(model: nn.Module) -> list[str]:
    """Return the names of all parameters that the logits depend on, tokens and embeddings too.

    The position embeddings of a masked autoencoder are fixed, and left out.
    """
    fixed = re.compile(r"mask_token|\w*pos_embed" if isinstance(model, MaskedAutoencoder) else "$^")
    names = {
        f"{name}.{own}".lstrip(".")
        for name, module in classifying(model)
        for own, _ in module.named_parameters(recurse=False)
    }
    return [n for n, _ in model.named_parameters() if n in names and not fixed.fullmatch(n)]


def batch_norm_affine(model: nn.Module) -> list[str]:
    """Return the names of weights and biases of BatchNorm layers."""
    return _names(model, lambda name, module: isinstance(module, _BatchNorm))


def norm_affine(model: nn.Module) -> list[str]:
    """Return the names of weights and biases of the normalisation layers."""
    return _names(model, lambda name, module: isinstance(module, NORMS))


def lower_norms(model: nn.Module) -> list[str]:
    """Return the names of weights and biases of the normalisation layers before the last stage.

    A rule about names, that of SAR's and DeYO's codes: `layer4` is left out, and so are the blocks
    9, 10 and 11 of timm's transformers, however many there are, and their last layer, `norm`.
    Nothing is left out of a WRN (`block3`), a ResNeXt-29 (`stage_3`) or torchvision's transformers.
    """
    return _names(model, lambda name, module: isinstance(module, NORMS) and not _LAST.search(name))


def convolutions_and_norms(model: nn.Module) -> list[str]:
    """Return the names of weights and biases of convolutions and normalisation layers."""
    return _names(model, lambda name, module: isinstance(module, NORMS + CONVOLUTIONS))


def first_block(model: nn.Module) -> list[str]:
    """Return the names in the first stage of a CNN, or in a transformer's first block.

    That is `layer1`, `block1` or `stage_1` without the stem, or `blocks.0`.
    """
    return _names(model, lambda name, module: bool(_FIRST.search(name)))


def _names(model: nn.Module, wanted: Callable[[str, nn.Module], bool]) -> list[str]:
    names = {
        f"{name}.{own}".lstrip(".")
        for name, module in classifying(model)
        for own, _ in module.named_parameters(recurse=False)
        if own in ("weight", "bias") and wanted(name, module)
    }
    return [name for name, _ in model.named_parameters() if name in names]


def classifying(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of everything that the logits depend on."""
    idle: tuple[str, ...] = ()
    for name, module in model.named_modules():
        parts = [part for kind, part in _IDLE.items() if isinstance(module, kind)]
        idle += tuple(f"{name}.{part}".lstrip(".") for part in parts)
        if not name.startswith(idle):
            yield name, module
