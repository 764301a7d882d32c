"""An executed notebook as a section of the report."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tttlib.report.equations import Equations

_INTERACTIVE = {
    "application/vnd.jupyter.widget-view+json",  # progress bars
    "application/javascript",
}
_quiet = logging.getLogger("tttlib.nbconvert")  # it asks for texts that pictures of cells lack
_quiet.setLevel(logging.ERROR)


@dataclass(frozen=True)
class Section:
    """A notebook in the report: its file, title and body, and the seconds it took, if known."""

    file: str
    title: str
    body: Markup
    seconds: float | None

    @property
    def anchor(self) -> str:
        """The id of the section."""
        return _anchor(self.file)

    @property
    def number(self) -> str:
        """The number with which the name begins: "01" of 01_first.ipynb."""
        return Path(self.file).stem.split("_")[0]


def section(run: Path, source: Path, seconds: float | None) -> Section:
    """Return the executed copy of the notebook `source` as HTML; its first heading is the title."""
    import nbformat
    from nbconvert import HTMLExporter

    notebook = nbformat.read(run / "notebooks" / source.name, as_version=4)
    notebook.metadata.pop("widgets", None)
    equations = Equations()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = list(filter(None, map(_readable, cell.outputs)))
        elif cell.cell_type == "markdown":
            cell.source = equations.taken_out(cell.source)
    exporter = HTMLExporter(template_name="basic", embed_images=True, log=_quiet)
    beside = {"metadata": {"path": str(source.parent), "name": source.stem}}
    body, _ = exporter.from_notebook_node(notebook, resources=beside)
    # One page, many notebooks: their headings may share names.
    body = re.sub(r'(\bid="|\bhref="#)', rf"\g<1>{_anchor(source.name)}-", body)
    body = re.sub(r'<img\b[^>]*\bsrc="(https?:[^"]*)"[^>]*>', r'<a href="\1">\1</a>', body)
    body = re.sub(r"<script\b.*?</script>", "", body, flags=re.DOTALL)
    title = source.stem.replace("_", " ")
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    if heading := re.search(r"^# +(.+)$", text, flags=re.MULTILINE):
        title = heading[1].strip()
        body = re.sub(r"<h1\b.*?</h1>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"(</?h)([1-5])\b", lambda tag: f"{tag[1]}{int(tag[2]) + 1}", body)
    return Section(source.name, title, Markup(equations.put_back(body)), seconds)


def highlighting() -> Markup:
    """Return the style rules for the colours of code."""
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]

    rules = HtmlFormatter().get_style_defs(".highlight").splitlines()
    return Markup("\n".join(rule for rule in rules if rule.startswith(".highlight .")))


def _anchor(file: str) -> str:
    return "nb-" + re.sub(r"[^\w-]", "-", Path(file).stem)


def _readable(output: Any) -> Any:
    """Return an output without what only works in JupyterLab; None when nothing is left."""
    if _INTERACTIVE & set(output.get("data", {})):
        return None
    if output.output_type == "stream" and output.name == "stderr":
        lines = [line.rsplit("\r", 1)[-1] for line in output.text.splitlines(keepends=True)]
        output.text = "".join(line for line in lines if not re.search(r"\d%\|", line))
        if not output.text.strip():
            return None
    return output
