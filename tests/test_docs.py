"""The site: functions say which errors they raise, pages show what there is, links lead somewhere.

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
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import nbformat
import numpy as np
import pytest
from nbformat import v4
from PIL import Image

from tttlib import adapt

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import conf  # noqa: E402
import pages  # noqa: E402
import smaller_pictures  # noqa: E402

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


LINKS = (
    ("tttlib/adapt/README.md#what-was-measured", ".", "/tttlib/adapt/README.md#what-was-measured"),
    ("../../README.md#add-your-own", "tttlib/adapt", "/index.md#add-your-own"),
    ("palm.py", "tttlib/adapt", "/methods/palm.md"),
    ("common/palm_constants.py", "tttlib/adapt", "/api/tttlib.adapt.common.palm_constants.md"),
    ("tttlib/reference", ".", "/api/tttlib.reference.md"),
    ("06_beyond.ipynb", "notebooks", "/notebooks/06_beyond.ipynb"),
    ("notebooks/parameters/cifar10-c.yaml", ".", "/notebooks/settings.md#parameters-cifar10-c"),
    ("index.csv", "figures", "/figures/index.csv"),
    ("weights", "tttlib", "https://github.com/tttlib/tttlib/tree/main/tttlib/weights"),
    ("CITATION.cff", ".", "https://github.com/tttlib/tttlib/blob/main/CITATION.cff"),
    ("https://arxiv.org/abs/2403.10650", ".", "https://arxiv.org/abs/2403.10650"),
    ("#verdicts", ".", "#verdicts"),
    ("missing.md", ".", "missing.md"),
)  # fmt: skip


@pytest.mark.parametrize(("link", "home", "expected"), LINKS)
def test_links_lead_to_what_the_site_has(link: str, home: str, expected: str) -> None:
    assert pages.leads_to(link, home) == expected
    assert pages.turned(f"[a]({link}) ![b]({link})", home) == f"[a]({expected}) ![b]({expected})"


def test_every_link_of_the_pages_has_its_page(tmp_path: Path) -> None:
    pages.write_all(tmp_path)
    for path in [*tmp_path.rglob("*.md"), *tmp_path.rglob("*.ipynb")]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":  # what code formats is no link
            cells = nbformat.reads(text, as_version=4).cells
            text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
            assert "](#" not in text, f"{path.name}: its headings have other names in JupyterLab"
        for link in pages.LINK.findall(text):
            target = unquote(link.split("#")[0])
            if target and not re.match(r"\w+:", target) and path.stem != "CONTRIBUTING":
                root = tmp_path if target.startswith("/") else path.parent
                assert (root / target.lstrip("/")).is_file(), f"{path.name}: {link}"
    for page in (tmp_path / "api").glob("*.md"):
        for name in re.findall(r"<(tttlib\.\S+)>$", page.read_text(encoding="utf-8"), re.M):
            assert (tmp_path / "api" / f"{name}.md").is_file(), name


def test_a_method_has_a_page_with_its_paper_constants_and_classes(tmp_path: Path) -> None:
    pages.methods(tmp_path)
    for name, method in adapt.METHODS.items():
        page = (tmp_path / "methods" / f"{name}.md").read_text(encoding="utf-8")
        for constant, value in asdict(method.presets["imagenet-c"]).items():
            (row,) = re.findall(rf"^\| `{constant}` \| .*", page.partition("variant` ch")[0], re.M)
            assert row.endswith(f"`{value!r}` |".replace("||", r"\|\|"))
        assert f".. autoclass:: {method.__module__}.{method.__name__}\n" in page
    assert "(https://arxiv.org/abs/2403.10650)" in (tmp_path / "methods/palm.md").read_text()


def test_a_folder_of_executed_notebooks_is_one_more_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links stay in their version, controls and progress bars leave what they stand beside."""
    bar = {"data": {pages.WIDGET: {}, "text/plain": "blocks:  40%|####    | 2/5"}, "metadata": {}}
    control = {"data": {pages.WIDGET: {}, "image/png": "iVBORw0KGgo="}, "metadata": {}}
    shown = [v4.new_output("display_data", **one) for one in (bar, control)]
    cells = [
        v4.new_markdown_cell("# 5 · PALM\n\n[next](06_b.ipynb), [other](07_c.ipynb)"),
        v4.new_code_cell("dataset = 'scenes'\nmodel = 'small'", metadata={"tags": ["parameters"]}),
        v4.new_code_cell("dataset = 'faces'", metadata={"tags": ["injected-parameters"]}),
        v4.new_code_cell("", outputs=shown),
    ]  # fmt: skip
    for name in (
        "notebooks/05_a",
        "notebooks/06_b",
        "notebooks/07_c",
        "docs/executed/more/05_a",
        "docs/executed/more/06_b",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        notebook = v4.new_notebook(cells=cells, metadata={"widgets": {}})
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    pages.notebooks(tmp_path / "site")
    index = (tmp_path / "site/notebooks/index.md").read_text()
    assert "/notebooks/more/05_a\n" in index.partition("## faces: small\n")[2]
    made = nbformat.read(tmp_path / "site/notebooks/more/05_a.ipynb", as_version=4)
    heading, _, links = made.cells[0].source.splitlines()
    assert heading == "# 5 · PALM: faces, small"
    assert links == "[next](06_b.ipynb), [other](/notebooks/07_c.ipynb)"
    (output,) = made.cells[3].outputs
    assert list(output.data) == ["image/png"] and "widgets" not in made.metadata


def test_docstrings_keep_their_equations_and_signs() -> None:
    lines = ["With |x| and f(*x):", "    E <- |x_|", "from `code` and `a b`x."]
    conf.legible(None, "module", "", None, None, lines)
    assert lines == [
        r"With \|x| and f(\*x):",
        "",
        "::",
        "",
        "    E <- |x_|",
        "",
        "from `code` and ``a b``\\ x.",
    ]


class Page(HTMLParser):
    """What a page links to, what it loads by itself, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.anchors: set[str] = set()
        text = path.read_text(encoding="utf-8")
        self.loads |= set(re.findall(r"https?://(?:cdn|unpkg|fonts)[^\s\"']*", text))  # by scripts
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if "href" in given:
            (self.links if tag == "a" else self.loads).add(given["href"])
        if "src" in given:
            self.loads.add(given["src"])


@pytest.mark.slow
def test_the_site_builds_its_links_hold_and_it_asks_nobody(tmp_path: Path) -> None:
    """Built as `make docs` does, where warnings are errors."""
    (command,) = re.findall(r"python (-m sphinx .*)", (ROOT / "Makefile").read_text())
    (tmp_path / "pages").mkdir()
    arguments = command.replace("runs/", f"{tmp_path}/").split()
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    site = tmp_path / "docs"
    found = {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}
    assert len(found) > 300
    for path, page in found.items():
        loaded = {link for link in page.loads if not link.startswith("data:")}
        assert not [link for link in loaded if re.match(r"(\w+:)?//", link)], path
        for link in page.links | loaded:
            address = urlsplit(link)
            if address.scheme:
                assert address.scheme == "https" and re.fullmatch(
                    r"[\w-]+(\.[\w-]+)+", address.netloc
                )
                continue
            file = (path.parent / unquote(address.path)).resolve() if address.path else path
            assert file.is_file(), f"{path.relative_to(site)}: {link}"
            anchor = unquote(address.fragment)
            assert not anchor or anchor in found[file].anchors, f"{path.relative_to(site)}: {link}"
    for style in site.rglob("*.css"):
        outside = r"(url\(|@import)\s*[\"']?(https?:)?//"
        assert not re.search(outside, style.read_text(encoding="utf-8")), style


def test_stored_pictures_get_few_colours_and_never_grow() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    for picture in (Image.fromarray(levels), Image.new("RGB", (4, 4), "white")):
        made = io.BytesIO()
        picture.save(made, "PNG")
        before = base64.b64encode(made.getvalue()).decode()
        after = smaller_pictures.smaller(before)
        assert len(after) <= len(before)
        with Image.open(io.BytesIO(base64.b64decode(after))) as shown:
            assert shown.size == picture.size and len(shown.convert("RGB").getcolors(9999)) <= 64
