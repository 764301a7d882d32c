"""The time as result files record it."""

from __future__ import annotations

import datetime


def now() -> str:
    """Return the present time in UTC, in ISO format, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
