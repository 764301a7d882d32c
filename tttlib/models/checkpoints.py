"""Released checkpoints: renamed to our keys, loaded strictly, with what their files do not say."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tttlib.models import efficientnet_lite, identity, key_names
from tttlib.models.presets import PRESETS, build
from tttlib.models.sources import SOURCES, STANDARD_R50, Source, class_names
from tttlib.models.weight_files import CheckpointError, tensors, weights_hash

logger = logging.getLogger(__name__)

State = dict[str, Tensor]


def load(
    path: str | Path,
    preset: str,
    *,
    head: str | Path | None = None,
    average: bool | None = None,
    **sizes: Any,
) -> Any:
    """Load a released model in eval mode, float32, on the CPU, with normalisation and classes.

    The decoders of `mae_visualize_*` and of Hugging Face predict plain pixels (norm_pix_loss
    False), those of `mae_pretrain_*_full` standardised ones; no key says so, the format and the
    file's name do. Normalisation is the preset's; a file that carries its own (`mu`,
    `normalize.mean`) wins, with a logged warning where the two differ. `num_batches_tracked`, which
    old files lack, may be absent.

    Parameters
    ----------
    path
        RobustBench's Standard.pt, PALM's natural.pt.tar, AugMix's ResNeXt, torchvision's ResNet-50
        (bare or inside the ImageNet wrapper), MAE with its decoder, or Hugging Face's ViTMAE.
        `.card` says what was assumed.
    preset
        The architecture, one of `sources.SOURCES`.
    head
        File of a separately probed MAE head (ViT or linear), merged with `path`. Without one, and
        without a head in `path`, the model has head_type "none" and cannot classify.
    average
        Which weights to take of a file that holds raw ones and their moving average (EMA): the
        average (True), the raw ones (False), or the average where there is one (None). The choice
        is logged and stands in `.card["weights"]`.
    **sizes
        Sizes that differ from the preset's (num_classes=…). The published accuracy then no longer
        applies, and with another number of classes their names neither.

    Raises
    ------
    ValueError
        For a preset without a released file, or a head that does not go with it.
    FileNotFoundError
        For a missing file.
    CheckpointError
        For a file that does not fit; the message names the file, the keys and what to do.
    """
    path, source = Path(path), _source(preset)
    architecture = {**PRESETS[preset], **sizes}
    mae = "family" not in architecture
    if head is not None and not mae:
        raise ValueError(f"preset {preset!r} has no separate head; leave head={str(head)!r} out")
    files = [path] if head is None else [path, Path(head)]
    state, kind = tensors(path, average)
    mean, std = _normalisation(state, source, path)
    wrapped = "normalize.mean" in state
    state = {k: v for k, v in state.items() if k not in sum(key_names.NORMALISATION, ())}
    if mae:
        architecture.setdefault("norm_pix_loss", not _predicts_plain_pixels(state, path))
        state = _masked_autoencoder(state, *files)
        architecture.setdefault("head_type", key_names.head_type(state))
    elif preset == "efficientnet-lite0":
        state = efficientnet_lite.from_released(state)
    model = build(architecture)
    fit(
        model,
        state,
        " with the head ".join(map(str, files)),
        to=f"preset {preset!r}",
        remedy=f"That preset takes {source.file}. Fetch that file again, name the preset this one "
        "was made for, or give the sizes that differ (num_classes=…)",
    )
    model.mean.copy_(mean)
    model.std.copy_(std)
    names = class_names(source.classes)
    model.classes = names if model.num_classes == len(names) else ()
    expected, on = source.clean_accuracy, source.accuracy_on
    if wrapped and preset == "resnet-50":
        expected, on = STANDARD_R50
    model.card = {
        "name": path.stem,
        "preset": preset,
        "files": [file.name for file in files],
        "weights_sha256": weights_hash(*files),
        "architecture": architecture,
        **({"weights": kind} if kind else {}),
        "mean": [round(v, 6) for v in mean.flatten().tolist()],
        "std": [round(v, 6) for v in std.flatten().tolist()],
        "classes": list(model.classes),
        "clean_accuracy": None if sizes else expected,
        "clean_accuracy_on": "" if sizes else on,
    }
    return identity.remember(model.eval())


def fit(model: torch.nn.Module, state: State, path: str | Path, *, to: str, remedy: str) -> None:
    """Load a state dict strictly, or raise one CheckpointError that says everything that is wrong.

    That is missing, extra and wrongly shaped keys, and NaN or infinite values. Tensors of the file
    may be of any floating type. `to` says what the file should fit, and `remedy` what to do when it
    does not.
    """
    expected = model.state_dict()
    state = {k: v for k, v in expected.items() if k.endswith("num_batches_tracked")} | state
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    both = [k for k in expected if k in state]
    kinds = {k: (state[k].dtype, expected[k].dtype) for k in both}
    shapes = {k: (list(state[k].shape), list(expected[k].shape)) for k in both}
    problems = {
        "missing": missing,
        "not of this model": extra,
        "probably renamed": _renamed({k: expected[k] for k in missing}, state, extra),
        "wrong shape": [f"{k} is {a}, not {b}" for k, (a, b) in shapes.items() if a != b],
        "wrong type": [
            f"{k} is {a}, not {b}"
            for k, (a, b) in kinds.items()
            if a.is_floating_point != b.is_floating_point
        ],
    }
    if any(problems.values()):
        wrong = "; ".join(f"{len(n)} {what} ({_few(n)})" for what, n in problems.items() if n)
        raise CheckpointError(f"{path} does not fit {to}: keys {wrong}. {remedy}")
    broken = [k for k in both if not state[k].isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{path} holds NaN or infinite values in {len(broken)} of {len(both)} keys "
            f"({_few(broken)}); fetch or train it again"
        )
    model.load_state_dict(state)


def _source(preset: str) -> Source:
    if preset not in SOURCES:
        known = ", ".join(SOURCES)
        raise ValueError(
            f"no released checkpoint is known for preset {preset!r}; there are some for {known}. "
            "A model of your own needs a card beside its .safetensors file"
        )
    return SOURCES[preset]


def _normalisation(state: State, source: Source, path: Path) -> tuple[Tensor, Tensor]:
    """Return mean and deviation [1,3,1,1]: the file's where it has them, else the published."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (source.mean, source.std))
    for names in key_names.NORMALISATION:
        stored = [state[name] for name in names if name in state]
        if not stored:
            continue
        if len(stored) < 2 or any(v.numel() != 3 or not v.isfinite().all() for v in stored):
            shapes = {name: list(state[name].shape) for name in names if name in state}
            raise CheckpointError(
                f"{path} holds a normalisation that cannot be used: {' and '.join(names)} must be "
                f"three finite values each, found {shapes}; fetch it again or remove both"
            )
        own = [v.float().view(1, 3, 1, 1) for v in stored]
        if not (own[1] > 0).all():
            raise CheckpointError(
                f"{path} holds a deviation {names[1]} of {own[1].flatten().tolist()}, which must "
                f"be positive; fetch it again or remove {' and '.join(names)}"
            )
        if not all(torch.allclose(a, b, atol=1e-3) for a, b in zip(own, (mean, std), strict=True)):
            theirs, ours = (v.flatten().tolist() for v in own), (source.mean, source.std)
            logger.warning(
                "%s normalises with %s and %s, but the published model with %s and %s; the file's "
                "values are used",
                *(path, *theirs, *ours),
            )
        mean, std = own
    return mean, std


def _masked_autoencoder(state: State, path: Path, head: Path | None = None) -> State:
    """Join encoder, decoder and classifier under the keys of `MaskedAutoencoder`."""
    if key_names.is_hugging_face(state):
        state = key_names.from_hugging_face(state)
    if "patch_embed.proj.weight" in state and not any(k.startswith("decoder") for k in state):
        raise CheckpointError(
            f"{path} holds an encoder without the decoder, and test-time training needs both "
            "(missing: mask_token, decoder_embed, decoder_blocks, decoder_pred, …). The ordinary "
            "mae_pretrain_vit_*.pth have none; take mae_pretrain_vit_large_full.pth, "
            "mae_visualize_vit_*.pth or facebook/vit-mae-*"
        )
    inside = key_names.head(state)
    if head is None:
        return state
    if inside:
        raise CheckpointError(
            f"{path} already holds a head ({_few(sorted(inside))}); leave head={str(head)!r} out"
        )
    probed = tensors(head).state
    classifier = key_names.head(probed)
    if not classifier:
        raise CheckpointError(
            f"{head} holds no head: none of its {len(probed)} keys ({_few(sorted(probed))}) starts "
            "with classifier or is head.1.weight; give the checkpoint that probing wrote"
        )
    shared = [k for k in probed.keys() & state.keys() if probed[k].shape == state[k].shape]
    differing = sorted(k for k in shared if not torch.allclose(probed[k], state[k], atol=1e-4))
    if differing:
        logger.warning(
            "%s was probed on another encoder than that of %s: %d of %d shared keys differ (%s)",
            *(head, path, len(differing), len(shared), _few(differing)),
        )
    return state | classifier


def _predicts_plain_pixels(state: State, path: Path) -> bool:
    return key_names.is_hugging_face(state) or path.name.startswith("mae_visualize")


def _renamed(missing: State, state: State, extra: list[str]) -> list[str]:
    """Pairs that only their shape connects, and only where no other key has that shape."""
    pairs = []
    for ours, wanted in missing.items():
        rivals = [k for k, v in missing.items() if v.shape == wanted.shape]
        theirs = [k for k in extra if state[k].shape == wanted.shape]
        if len(rivals) == len(theirs) == 1:
            pairs.append(f"{theirs[0]} for {ours}")
    return pairs


def _few(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
