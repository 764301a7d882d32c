"""The two options of every released corrupted set: which corruption, how severe."""

from __future__ import annotations

from numbers import Integral

from tttlib import corruptions

NAMES = corruptions.NAMES + corruptions.EXTRA_NAMES
SEVERITIES = (1, 2, 3, 4, 5)


def check(dataset: str, corruption: str | None, severity: int) -> tuple[str, int]:
    """Return both if the released files have them; ValueError lists the legal values otherwise."""
    if corruption not in NAMES:
        what = "needs corruption=" if corruption is None else f"has no corruption {corruption!r}"
        raise ValueError(f"{dataset} {what}; legal are {', '.join(NAMES)}")
    whole = isinstance(severity, Integral) and not isinstance(severity, bool)
    if not whole or severity not in SEVERITIES:
        raise ValueError(
            f"{dataset} has the severities 1, 2, 3, 4, 5, not {severity!r}; for one in between use "
            "ImageSet.corrupted on the clean set"
        )
    return corruption, int(severity)
