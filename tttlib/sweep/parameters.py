"""The parameters of a notebook or an experiment: what is declared, and what fits.

A notebook's parameters are the assignments of its cell tagged `parameters`. That cell is read with
`ast`, because papermill only warns of an unknown name and does not see every default.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Source(str):
    """The source text of a default that is no literal: any value can take its place."""


def declared_parameters(path: str | Path) -> dict[str, str]:
    """Return the source text of the default of every parameter that a notebook declares.

    Raises
    ------
    ValueError
        If the file is missing, is no notebook, or has not exactly one cell tagged `parameters`.
    """
    path = Path(path)
    cells = notebook_cells(path)
    tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{path.name} has {len(tagged)} cells tagged 'parameters', needs one")
    declared: dict[str, str] = {}
    for statement in ast.parse("".join(tagged[0]["source"])).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            source = ast.unparse(statement.value)
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            declared |= {t.id: source for t in targets if isinstance(t, ast.Name)}
    return declared


def notebook_cells(path: Path) -> list[dict[str, Any]]:
    """Return the cells of a notebook file.

    Raises
    ------
    ValueError
        If the file is missing or is no notebook.
    """
    if not path.is_file():
        known = sorted(p.name for p in path.parent.glob("*.ipynb")) if path.parent.is_dir() else []
        raise ValueError(
            f"no notebook {path}; {path.parent} has {', '.join(known) or 'no notebooks'}"
        )
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["cells"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no notebook ({error})") from error


def declared_defaults(path: str | Path) -> dict[str, Any]:
    """Return the default of every parameter of a notebook; `Source` for an expression."""
    defaults: dict[str, Any] = {}
    for name, source in declared_parameters(path).items():
        try:
            defaults[name] = ast.literal_eval(source)
        except ValueError:
            defaults[name] = Source(source)
    return defaults


def check_parameters(path: str | Path, parameters: Mapping[str, Any]) -> None:
    """Raise ValueError, listing what is legal, when a notebook does not take these parameters."""
    fitting(Path(path).name, declared_defaults(path), parameters)


def fitting(taker: str, defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values`, with whole numbers as floats where the default is a float.

    Parameters
    ----------
    taker
        Who takes these parameters, for the message.
    defaults
        Every legal name with its default.
    values
        The values to check.

    Raises
    ------
    ValueError
        For an unknown name or a value of another type; the message lists what is legal.
    """
    fitted = {}
    for name, value in values.items():
        if name not in defaults:
            each = (f"{n} = {d if isinstance(d, Source) else repr(d)}" for n, d in defaults.items())
            legal = f"it has (with defaults) {', '.join(each)}"
            raise ValueError(f"{taker} has no parameter {name!r}; {legal}")
        default = defaults[name]
        if not isinstance(default, Source) and not _fits(value, default):
            raise ValueError(
                f"parameter {name!r} of {taker} cannot be {value!r}: it needs a "
                f"{type(default).__name__} such as {default!r}"
            )
        integer = isinstance(value, int) and not isinstance(value, bool)
        fitted[name] = float(value) if integer and isinstance(default, float) else value
    return fitted


def _fits(value: Any, default: Any) -> bool:
    if default is None or value is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return type(value) is type(default)
    kinds = {float: (int, float), list: (list, tuple), tuple: (list, tuple)}
    return isinstance(value, kinds.get(type(default), type(default)))
