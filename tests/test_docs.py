"""The API reference: functions say which errors they raise, and the pages' links lead somewhere.

That every public name has a docstring, and its style, ruff checks.
"""

from __future__ import annotations

import ast
import base64
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "tttlib").rglob("*.py"))


def public(tree: ast.Module) -> list[ast.FunctionDef | ast.ClassDef]:
    """Functions and classes of a module, and functions of its classes, without an underscore."""
    found: list[ast.FunctionDef | ast.ClassDef] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            found.append(node)
    return found


TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
TOP = [node for tree in TREES.values() for node in tree.body]
CLASSES = {node.name: node for node in TOP if isinstance(node, ast.ClassDef)}
FUNCTIONS = [node for node in TOP if isinstance(node, ast.FunctionDef)]
NO_ERRORS = ("NotImplementedError", "Exit")  # left to a subclass; the end of a command


def is_command(path: Path) -> bool:
    """Whether its functions are for the command line, which tells of errors itself."""
    return path.name == "__main__.py" or path.parent.name == "commands"


class Public(NamedTuple):
    """A function that others call, its class, and the classes and protocols above that one."""

    path: Path
    node: ast.FunctionDef
    owner: ast.ClassDef | None = None

    def __str__(self) -> str:
        name = f"{self.owner.name}.{self.node.name}" if self.owner else self.node.name
        return f"{self.path.relative_to(ROOT)}:{self.node.lineno} {name}"

    def above(self) -> list[ast.ClassDef]:
        return above(self.owner, self.path) if self.owner else []

    def docstring(self) -> str:
        """With those of the methods that it overrides, and a constructor's with its class's."""
        overridden = [m for c in self.above() for m in methods(c) if m.name == self.node.name]
        constructed = [self.owner] if self.owner and self.node.name == "__init__" else []
        return docstrings(self.node, *overridden, *constructed)


def docstrings(*nodes: ast.FunctionDef | ast.ClassDef | ast.Module) -> str:
    return "\n".join(ast.get_docstring(node) or "" for node in nodes)


def methods(owner: ast.ClassDef) -> list[ast.FunctionDef]:
    return [node for node in owner.body if isinstance(node, ast.FunctionDef)]


def above(owner: ast.ClassDef, path: Path) -> list[ast.ClassDef]:
    """The package's classes that it derives from, and its module's protocols that it fulfils."""
    found = [CLASSES[name] for base in owner.bases if (name := ast.unparse(base)) in CLASSES]
    own = {m.name for m in methods(owner)}
    for node in TREES[path].body:
        if isinstance(node, ast.ClassDef) and "Protocol" in map(ast.unparse, node.bases):
            found += [node] * (node is not owner and own >= {m.name for m in methods(node)})
    return found + [further for base in found for further in above(base, path)]


def public_functions() -> Iterator[Public]:
    """All but commands, whose docstrings are the text of --help."""
    for path, tree in TREES.items():
        for node in () if is_command(path) else public(tree):
            if isinstance(node, ast.FunctionDef):
                yield Public(path, node)
                continue
            for m in methods(node):
                if not m.name.startswith("_") or m.name in ("__init__", "__call__"):
                    yield Public(path, m, node)


def raised(node: ast.AST) -> Iterator[str]:
    """What the code itself raises and does not catch, by name; not what it calls."""
    caught: set[str] = set()
    if isinstance(node, ast.Try):
        types = [ast.unparse(handler.type) for handler in node.handlers if handler.type]
        caught = set(re.findall(r"\w+", " ".join(types)))
    if isinstance(node, ast.Raise) and node.exc:
        made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        yield ast.unparse(made).split(".")[-1]
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            continue
        tried = isinstance(node, ast.Try) and child in node.body
        yield from (name for name in raised(child) if not (tried and name in caught))


def errors(name: str) -> set[str]:
    """The error, those it is one of, or those that a function of this name makes."""
    found = {name} if name[0].isupper() else set()
    for base in CLASSES[name].bases if name in CLASSES else ():
        found |= errors(ast.unparse(base))
    for maker in FUNCTIONS:
        if maker.name == name and maker.returns:
            found |= errors(ast.unparse(maker.returns))
    return found - {"Exception"}


def test_docstrings_name_the_errors() -> None:
    """Of public functions; for overriding methods it is enough that the overridden one does."""
    missing = []
    for one in public_functions():
        said = one.docstring()
        for name in sorted(set(raised(one.node)).difference(NO_ERRORS)):
            known = errors(name)  # none for a variable
            if known and not any(error in said for error in known):
                missing.append(f"{one} raises {name}")
    assert not missing, "\n".join(missing)


@pytest.mark.slow
def test_the_reference_builds_and_its_links_hold(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make.py"), str(tmp_path)],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    script = re.compile(r"<script\b.*?</script>", re.DOTALL)
    files = tmp_path.rglob("*.html")
    pages = {path: script.sub("", path.read_text(encoding="utf-8")) for path in files}
    assert (tmp_path / "tttlib" / "adapt" / "palm.html") in pages
    ids = {path: set(re.findall(r'\bid="([^"]+)"', page)) for path, page in pages.items()}
    for path, page in pages.items():
        for link in set(re.findall(r'<a [^>]*href="([^"]+)"', page)):
            if re.match(r"https?:", link):
                continue
            target, anchor = urldefrag(unquote(link))
            file = (path.parent / target).resolve() if target else path
            assert file in pages, f"{path.name}: {link}"
            anchor = anchor.removesuffix(".__init__")  # inherited ones have no place of their own
            assert not anchor or not target or anchor in ids[file], f"{path.name}: {link}"


def test_stored_pictures_get_few_colours_and_never_grow() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    import smaller_pictures

    levels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    for picture in (Image.fromarray(levels), Image.new("RGB", (4, 4), "white")):
        made = io.BytesIO()
        picture.save(made, "PNG")
        before = base64.b64encode(made.getvalue()).decode()
        after = smaller_pictures.smaller(before)
        assert len(after) <= len(before)
        with Image.open(io.BytesIO(base64.b64decode(after))) as shown:
            assert shown.size == picture.size and len(shown.convert("RGB").getcolors(9999)) <= 64
