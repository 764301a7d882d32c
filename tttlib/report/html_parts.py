"""Parts of the report: verdicts, headline table, and figures with where they come from."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from tttlib.results import Store
from tttlib.tables import claims

HEADLINE = "02_headline.csv"
_DPI = 110  # of figures in the page: their letters are then as large as its own


def text(value: Any) -> str:
    """A value as HTML text."""
    return html.escape(str(value))


def headline(run: Path) -> str:
    """Accuracy without and with TTT, as notebook 02 rounded it; empty when it did not run."""
    path = run / "tables" / HEADLINE
    if not path.exists():
        return ""
    body = pd.read_csv(path, dtype=str).to_html(index=False, border=0, na_rep="–")
    return f'<div class="scroll">{body}</div>{_caption(path, "p")}'


def verdicts(run: Path, anchors: Mapping[str, str]) -> str:
    """The claims that this run decides, then, folded, those it leaves open.

    anchors  of the notebooks by number: "01" -> nb-01_distribution_shift_pca
    """
    try:
        found = claims.collect(Store(run / "results"))
    except FileNotFoundError:
        return ""
    open_ = found["verdict"] == "undecided"
    parts = ['<section id="findings"><h2>What this run says</h2>']
    parts.append(
        f'<p class="note">{(~open_).sum()} of {len(found)} statements are decided; the 95 % '
        "intervals of the others hold both answers. Fractions: 0.01 is one point.</p>"
    )
    if (~open_).any():
        parts.append(_claims(found[~open_], anchors))
    if open_.any():
        parts.append(f"<details><summary>{open_.sum()} undecided statements</summary>")
        parts.append(_claims(found[open_], anchors) + "</details>")
    return "".join([*parts, "</section>"])


def _claims(found: pd.DataFrame, anchors: Mapping[str, str]) -> str:
    rows = []
    for _, row in found.iterrows():
        number = f"{row['estimate']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        link = notebook = str(row["notebook"])
        if notebook in anchors:
            link = f'<a href="#{anchors[notebook]}">{notebook}</a>'
        n = text(f"{row['n']} {row['unit']}")
        measure = f'<br><span class="note">{text(row["measure"])}</span>' if row["measure"] else ""
        cells = (link, text(row["claim"]) + measure, text(row["verdict"]), number, n)
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    names = ("notebook", "statement", "verdict", "estimate and interval", "n")
    head = "".join(f"<th>{name}</th>" for name in names)
    return (
        f'<div class="scroll"><table class="claims"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def gallery(run: Path, titles: Mapping[str, tuple[str, str]]) -> str:
    """All figures by notebook, each with its caption and links to what it was made from.

    titles  of the notebooks by number: "01" -> (anchor, title)
    """
    figures: dict[str, list[Path]] = {}
    for path in sorted((run / "figures").glob("*.png")):
        figures.setdefault(path.name.split("_")[0], []).append(path)
    if not figures:
        return ""
    parts = ['<section id="figures"><h2>Figures</h2>']
    for number, paths in figures.items():
        anchor, title = titles.get(number, ("", f"Notebook {number}"))
        link = f'<a href="#{anchor}">{text(title)}</a>' if anchor else text(title)
        parts += [f"<h3>{link}</h3>", *(_figure(path, anchor, title) for path in paths)]
    return "".join([*parts, "</section>"])


def _figure(path: Path, anchor: str, title: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    with Image.open(path) as picture:
        width = round(picture.width * _DPI / picture.info.get("dpi", (_DPI,))[0])
    alt = html.escape(_caption_text(path) or path.stem.replace("_", " "), quote=True)
    links = [f'<a href="#{anchor}">{text(title)}</a>'] if anchor else []
    table = path.parents[1] / "tables" / f"{path.stem}.csv"
    if table.exists():
        links.append(f'<a href="tables/{table.name}">its numbers</a>')
    links.append('<a href="results/">result rows</a>')
    caption = " ".join([text(_caption_text(path)), *(f"[{link}]" for link in links)])
    return (
        f'<figure><img alt="{alt}" width="{width}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _caption(path: Path, tag: str) -> str:
    words = _caption_text(path)
    return f'<{tag} class="note">{text(words)}</{tag}>' if words else ""


def _caption_text(path: Path) -> str:
    """Text of the .txt file beside a table or figure; empty when there is none."""
    beside = path.with_suffix(".txt")
    return beside.read_text(encoding="utf-8").strip() if beside.exists() else ""


def contents(sections: Sequence[tuple[str, str]]) -> str:
    """Links to sections (anchor, title)."""
    links = "".join(f'<li><a href="#{anchor}">{text(title)}</a></li>' for anchor, title in sections)
    return f"<nav><h2>Contents</h2><ol>{links}</ol></nav>"
