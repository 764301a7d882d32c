"""Continual test-time adaptation: one method, one file.

`create(name, model)` makes an `Adapter`, which is called with a batch of images and answers with
their logits while it learns from them. A module of this package that defines a subclass of
`Adapter` is a method and is found by itself. `tttlib.reference.palm` is PALM in the plainest form,
the place to read the algorithm first.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from torch import nn

from tttlib.adapt.common.adapter import METHODS, Adapter, Config

__all__ = ["METHODS", "NAMES", "PRESETS", "Adapter", "Config", "answer_of", "create"]

PRESETS = ("cifar10-c", "cifar100-c", "imagenet-c")
# Rows of the papers' tables, then the methods since; a method that is not listed follows.
_ORDER = (
    "source", "bn1", "tent", "cotta", "ecotta", "adacontrast", "surgical", "dss", "law", "autolr",
    "palm", "palm_ttt", "rotation", "eta", "eata", "rdumb", "sar", "deyo", "roid", "cmf", "rotta",
    "memo", "shot", "actmad", "lame", "t3a", "neo",
)  # fmt: skip

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")

NAMES: tuple[str, ...] = tuple(
    sorted(METHODS, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
)
"""The methods, in the order of the papers' tables."""


def answer_of(name: str) -> str:
    """Return where the logits of a method come from, in words; ValueError for an unknown name."""
    return _method(name).answer


def create(name: str, model: nn.Module, *, preset: str | None = None, **overrides: Any) -> Adapter:
    """Make the method `name` on a copy of a network.

    Parameters
    ----------
    name
        One of `NAMES`.
    model
        Maps images [B,3,H,W] in [0,1] to logits [B,C]; normalises by itself.
    preset
        Constants of the papers for "cifar10-c" (the default), "cifar100-c" or "imagenet-c".
    **overrides
        Replace single constants, see the method's `Config`.

    Raises
    ------
    ValueError
        For an unknown name, preset or constant, or a network that the method has no meaning for.
    """
    method = _method(name)
    return method(model, method.settings(preset, overrides))


def _method(name: str) -> type[Adapter]:
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; known are {', '.join(NAMES)}")
    return METHODS[name]
