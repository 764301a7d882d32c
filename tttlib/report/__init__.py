"""One self-contained HTML page of a run: verdicts, figures, every executed notebook.

Nothing is fetched when the page is opened: images are data URIs, there is no script, and pictures
that a notebook takes from the net become links.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tttlib.report import html_parts
from tttlib.report.html_parts import text as _text

TITLE = "Test-time training and continual adaptation: the study"
_HIDDEN = {
    "application/vnd.jupyter.widget-view+json",  # progress bars
    "application/javascript",
}
_quiet = logging.getLogger("tttlib.nbconvert")  # it asks for texts that pictures of cells lack
_quiet.setLevel(logging.ERROR)
_STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; margin: 0 auto; max-width: 60rem;
       padding: 0 1rem 3rem; overflow-wrap: break-word }
h1, h2, h3 { line-height: 1.2 }
h2 { border-bottom: 1px solid #bbb; padding-bottom: .2rem; margin-top: 2.5rem }
.scroll, .output_html { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums;
        margin: .5rem 0 }
th, td { padding: .25rem .6rem; text-align: right; border: 0; border-bottom: 1px solid #ddd }
th { border-bottom: 1px solid #666 }
thead th:first-child, td:first-child, .facts td, .claims td, .claims th {
  text-align: left }
summary { cursor: pointer; color: #555 }
img, svg { max-width: 100%; height: auto }
figure { margin: 1.5rem 0 } figcaption, .note { color: #555; font-size: .9rem }
pre { font: .8rem/1.4 ui-monospace, monospace; overflow-x: auto; margin: .4rem 0 }
.highlight { background: #f6f6f6; border-left: 3px solid #ccc; padding: .1rem .7rem }
.output_stderr { background: #fff4f2 }
.prompt, .anchor-link { display: none }
.code_cell { margin: .8rem 0 }
@media (max-width: 40rem) {
  .claims thead { display: none }
  .claims tr { display: block; padding: .5rem 0; border-bottom: 1px solid #ddd }
  .claims td { display: inline-block; border: 0; padding: .1rem .9rem .1rem 0 }
  .claims td:nth-child(2) { display: block }
}
@media print {
  body { max-width: none; font-size: 10pt }
  pre { white-space: pre-wrap } .scroll, .output_html, pre { overflow: visible }
  details > * { display: block }
  figure, img, tr { break-inside: avoid } h1, h2, h3 { break-after: avoid }
}
"""


def write(run: Path, record: Mapping[str, Any], notebooks: Sequence[Path]) -> Path:
    """Write <run>/index.html from what the run holds; returns its path.

    record     the run's study.json (environment, seconds per notebook, peak memory, parameters)
    notebooks  the source notebooks in order; their executed copies lie in <run>/notebooks, pictures
               that their text refers to are taken from beside the sources
    """
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]

    colours = HtmlFormatter().get_style_defs(".highlight").splitlines()
    colours = "\n".join(rule for rule in colours if rule.startswith(".highlight ."))
    sections = {path: _notebook(run, path, record) for path in notebooks}
    titles = {
        path.name.split("_")[0]: (_anchor(path), title) for path, (title, _) in sections.items()
    }
    anchors = {number: anchor for number, (anchor, _) in titles.items()}
    gallery = html_parts.gallery(run, titles)
    findings = html_parts.verdicts(run, anchors)
    listed = [("findings", "What this run says")] if findings else []
    listed += [("figures", "Figures")] if gallery else []
    listed += [*titles.values(), ("run", "How this was run")]
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{TITLE}</title><style>{_STYLE}{colours}</style></head><body>",
        f'<h1>{TITLE}</h1><p class="note">Run {_text(run.name)}, '
        f"tttlib {_text(record['tttlib'])}, {_text(record['environment']['device'])}</p>",
        html_parts.contents(listed),
        findings,
        html_parts.headline(run),
        gallery,
        *(body for _, body in sections.values()),
        _facts(record),
        "</body></html>\n",
    ]
    path = run / "index.html"
    temporary = run / f".index.html.{os.getpid()}.tmp"
    temporary.write_text("\n".join(parts), encoding="utf-8")
    os.replace(temporary, path)
    return path


def _notebook(run: Path, source: Path, record: Mapping[str, Any]) -> tuple[str, str]:
    """Title of a notebook (its first heading) and its executed copy as a section."""
    import nbformat
    from nbconvert import HTMLExporter

    notebook = nbformat.read(run / "notebooks" / source.name, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in map(_readable, cell.outputs) if out is not None]
    exporter = HTMLExporter(template_name="basic", embed_images=True, log=_quiet)
    beside = {"metadata": {"path": str(source.parent), "name": source.stem}}
    body, _ = exporter.from_notebook_node(notebook, resources=beside)
    anchor = _anchor(source)
    # One page, many notebooks: their headings may share names.
    body = re.sub(r'(\bid="|\bhref="#)', rf"\g<1>{anchor}-", body)
    body = re.sub(r'<img\b[^>]*\bsrc="(https?:[^"]*)"[^>]*>', r'<a href="\1">\1</a>', body)
    body = re.sub(r"<script\b.*?</script>", "", body, flags=re.DOTALL)
    title = source.stem.replace("_", " ")
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    if heading := re.search(r"^# +(.+)$", text, flags=re.MULTILINE):
        title = heading[1].strip()
        body = re.sub(r"<h1\b.*?</h1>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"(</?h)([1-5])\b", lambda tag: f"{tag[1]}{int(tag[2]) + 1}", body)
    seconds = record["seconds"].get(source.stem)
    took = f", executed in {seconds:.0f} s" if seconds is not None else ""
    link = f'<a href="notebooks/{source.name}">{_text(source.name)}</a>'
    head = f'<h2>{_text(title)}</h2><p class="note">{link}{took}</p>'
    return title, f'<section id="{anchor}">{head}{body}</section>'


def _readable(output: Any) -> Any:
    """An output without what only works in JupyterLab; None when nothing is left."""
    if _HIDDEN & set(output.get("data", {})):
        return None
    if output.output_type == "stream" and output.name == "stderr":
        lines = [line.rsplit("\r", 1)[-1] for line in output.text.splitlines(keepends=True)]
        output.text = "".join(line for line in lines if not re.search(r"\d%\|", line))
        if not output.text.strip():
            return None
    return output


def _facts(record: Mapping[str, Any]) -> str:
    """How the run was made, as a table."""
    origin = record["environment"]
    sha = (origin["git_sha"] or "no git checkout") + (" with changes" * bool(origin["git_dirty"]))
    memory, at_once = record["peak_memory_bytes"], origin["notebooks_at_once"]
    facts = {
        "started": record["started"],
        "finished": record["finished"],
        "code": sha,
        "device": f"{origin['device']}, {origin['threads']} threads"
        + f" shared by {at_once} notebooks at once" * (at_once > 1),
        "platform": origin["platform"],
        "python": origin["python"],
        **origin["versions"],
        "parameters": ", ".join(f"{k} = {v}" for k, v in record["parameters"].items())
        or "defaults",
        "peak memory": f"{memory / 2**30:.2f} GB" if memory else "not measured",
        "time in all": f"{record['wall_seconds']:.0f} s",
        **{f"time of {name}": f"{s:.0f} s" for name, s in record["seconds"].items()},
    }
    rows = "".join(f"<tr><td>{_text(k)}</td><td>{_text(v)}</td></tr>" for k, v in facts.items())
    return (
        '<section id="run"><h2>How this was run</h2>'
        f'<div class="scroll"><table class="facts">{rows}</table></div></section>'
    )


def _anchor(path: Path) -> str:
    return "nb-" + re.sub(r"[^\w-]", "-", path.stem)
