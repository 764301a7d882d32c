"""The time as records tell it."""

from __future__ import annotations

import datetime


def now() -> str:
    """UTC in ISO format, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
