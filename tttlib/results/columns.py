"""Which columns of result rows name the work, which the image, and which hold what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

KEY = "unit_key"
"""The column that says which unit a row belongs to."""

LEADING = (
    "experiment", "dataset", "split", "model", "method", "preset", "stream", "part", "domain",
    "severity", "second_severity", "step",
)  # fmt: skip
"""The order of columns in tables; others follow."""

CLUSTERS = ("photograph", "tile", "digit")
"""What makes rows of `scenes` dependent."""

AVERAGED = ("domain", "severity", "second_severity", "seed", "tensor")
"""A table that does not show these averages over them."""

WHICH_IMAGES = (
    "images", "evaluate_at", "evaluate_every", "stream_fingerprint", "heldout_fingerprint",
    "selection", "piece",
)  # fmt: skip
"""Which images a unit holds, and which of its answers were kept; not what was done to them."""

IDENTITY = ("dataset_fingerprint", "weights_sha256", "corruptions_version", "model_mismatch")
"""What must have one value in a mean, beside the protocol."""

NOTED = ("git_sha", "git_dirty", "tttlib", "device", "versions.torch")
"""What may differ between the units of a table, but is then noted below it."""

OF_IMAGES = (
    "id", "label", "class", "prediction", "verdict", "block", "round", "position", *CLUSTERS,
)  # fmt: skip
"""Belong to a single image."""

OF_VERDICTS = ("n", "margin", "level")
"""Belong to verdicts and intervals; they are neither settings nor measured."""


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Join nested names by dots and write lists as JSON: {"a": {"b": [1]}} -> {"a.b": "[1]"}."""
    joined: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            joined |= flat(value, f"{prefix}{name}.")
        else:
            joined[prefix + name] = json.dumps(value) if isinstance(value, list) else value
    return joined


def of_unit(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the provenance of a unit says of it: its fields, protocol.… and `NOTED`."""
    noted = flat({k: v for k, v in origin.items() if k not in ("unit", "protocol")})
    return {
        **flat(origin["unit"]),
        **flat(origin["protocol"], "protocol."),
        **{name: noted.get(name) for name in NOTED},
    }


def is_identity(name: str) -> bool:
    """Return whether a field must have one value in a mean and is no setting to compare."""
    return name in IDENTITY or name.startswith("protocol.")


def ordered(names: Iterable[str]) -> list[str]:
    """Sort names: `LEADING` first, the others by the alphabet."""
    rank = {name: i for i, name in enumerate(LEADING)}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))


def short(value: Any) -> str:
    """Return a value as text for tables and messages; what a unit does not say is "none"."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "none"
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return str(value)
