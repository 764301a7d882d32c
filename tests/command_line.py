"""The command line as a function."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest

from tttlib import __main__ as cli


class Ended(NamedTuple):
    """Exit code of a command, and what it printed."""

    code: int
    out: str
    err: str


def call(*words: object) -> Ended:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    return Ended(int(end.value.code or 0), out.getvalue(), err.getvalue())
