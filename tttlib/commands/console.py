"""What the commands of the command line share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer


@contextlib.contextmanager
def interruptible(consequence: str) -> Iterator[None]:
    """Ctrl-C ends the command with one line that says what it means, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\ninterrupted: {consequence}", err=True)
        raise typer.Exit(130) from None
