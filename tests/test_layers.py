"""The rooms of the package form layers: a module imports from its own layer or from lower ones."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import tttlib

PACKAGE = Path(tttlib.__file__).parent

# From the bottom to the top. Rooms of one layer may not import each other.
LAYERS = (
    ("runtime",),
    ("boxes", "corruptions", "statistics"),
    ("data",),
    ("models",),
    ("ttt",),
    ("adapt", "streams"),
    ("reference", "results"),
    ("evaluate",),
    ("plots",),
    ("tables",),
    ("sweep",),
    ("report", "bench"),
    ("commands",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def _modules() -> dict[str, Path]:
    """Return dotted name below the package -> file."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def _imports(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of this package that a file imports anywhere, lazily too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for package, name in names:
            if package.split(".")[0] == "tttlib":
                below = package.removeprefix("tttlib").removeprefix(".")
                inner = f"{below}.{name}".removeprefix(".")
                yield inner if inner in modules else below


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    modules = _modules()
    return {name: set(_imports(path, modules)) - {""} for name, path in modules.items() if name}


def test_every_room_has_its_layer(graph: dict[str, set[str]]) -> None:
    assert {name.split(".")[0] for name in graph} == set(LEVEL)


def test_no_import_leads_upwards(graph: dict[str, set[str]]) -> None:
    wrong = []
    for name, imported in graph.items():
        room = name.split(".")[0]
        for other in imported:
            there = other.split(".")[0]
            if there != room and LEVEL[there] >= LEVEL[room]:
                wrong.append(f"{name} -> {other}")
    assert not wrong


def test_no_imports_form_a_circle(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("circle of imports: " + " -> ".join(reversed(error.args[1])))


def test_few_modules_lie_at_the_top() -> None:
    loose = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert len(loose) <= 3, loose
