"""Models by name: presets of the papers, and the weights that travel with the package.

A bundled checkpoint is a pair: `NAME.safetensors` (fp16, released key names) and `NAME.json`,
its card: architecture, normalisation, classes, recipe, seed, git sha, data fingerprint, epochs,
clean accuracy. `load` takes a bundled name or the path of such a pair anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tttlib.models.mae import MaskedAutoencoder
from tttlib.models.wide_resnet import WideResNet

WEIGHTS = Path(__file__).parent.parent / "weights"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

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
    # The source model of CIFAR-10-C, and two that two processor cores can train.
    "wrn-28-10": {"family": "wide_resnet", "depth": 28, "width": 10, "num_classes": 10},
    "wrn-16-2": {"family": "wide_resnet", "depth": 16, "width": 2, "num_classes": 10},
    "wrn-10-1": {"family": "wide_resnet", "depth": 10, "width": 1, "num_classes": 10},
}

_FAMILIES: dict[str, type[torch.nn.Module]] = {
    "mae": MaskedAutoencoder,  # the default of a card that names none
    "wide_resnet": WideResNet,
}


_NEEDED = ("architecture", "mean", "std", "classes")


class CheckpointError(ValueError):
    """A checkpoint that cannot be what its name or card says."""


def bundled() -> tuple[str, ...]:
    """Names of the checkpoints that travel with the package."""
    return tuple(sorted(path.stem for path in WEIGHTS.glob("*.safetensors")))


def build(architecture: Mapping[str, Any]) -> Any:
    """A freshly initialised `MaskedAutoencoder` or classifier; `family` in the sizes says which."""
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


def load(name_or_path: str | Path, *, device: str | torch.device = "cpu") -> Any:
    """A trained model in eval mode, float32, with `.mean`, `.std`, `.classes` and `.card`.

    name_or_path  a bundled name (`bundled()`) or the path of a .safetensors file with its card
    Raises ValueError (unknown name), FileNotFoundError (path or card) or CheckpointError (no
    safetensors file; missing, extra or wrongly shaped keys).
    """
    path = _locate(name_or_path)
    card = read_card(path)
    model = build(card["architecture"])
    _load_strictly(model, _read_tensors(path), path)
    model.mean.copy_(torch.tensor(card["mean"]).view(1, -1, 1, 1))
    model.std.copy_(torch.tensor(card["std"]).view(1, -1, 1, 1))
    model.classes = tuple(card["classes"])
    model.card = {**card, "name": path.stem, "weights_sha256": weights_hash(path)}
    return model.eval().to(device)


def save(model: torch.nn.Module, path: Path, card: Mapping[str, Any]) -> Path:
    """Write `path` (.safetensors, fp16) and its card, each complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        k: (v.half() if v.is_floating_point() else v).detach().cpu().contiguous()
        for k, v in model.state_dict().items()
    }
    temporary = path.with_suffix(".safetensors.tmp")
    save_file(tensors, temporary)
    text = json.dumps(dict(card), indent=1)
    card_temporary = path.with_suffix(".json.tmp")
    card_temporary.write_text(text + "\n")
    temporary.chmod(card_temporary.stat().st_mode)  # the writer makes it readable to the owner only
    os.replace(card_temporary, path.with_suffix(".json"))
    os.replace(temporary, path)
    return path


def read_card(path: Path) -> dict[str, Any]:
    """The card beside a .safetensors file."""
    card = path.with_suffix(".json")
    if not card.is_file():
        raise FileNotFoundError(
            f"{path.name} has no card: {card} is missing; it must hold at least "
            "architecture, mean, std and classes"
        )
    try:
        found = json.loads(card.read_text())
        missing = [key for key in _NEEDED if key not in found]
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise CheckpointError(f"{card} is no JSON object ({error}); fetch it again") from error
    if not isinstance(found, dict) or missing:
        raise CheckpointError(f"{card} lacks {', '.join(missing or _NEEDED)}; fetch it again")
    return found


def weights_hash(path: Path) -> str:
    """sha256 of the file, 16 hex digits: what result rows are traced to."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _locate(name_or_path: str | Path) -> Path:
    if str(name_or_path) in bundled():
        return WEIGHTS / f"{name_or_path}.safetensors"
    path = Path(name_or_path)
    if path.suffix or len(path.parts) > 1:
        if not path.is_file():
            raise FileNotFoundError(
                f"no checkpoint at {path}; bundled names are {', '.join(bundled())}"
            )
        return path
    raise ValueError(
        f"unknown model {str(name_or_path)!r}; bundled are {', '.join(bundled()) or '(none)'}; "
        "or give the path of a .safetensors file (`tttlib train RECIPE` makes one)"
    )


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path} is no complete safetensors file ({error}); fetch or train it again"
        ) from error


def _load_strictly(model: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """`load_state_dict` with one message that says everything that is wrong."""
    expected = model.state_dict()
    shapes = [
        f"{k} is {list(tensors[k].shape)}, not {list(expected[k].shape)}"
        for k in expected
        if k in tensors and tensors[k].shape != expected[k].shape
    ]
    problems = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "not of this model": sorted(tensors.keys() - expected.keys()),
        "wrong shape": shapes,
    }
    found = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for what, names in problems.items()
        if names
    ]
    if found:
        raise CheckpointError(
            f"{path} does not fit the sizes of its card: keys {'; '.join(found)}. "
            "Check the card's architecture or use the checkpoint it was written for"
        )
    model.load_state_dict(tensors)
