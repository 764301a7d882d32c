"""The pages of the site, which conf.py has written before Sphinx reads them.

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
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import nbformat

import tttlib
from tttlib import adapt
from tttlib.tables import method_declarations

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/tttlib/tttlib"
LINK = re.compile(r'(?<=\]\()([^)\s]+)(?=(?: "[^"]*")?\))')
FIGURE = re.compile(r"\[(\S+\.(?:svg|png|jpg))\]\(\1\)")
PROGRESS = re.compile(r"\d+%\|")
WIDGET = "application/vnd.jupyter.widget-view+json"
HOME = "```{toctree}\n:hidden:\n\nnotebooks/index\nmethods/index\nguides\nresults\napi/tttlib\nproject\n```\n"
LISTS = {
    "guides": ("Guides", ["tttlib/README", "tttlib/*/README"]),
    "results": ("Results", ["figures/verdicts", "figures/README", "figures/*", "tests/goldens/*"]),
    "project": ("Project", ["CONTRIBUTING", "CHANGELOG"]),
}


@functools.cache
def modules() -> tuple[str, ...]:
    """Return the public modules, by name."""
    found = (module.name for module in pkgutil.walk_packages(tttlib.__path__, "tttlib."))
    return ("tttlib", *(name for name in found if not name.split(".")[-1].startswith("_")))


def page_of(module: str) -> str:
    """Return the page that documents a module: that of the method, if it is one."""
    method = module.removeprefix("tttlib.adapt.")
    return f"methods/{method}" if method in adapt.METHODS else f"api/{module}"


# -- links -----------------------------------------------------------------------------------------


def leads_to(link: str, home: str) -> str:
    """Return where a link of a page in the folder `home` of the repository leads in the site.

    Files that the site lacks are linked in the repository; a link to nothing stays, and Sphinx
    complains of it.
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


def turned(text: str, home: str) -> str:
    """Return Markdown of a page in `home` with its links as the site has them."""
    return LINK.sub(lambda found: leads_to(found[1], home), text)


# -- what the repository has -----------------------------------------------------------------------


def copied(folder: Path) -> None:
    """Bring the pages in Markdown, and all figures and tables that they show."""
    shutil.copytree(ROOT / "figures", folder / "figures", dirs_exist_ok=True)
    for pattern in ("*.md", "figures/*.md", "tttlib/**/README.md", "tests/goldens/README.md"):
        for path in ROOT.glob(pattern):
            name = path.relative_to(ROOT)
            text = path.read_text(encoding="utf-8")
            if name.as_posix() == "figures/README.md":
                text = FIGURE.sub(r"![\1](\1)", text)
            text = turned(text, name.parent.as_posix())
            if name.as_posix() == "README.md":
                name, text = Path("index.md"), f"{text}\n{HOME}"
            write(folder / name, text)


def notebooks(folder: Path) -> None:
    """Bring the notebooks as they were executed: the stored ones and those of `docs/executed`."""
    text = "# Notebooks\n\nAs they were executed. `make lab` opens them, with what moves.\n"
    for version in (ROOT / "notebooks", *sorted(ROOT.glob("docs/executed/*/"))):
        place = Path("notebooks") / (version.name if version.parent.name == "executed" else "")
        paths, subjects = sorted(version.glob("0*.ipynb")), []
        for path in paths:
            notebook = nbformat.read(path, as_version=4)
            subjects.append(subject(notebook))
            readable(notebook, subjects[-1] if place.name != "notebooks" else "")
            here = {other.name for other in paths}
            for cell in notebook.cells:
                if cell.cell_type == "markdown":
                    cell.source = LINK.sub(
                        lambda found: found[1] if found[1].partition("#")[0] in here
                        else leads_to(found[1], "notebooks"), cell.source)
            write(folder / place / path.name, nbformat.writes(notebook) + "\n")
        names = [f"/{(place / path.stem).as_posix()}" for path in paths]
        text += listed(max(subjects, key=len), names)
    write(folder / "notebooks" / "index.md", text + listed("Settings", ["/notebooks/settings"]))


def subject(notebook: nbformat.NotebookNode) -> str:
    """Return data and networks of a notebook, as its cells of parameters say them."""
    values: dict[str, object] = {}
    for cell in notebook.cells:
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    values[node.targets[0].id] = ast.literal_eval(node.value)
    networks = [values[name] for name in ("model", "models", "networks") if name in values]
    several = [[one] if isinstance(one, str) else list(one) for one in networks]
    return f"{values['dataset']}: {', '.join(name for names in several for name in names)}"


def readable(notebook: nbformat.NotebookNode, heading: str) -> None:
    """Leave out what needs a kernel, progress bars and controls, and name data and network."""
    notebook.metadata.pop("widgets", None)
    if heading:
        first = notebook.cells[0]
        first.source = re.sub(r"\A(# .*)", rf"\1, {heading}", first.source)
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        for data in (output.get("data", {}) for output in outputs):
            if data.pop(WIDGET, None) and PROGRESS.search(data.get("text/plain", "")):
                data.clear()
        if outputs:
            cell.outputs = [one for one in outputs if one.get("data", True)]


# -- what is made ----------------------------------------------------------------------------------


def settings(folder: Path) -> None:
    """Write the page of parameter and grid files."""
    text = "# Settings\n\nWhat `tttlib run --parameters` and `tttlib sweep` take.\n"
    for path in sorted(ROOT.glob("notebooks/*/*.yaml"), reverse=True):
        text += f"\n({path.parent.name}-{path.stem})=\n## {path.parent.name}/{path.name}\n\n"
        text += f"```yaml\n{path.read_text(encoding='utf-8')}```\n"
    write(folder / "notebooks" / "settings.md", text)


def methods(folder: Path) -> None:
    """Write a page for each method, and their list."""
    table = method_declarations.declarations()
    for name, row in zip(adapt.NAMES, table.to_dict("records"), strict=True):
        method = adapt.METHODS[name]
        module = sys.modules[method.__module__]
        title = (inspect.getdoc(module) or name).partition(":")[0]
        facts = [("trains", row["trains"]), ("needs", row["needs"] or "nothing besides"),
                 ("answers with logits", row["answer"]),
                 ("paper", f"[{row['paper']}]({row['address']})" if row["address"] else row["paper"] or "none"),
                 ("source", f"[{row['file']}]({REPOSITORY}/blob/main/tttlib/adapt/{row['file']})")]
        write(folder / "methods" / f"{name}.md", "\n".join([
            f"# {title}\n", f"`adapt.create(\"{name}\", model)`\n", "| | |", "|---|---|",
            *(f"| {what} | {said} |" for what, said in facts), "",
            directive("automodule", module.__name__, "noindex"), "## Settings\n",
            grid({preset: asdict(c) for preset, c in method.presets.items()}),
            *([f"What `variant` changes:\n\n{grid(method.variants)}"] if method.variants else []),
            "## API\n", directive("py:module", module.__name__),
            *(directive("autoclass", f"{module.__name__}.{key}", "members", "show-inheritance")
              if inspect.isclass(one) else directive("autofunction", f"{module.__name__}.{key}")
              for key, one in vars(module).items()
              if getattr(one, "__module__", "") == module.__name__ and not key.startswith("_")),
        ]))
    links = table.assign(file=table["file"].str.removesuffix(".py") + ".md")
    names = [f"/methods/{name}" for name in adapt.NAMES]
    write(folder / "methods" / "index.md",
          f"# Methods\n\n{method_declarations.markdown(links)}{listed('', names, hidden=True)}")


def grid(columns: dict[str, dict[str, object]]) -> str:
    """Return a table in Markdown: constants down, presets or variants across."""
    names = list(dict.fromkeys(name for values in columns.values() for name in values))
    if not names:
        return "None.\n"
    lines = [f"| constant | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for name in names:
        cells = (f"`{values[name]!r}`" if name in values else "" for values in columns.values())
        lines.append(f"| `{name}` | {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def reference(folder: Path) -> None:
    """Write a page for each module."""
    for name in modules():
        below = [one for one in modules() if one.rpartition(".")[0] == name]
        pages = [f"{one.rpartition('.')[2]} <{one}>" for one in below if page_of(one).startswith("api/")]
        if len(pages) < len(below):
            pages.append("methods </methods/index>")
        module = import_module(name)
        public = [f"* {{py:obj}}`{key} <{one.__module__}.{one.__qualname__}>`"
                  for key in getattr(module, "__all__", ())
                  if (inspect.isclass(one := getattr(module, key)) or inspect.isfunction(one))
                  and one.__module__ != name]
        if page_of(name).startswith("api/"):
            write(folder / f"{page_of(name)}.md", "\n".join([
                f"# {'API' if name == 'tttlib' else name}\n",
                directive("automodule", name, "members", "ignore-module-all", "show-inheritance"),
                *(["Public names:\n", *public, ""] if public else []),
                listed("Modules", pages) if pages else "",
            ]))


def directive(name: str, argument: str, *options: str) -> str:
    """Return a directive of reStructuredText, in Markdown."""
    lines = [f".. {name}:: {argument}", *(f"   :{option}:" for option in options)]
    return "\n".join(["```{eval-rst}", *lines, "```\n"])


def listed(title: str, names: Sequence[str], *, hidden: bool = False) -> str:
    """Return a section with the table of contents of these pages."""
    heading = f"\n## {title}\n" if title else ""
    options = ":hidden:\n" if hidden else ":maxdepth: 1\n"
    return f"{heading}\n```{{toctree}}\n{options}\n" + "\n".join(names) + "\n```\n"


def write(path: Path, text: str) -> None:
    """Write a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main(folder: Path) -> None:
    """Write all pages into `folder`."""
    for part in (copied, notebooks, settings, methods, reference):
        part(folder)
    for name, (title, pages) in LISTS.items():
        found = [p.relative_to(folder).with_suffix("").as_posix() for pattern in pages for p in sorted(folder.glob(f"{pattern}.md"))]
        write(folder / f"{name}.md", f"# {title}\n{listed('', list(dict.fromkeys(found)))}")
