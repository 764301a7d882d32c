"""One parameter file for many notebooks: each takes what it declares.

Such a file is
    dataset: tiny-imagenet-50     # every notebook with a parameter of this name
    notebook 03:                  # this notebook alone; goes before the line above
      n_stream: 200
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tttlib.sweep.parameters import check_parameters, declared_parameters

_SECTION = re.compile(r"notebook +(\S+)")


def share_out(paths: Sequence[Path], parameters: Mapping[str, Any]) -> dict[Path, dict[str, Any]]:
    """Return what each notebook takes of `parameters`.

    A section "notebook NAME" (a notebook, or the beginning of its name) goes to that one.

    Raises
    ------
    ValueError
        For a name that no notebook declares, a section of no notebook, and a value that a notebook
        cannot take.
    """
    shares = _by_name(paths, parameters)
    for path in paths:
        check_parameters(path, {**shares[path], "run_dir": ""})
    return shares


def of_notebook(path: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one notebook takes of a file that may serve its neighbours, too.

    Raises
    ------
    ValueError
        As `share_out` does, but for values of this notebook alone.
    """
    paths = sorted({path, *path.parent.glob("0*.ipynb")})
    share = _by_name(paths, parameters)[path]
    check_parameters(path, {**share, "run_dir": ""})
    return share


def _by_name(paths: Sequence[Path], parameters: Mapping[str, Any]) -> dict[Path, dict[str, Any]]:
    declared = {path: declared_parameters(path) for path in paths}
    legal = sorted({name for names in declared.values() for name in names} - {"run_dir"})
    shares: dict[Path, dict[str, Any]] = {
        path: {name: value for name, value in parameters.items() if name in names}
        for path, names in declared.items()
    }
    for name, value in parameters.items():
        if (section := _SECTION.fullmatch(name)) is None:
            if name not in legal:
                known = ", ".join(legal)
                raise ValueError(f"no notebook has a parameter {name!r}; they have {known}")
            continue
        matching = [path for path in paths if path.stem.startswith(section[1])]
        if len(matching) != 1 or not isinstance(value, Mapping):
            known = ", ".join(path.stem for path in paths)
            raise ValueError(
                f"{name!r} needs lines 'name: value' for one notebook; there are {known}"
            )
        shares[matching[0]].update(value)
    return shares
