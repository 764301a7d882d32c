"""Finding the files of a dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tttlib.runtime.errors import MissingDataError, unreadable


def find(dataset: str, root: Path, places: Sequence[str], source: str) -> Path:
    """Return the first of the folders `places` under `root` that exists, or `root` if it is one.

    Parameters
    ----------
    dataset
        Name of the dataset, for the message.
    root
        The data root.
    places
        Relative paths, in the order in which they are tried.
    source
        Where the files are to be had; ends the message.

    Raises
    ------
    MissingDataError
        Naming every place looked at.
    DamagedDataError
        For a place that cannot be read.
    """
    candidates = [root / place for place in places]
    last_names = {Path(place).name for place in places}
    for candidate in [*candidates, *([root] if root.resolve().name in last_names else [])]:
        try:
            if candidate.is_dir():
                return candidate
        except OSError as error:
            raise unreadable(candidate, error) from error
    looked = " or ".join(str(candidate) for candidate in candidates)
    raise MissingDataError(
        f"{dataset}: looked for {looked}, without success. Get it from {source} and unpack it "
        f"under {root}, or point TTTLIB_DATA (or root=) at the folder that holds it."
    )


def listing(folder: Path) -> list[os.DirEntry[str]]:
    """Return the folder's entries sorted by name, without hidden ones.

    Raises DamagedDataError for a folder that cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if e.name[0] != "."), key=lambda e: e.name)
    except OSError as error:
        raise unreadable(folder, error) from error
