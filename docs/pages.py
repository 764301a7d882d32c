"""The pages of the site, written before Sphinx reads them (see `setup` in conf.py).

README, the other pages in Markdown and the notebooks come as they are, with their links turned to
where the site has what they lead to. Pages of methods, modules and settings are made here.
"""

from __future__ import annotations

import ast
import functools
import inspect
import pkgutil
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat

import tttlib
from tttlib import adapt
from tttlib.adapt import Adapter
from tttlib.tables import method_declarations

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/tttlib/tttlib"
TEXTS = ("*.md", "figures/*.md", "tttlib/**/README.md", "tests/goldens/README.md")
LINK = re.compile(r'(?<=\]\()([^)\s]+)(?=(?: "[^"]*")?\))')
ROW = re.compile(r"\| (\[\S+(?:(csv)|svg|png|jpg)\)) \| (.*?) \| (.*?) \| (.*?) \|.*")
PROGRESS = re.compile(r"\d+%\|")
WIDGET = "application/vnd.jupyter.widget-view+json"
SECTIONS = ("notebooks/index", "methods/index", "guides", "results", "api/tttlib", "project")
SUBJECT = ("dataset", "model", "models", "networks")  # parameters of notebooks
LISTS = {
    "Guides": ("tttlib/README", "tttlib/*/README"),
    "Results": ("figures/verdicts", "figures/*", "tests/goldens/*"),
    "Project": ("CONTRIBUTING", "CHANGELOG"),
}


def write_all(folder: Path) -> None:
    """Write every page into `folder`."""
    copy(folder)
    notebooks(folder)
    settings(folder)
    methods(folder)
    modules_pages(folder)
    for title, patterns in LISTS.items():
        found = [path for name in patterns for path in sorted(folder.glob(f"{name}.md"))]
        names = [f"/{path.relative_to(folder).with_suffix('').as_posix()}" for path in found]
        write(folder / f"{title.lower()}.md", f"# {title}\n{contents(dict.fromkeys(names))}")


def write(path: Path, text: str) -> None:
    """Write a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# -- links -----------------------------------------------------------------------------------------


@functools.cache
def modules() -> tuple[str, ...]:
    """Return the public modules, by name."""
    found = (module.name for module in pkgutil.walk_packages(tttlib.__path__, "tttlib."))
    return ("tttlib", *(name for name in found if not name.split(".")[-1].startswith("_")))


def page_of(module: str) -> str:
    """Return the page that documents a module: that of the method, if it is one."""
    method = module.removeprefix("tttlib.adapt.")
    return f"methods/{method}" if method in adapt.METHODS else f"api/{module}"


def leads_to(link: str, home: str) -> str:
    """Return where a link of a page in the folder `home` of the repository leads in the site.

    What the site lacks is linked in the repository. A link to nothing stays, and Sphinx complains.
    """
    path, _, anchor = link.partition("#")
    file = (ROOT / home / path).resolve()
    if not path or re.match(r"[a-z]+:", link) or not file.exists():
        return link
    name, anchor = file.relative_to(ROOT).as_posix(), anchor and f"#{anchor}"
    module = name.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
    if name == "README.md":
        return f"/index.md{anchor}"
    if file.suffix == ".yaml" and name.startswith("notebooks/"):
        return f"/notebooks/settings.md#{file.parent.name}-{file.stem}"
    if module in modules():
        return f"/{page_of(module)}.md"
    if file.suffix in (".md", ".ipynb") or name.startswith("figures/"):
        return f"/{name}{anchor}"
    return f"{REPOSITORY}/{'tree' if file.is_dir() else 'blob'}/main/{name}{anchor}"


def turned(text: str, home: str, beside: Iterable[str] = ()) -> str:
    """Return Markdown with its links as the site has them; those to files `beside` it stay."""
    return LINK.sub(
        lambda found: found[1] if found[1].split("#")[0] in beside else leads_to(found[1], home),
        text,
    )


# -- what the repository has -----------------------------------------------------------------------


def copy(folder: Path) -> None:
    """Bring the pages in Markdown, and the figures; the list of figures shows them."""
    shutil.copytree(ROOT / "figures", folder / "figures", dirs_exist_ok=True)
    for path in (path for pattern in TEXTS for path in ROOT.glob(pattern)):
        name, text = path.relative_to(ROOT), path.read_text(encoding="utf-8")
        if name == Path("figures/README.md"):  # a table there, a gallery here
            text = re.sub(r"\| file .*\n\|---.*\n", "", text)
            text = ROW.sub(lambda row: shown(*row.groups()), text)
        text = turned(text, name.parent.as_posix())
        if name == Path("README.md"):
            name, text = Path("index.md"), text + contents(SECTIONS, hidden=True)
        write(folder / name, text)


def shown(link: str, table: str | None, what: str, data: str, command: str) -> str:
    """Return a figure, or the link to a table, with its caption."""
    return f"{'' if table else '!'}{link}\n\n{what} *{data}; {command}*\n"


def notebooks(folder: Path) -> None:
    """Bring the notebooks as they were executed: those stored, and each folder of docs/executed."""
    text = "# Notebooks\n\nAs they were executed; `make lab` opens them.\n"
    for version in (ROOT / "notebooks", *sorted(ROOT.glob("docs/executed/*/"))):
        place = Path("notebooks", version.name if version.parent.name == "executed" else "")
        paths = {path.name: path for path in sorted(version.glob("0*.ipynb"))}
        subjects = []
        for name, path in paths.items():
            notebook = nbformat.read(path, as_version=4)
            subjects.append(subject(notebook))
            without_kernel(notebook)
            for cell in notebook.cells:
                if cell.cell_type == "markdown":
                    cell.source = turned(cell.source, "notebooks", beside=paths)
            if place.name != "notebooks":
                first = notebook.cells[0]
                first.source = re.sub(r"\A(# .*)", rf"\1: {', '.join(subjects[-1])}", first.source)
            write(folder / place / name, nbformat.writes(notebook))
        names = [f"/{(place / name).with_suffix('').as_posix()}" for name in paths]
        data, networks = (
            ", ".join(dict.fromkeys(column)) for column in zip(*subjects, strict=True)
        )
        text += f"\n## {data}: {networks}\n{contents(names)}"
    write(folder / "notebooks/index.md", f"{text}\n## Settings\n{contents(['settings'])}")


def subject(notebook: nbformat.NotebookNode) -> tuple[str, str]:
    """Return data and network of a notebook, as its cells of parameters name them."""
    given: dict[str, Any] = {}
    for cell in notebook.cells:
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", ())):
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in SUBJECT:
                    given[ast.unparse(node.targets[0])] = ast.literal_eval(node.value)
    model = next(given[name] for name in SUBJECT[1:] if given.get(name))
    return given["dataset"], model if isinstance(model, str) else next(iter(model))


def without_kernel(notebook: nbformat.NotebookNode) -> None:
    """Leave out controls and progress bars; what else an output shows stands in for them."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if data.pop(WIDGET, None) is not None and PROGRESS.search(data.get("text/plain", "")):
                data.clear()
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("data") != {}]


# -- what is made ----------------------------------------------------------------------------------


def settings(folder: Path) -> None:
    """Write the page of parameter and grid files."""
    text = "# Settings\n\nWhat `tttlib run --parameters` and `tttlib sweep` take.\n"
    for path in sorted(ROOT.glob("notebooks/*/*.yaml"), reverse=True):
        name, lines = f"{path.parent.name}/{path.name}", path.read_text(encoding="utf-8")
        text += f"\n({path.parent.name}-{path.stem})=\n\n## {name}\n\n```yaml\n{lines}```\n"
    write(folder / "notebooks/settings.md", text)


def methods(folder: Path) -> None:
    """Write a page for each method, and their list."""
    table = method_declarations.declarations()
    for row in table.to_dict("records"):
        name = row["method"]
        write(folder / f"methods/{name}.md", method_page(adapt.METHODS[name], row))
    table["file"] = table["method"] + ".md"
    names = [f"/methods/{name}" for name in table["method"]]
    text = f"# Methods\n\n{method_declarations.markdown(table)}{contents(names, hidden=True)}"
    write(folder / "methods/index.md", text)


def method_page(method: type[Adapter], row: Mapping[str, str]) -> str:
    """Return what a method declares, its docstring, its settings and its classes."""
    module = sys.modules[method.__module__]
    paper = f"[{row['paper']}]({row['address']})" if row["address"] else row["paper"]
    lines = [
        f"# {(inspect.getdoc(module) or method.name).partition(':')[0]}\n",
        f'| `adapt.create("{method.name}", model)` | |\n|---|---|',
        f"| trains | {row['trains']} |",
        f"| needs | {row['needs'] or 'nothing besides'} |",
        f"| answers with logits | {row['answer']} |",
        f"| paper | {paper or 'none'} |",
        f"| source | [{row['file']}]({REPOSITORY}/blob/main/tttlib/adapt/{row['file']}) |\n",
        directive("automodule", module.__name__, "no-index"),
    ]
    presets = {name: asdict(constants) for name, constants in method.presets.items()}
    if any(presets.values()):
        lines += ["## Settings\n", constants_table(presets)]
    if method.variants:
        lines += ["What a `variant` changes:\n", constants_table(method.variants)]
    lines += ["## API\n", directive("py:module", module.__name__)]
    for name, one in vars(module).items():
        if getattr(one, "__module__", "") == module.__name__ and not name.startswith("_"):
            options = ("members", "show-inheritance") if inspect.isclass(one) else ()
            kind = "autoclass" if inspect.isclass(one) else "autofunction"
            lines.append(directive(kind, f"{module.__name__}.{name}", *options))
    return "\n".join(lines)


def constants_table(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table in Markdown: constants down, presets or variants across."""
    lines = [f"| constant | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for name in dict.fromkeys(name for values in columns.values() for name in values):
        cells = [f"`{one[name]!r}`" if name in one else "" for one in columns.values()]
        shown = " | ".join(cell.replace("|", "\\|") for cell in cells)
        lines.append(f"| `{name}` | {shown} |")
    return "\n".join(lines) + "\n"


def modules_pages(folder: Path) -> None:
    """Write a page for each module that is no method."""
    for name in modules():
        below = [one for one in modules() if one.rpartition(".")[0] == name]
        names = [f"{one.split('.')[-1]} <{one}>" for one in below if page_of(one)[:4] == "api/"]
        if len(names) < len(below):
            names.append("methods </methods/index>")
        text = directive("automodule", name, "members", "ignore-module-all", "show-inheritance")
        text = f"# {'API' if name == 'tttlib' else name}\n\n{text}{exported(import_module(name))}"
        if page_of(name)[:4] == "api/":
            write(folder / f"api/{name}.md", text + (contents(names) if names else ""))


def exported(package: ModuleType) -> str:
    """Return a list of the classes and functions that a package has from its modules."""
    found = {name: getattr(package, name) for name in getattr(package, "__all__", ())}
    lines = [
        f"* {{py:obj}}`{name} <{one.__module__}.{one.__qualname__}>`"
        for name, one in found.items()
        if (inspect.isclass(one) or inspect.isfunction(one)) and one.__module__ != package.__name__
    ]
    return "\n".join(["\nPublic names:\n", *lines, ""]) if lines else ""


def directive(name: str, argument: str, *options: str) -> str:
    """Return a directive of reStructuredText, in Markdown."""
    lines = ["```{eval-rst}", f".. {name}:: {argument}", *(f"   :{one}:" for one in options)]
    return "\n".join([*lines, "```\n"])


def contents(names: Iterable[str], *, hidden: bool = False) -> str:
    """Return a table of contents, which Sphinx makes its navigation of."""
    option = ":hidden:\n" if hidden else ":maxdepth: 1\n"
    return "\n".join(["\n```{toctree}", option, *names, "```\n"])
