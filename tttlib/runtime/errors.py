"""The errors that files of data raise, whatever reads them."""

from __future__ import annotations

from pathlib import Path


class MissingDataError(FileNotFoundError):
    """The files of a dataset are not where they were looked for."""


class DamagedDataError(ValueError):
    """The files of a dataset are there, but truncated or inconsistent."""


def unreadable(path: Path, error: OSError) -> DamagedDataError:
    """Return the error to raise when the operating system does not let `path` be read."""
    reason = error.strerror or str(error)
    return DamagedDataError(
        f"{path} cannot be read ({reason}); check its permissions and links, or unpack it again"
    )
