"""Finding the files of a dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
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
        if is_folder(candidate):
            return candidate
    looked = " or ".join(str(candidate) for candidate in candidates)
    raise MissingDataError(
        f"{dataset}: looked for {looked}, without success. Get it from {source} and unpack it "
        f"under {root}, or point TTTLIB_DATA (or root=) at the folder that holds it."
    )


def is_folder(path: Path) -> bool:
    """Return whether there is such a folder; DamagedDataError if the system does not say."""
    try:
        return path.is_dir()
    except OSError as error:
        raise unreadable(path, error) from error


def listing(folder: Path) -> list[Path]:
    """Return what is in the folder, sorted by name, without hidden ones.

    Raises DamagedDataError for a folder that cannot be read.
    """
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if name[0] != "."]
    except OSError as error:
        raise unreadable(folder, error) from error


def first_with(places: Iterable[Path], name: str) -> Path | None:
    """Return the file of that name in the first of the folders that has it."""
    return next((place / name for place in places if (place / name).is_file()), None)
