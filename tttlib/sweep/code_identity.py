"""Which source files a unit of work uses, and what they hold: rows of other code are not reused.

The sources of an experiment are its module and every module that it imports, directly or through
others, as far as they belong to this package, lie beside the grid, or are installed from a folder
of one's own (packages in site-packages count only if the experiment itself is from there). Those of
a notebook are its code cells and what they import. Imports are read from the text, nothing is
imported, so imports inside functions count, too.

`tttlib.adapt` imports every method file. A unit that names its methods (parameters `method` or
`methods`) depends on those files alone, and so does not change when another method is edited.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import itertools
import sys
from collections.abc import Iterator, Mapping, Set
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from tttlib import __version__
from tttlib.sweep.parameters import notebook_cells

_PACKAGE = "tttlib"
# They run units, or read what units wrote; no row depends on them.
_LEFT_OUT = tuple(f"{_PACKAGE}.{name}" for name in ("__main__", "commands", "report", "bench"))
_RUNNERS = f"{_PACKAGE}.sweep"
_READERS = f"{_PACKAGE}.results"
_METHODS = f"{_PACKAGE}.adapt"


def of_experiment(
    module: str, parameters: Mapping[str, Any], folder: str | Path | None = None
) -> dict[str, str]:
    """Return file name -> 16 hex digits of its content for an experiment.

    Parameters
    ----------
    module
        Name of the module that holds the experiment.
    parameters
        All parameters of the unit; `method` and `methods` say which method files count.
    folder
        Folder of the grid, whose modules can be imported after all others.
    """
    methods = _named_methods(parameters)
    if methods is None and module.startswith(f"{_PACKAGE}."):
        methods = frozenset()  # a built-in experiment without such a parameter adapts with none
    return _graph((module,), folder, methods, own={module.partition(".")[0]})


def of_notebook(path: str | Path, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return file name -> 16 hex digits for a notebook's code cells and all that they import."""
    path = Path(path)
    cells = [cell for cell in notebook_cells(path) if cell.get("cell_type") == "code"]
    code = ["".join(cell.get("source", [])) for cell in cells]
    plain = "\n".join(line for cell in code for line in cell.splitlines() if line[:1] not in "%!?")
    try:
        names = tuple(dict.fromkeys(_imported(ast.parse(plain), "")))
    except SyntaxError:  # the run itself will tell
        names = ()
    table = _graph(names, path.parent, _named_methods(parameters))
    return {path.name: _hash("\0".join(code).encode()), **table}


def digest(table: Mapping[str, str]) -> str:
    """Return 16 hex digits that stand for a table of sources."""
    return _hash("\n".join(f"{name} {value}" for name, value in sorted(table.items())).encode())


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Say in words which sources differ between two tables; "" if none does."""
    names = [n for n in sorted({**before, **after}) if before.get(n) != after.get(n)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def edited(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Say in words which of the sources that both tables name differ; "" if none does."""
    both = before.keys() & after.keys()
    return changed(*({name: table[name] for name in both} for table in (before, after)))


def _named_methods(parameters: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the methods that the parameters name; None if they name none."""
    values = (parameters.get("method"), parameters.get("methods"))
    flat = [v for value in values for v in (value if isinstance(value, list) else [value])]
    return frozenset(v for v in flat if isinstance(v, str)) or None


def _graph(
    roots: tuple[str, ...],
    folder: str | Path | None,
    methods: frozenset[str] | None,
    own: Set[str] = frozenset(),
) -> dict[str, str]:
    """Follow imports from `roots`, into installed packages only if they are `own`.

    Method files count if they are among `methods` (None: all of them).
    """
    only_rows, own = bool(own), own | {_PACKAGE}
    waiting = [parent for root in roots for parent in _with_parents(root)]
    if any(name == _PACKAGE or name.startswith(f"{_PACKAGE}.") for name in waiting):
        waiting.append(_PACKAGE)
    table, seen = {"tttlib": __version__}, set()
    while waiting:
        name = waiting.pop()
        if name in seen or not _counts(name, own, only_rows):
            continue
        seen.add(name)
        origin = _file(name, str(folder or ""))
        if origin is None or (_installed(origin) and name.partition(".")[0] not in own):
            continue
        table[_shown(name, origin)], imported = _module(origin, name, origin.stat().st_mtime_ns)
        waiting += imported
        if name == _METHODS:
            files = {path.stem for path in origin.parent.glob("*.py")} - {"__init__"}
            kept = files if methods is None or not methods <= files else methods
            waiting += [f"{_METHODS}.{stem}" for stem in kept]
    return table


def _counts(name: str, own: Set[str], only_rows: bool) -> bool:
    """Whether a module has a part in the rows, or (in a notebook) in the tables and figures."""
    if name.partition(".")[0] in sys.stdlib_module_names - own:
        return False
    if only_rows and name.startswith(f"{_READERS}."):
        return name == f"{_READERS}.store"
    if name.startswith(f"{_RUNNERS}."):
        return name in (f"{_RUNNERS}.experiments", f"{_RUNNERS}.fingerprints")
    return name != _RUNNERS and not any(name == n or name.startswith(f"{n}.") for n in _LEFT_OUT)


def _with_parents(name: str) -> list[str]:
    """Return a.b.c with the packages that are imported before it: a, a.b, a.b.c."""
    return list(itertools.accumulate(name.split("."), "{}.{}".format))


@functools.cache
def _file(name: str, folder: str) -> Path | None:
    """Return the file of a module without importing it; None if it has none."""
    parent, _, _ = name.rpartition(".")
    try:
        if not parent:
            spec = _unimported(name) or (PathFinder.find_spec(name, [folder]) if folder else None)
        else:
            package = _file(parent, folder)
            if package is None or package.name != "__init__.py":
                return None
            spec = PathFinder.find_spec(name, [str(package.parent)])
    except (ImportError, ValueError, AttributeError):
        return None
    origin = None if spec is None else spec.origin
    return Path(origin).resolve() if origin and origin.endswith(".py") else None


def _unimported(name: str) -> ModuleSpec | None:
    """Return the spec of a top-level module, as far as `sys.path` has it."""
    if name in sys.modules and getattr(sys.modules[name], "__spec__", None) is None:
        return None
    return importlib.util.find_spec(name)


def _installed(origin: Path) -> bool:
    return bool({"site-packages", "dist-packages"} & set(origin.parts))


def _shown(name: str, origin: Path) -> str:
    """Return the name of a source file, the same in every checkout: tttlib/adapt/palm.py."""
    depth = name.count(".") + (2 if origin.name == "__init__.py" else 1)
    return "/".join(origin.parts[-depth:])


@functools.lru_cache(maxsize=4096)
def _module(origin: Path, name: str, mtime_ns: int) -> tuple[str, tuple[str, ...]]:
    """Return the hash of a source file, and the modules that it imports."""
    text = origin.read_bytes()
    package = name if origin.name == "__init__.py" else name.rpartition(".")[0]
    try:
        imported = tuple(dict.fromkeys(_imported(ast.parse(text), package)))
    except (SyntaxError, ValueError):
        imported = ()
    return _hash(text), imported


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield every module that a source may import, with the packages it lies in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if node.level else []
            base = parts[: len(parts) - (node.level - 1)] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            if module:
                yield from _with_parents(module)
                # a name may be a module of the package; one that is not has no file
                yield from (f"{module}.{alias.name}" for alias in node.names)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
