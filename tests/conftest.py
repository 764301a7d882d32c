"""Fixtures: real images and recorded outputs, which users do not have; clean registers."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tttlib import adapt


def _folder(variable: str) -> Path:
    if not os.environ.get(variable):
        pytest.skip(f"needs ${variable}, which is not set")
    folder = Path(os.environ[variable])
    if not folder.is_dir():
        pytest.fail(f"${variable} names {folder}, which is no folder")
    return folder


# What starts processes and runs notebooks takes longest. It goes first, so that no process is left
# with a long file while the others are done.
LONGEST = ("tests/test_notebooks", "notebooks/", "runs/nbval/whole_", "tests/test_", "tests/sweep/",
           "tests/commands/", "tests/bench/", "tests/evaluate/")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: [not item.nodeid.startswith(path) for path in LONGEST])


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with real datasets."""
    return _folder("TTTLIB_DATA")


@pytest.fixture(scope="session")
def oracles_root() -> Path:
    """Folder with recorded outputs of the released implementations."""
    return _folder("TTTLIB_ORACLES")


@pytest.fixture(autouse=True)
def levels_of_logging() -> Iterator[None]:
    """A command that ran in this process does not make later tests talkative."""
    loggers = [logging.getLogger(name) for name in ("", "tttlib")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.fixture
def methods_forgotten() -> Iterator[None]:
    """Adaptation methods that a test defines are unknown after it."""
    before = set(adapt.METHODS)
    yield
    for name in set(adapt.METHODS) - before:
        del adapt.METHODS[name]
