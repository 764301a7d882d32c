"""What the commands of the command line share."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
_FOLDER_OPTION = {"study": "--runs", "run": "--run-dir", "data": "--data or --out"}


@contextlib.contextmanager
def interruptible(consequence: str) -> Iterator[None]:
    """Make Ctrl-C end the command with one line that says what it means, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\ninterrupted: {consequence}", err=True)
        raise typer.Exit(130) from None


def pairs(options: Sequence[str] | None, complaint: str, *, empty: bool = False) -> dict[str, Any]:
    """Return the names and values of a repeated option NAME=VALUE, where VALUE is YAML.

    Parameters
    ----------
    options
        What was given, each NAME=VALUE.
    complaint
        What the option needs, with an example: begins the message.
    empty
        Whether a value may be missing after the "=".

    Raises
    ------
    ValueError
        For an entry without a name or a value.
    """
    from tttlib.sweep import parse_value

    values = {}
    for pair in options or ():
        name, sign, value = pair.partition("=")
        if not name or not sign or not (value or empty):
            raise ValueError(f"{complaint}; got {pair!r}")
        values[name] = parse_value(value)
    return values


def remedy(error: BaseException, command: str) -> str:
    """Say which option or variable helps where a file cannot be written; "" if none does.

    Parameters
    ----------
    error
        An OSError, or an error whose text quotes one (as that of a notebook's cell does).
    command
        The command that failed, which has an option for its folder.
    """
    from tttlib.runtime.paths import cache_root, data_root

    text = str(error)
    if not any(f"[Errno {code}]" in text for code in _UNWRITABLE):
        return ""
    quoted = re.search(r"\[Errno \d+\][^']*'([^']+)'", text)
    path = Path(quoted[1]) if quoted else None
    option = _FOLDER_OPTION.get(command, "--out")
    if path is not None:
        for root, variable in ((cache_root(), "$TTTLIB_CACHE"), (data_root(None), "$TTTLIB_DATA")):
            if path.is_relative_to(root):
                return f"; set {variable} to a folder that can be written, with enough space"
        return f"; name a folder that can be written with {option}"
    return f"; free some space, or name other folders with {option} and $TTTLIB_CACHE"
