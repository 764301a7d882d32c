"""The command line as a function."""

from __future__ import annotations

import pytest

from tttlib import __main__ as cli


def call(*words: object) -> int:
    """Exit code of a command; its text goes where the process's goes."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    return int(end.value.code or 0)
