"""The API reference: every public name says what it is, and the pages' links lead somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "tttlib").rglob("*.py"))


def public(tree: ast.Module) -> list[ast.FunctionDef | ast.ClassDef]:
    """Functions and classes of a module, and functions of its classes, without an underscore."""
    found: list[ast.FunctionDef | ast.ClassDef] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            found.append(node)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_public_name_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path.name} begins without saying what it is for"
    silent = [node.name for node in public(tree) if not ast.get_docstring(node)]
    assert not silent


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
