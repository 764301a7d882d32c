"""The figures of a run as the report shows them."""

from __future__ import annotations

import base64
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tttlib.runtime.text import decode

_DPI = 110  # of figures in the page: their letters are then as large as its own


@dataclass(frozen=True)
class Figure:
    """A PNG file as base64, its width in the page in pixels, and what stands below it.

    `table` is the name of the file with its numbers, empty when there is none.
    """

    alternative: str
    width: int
    png: str
    caption: str
    table: str


def figures_of(run: Path) -> dict[str, list[Figure]]:
    """Return all figures of a run, by the number of the notebook that made them."""
    figures = defaultdict(list)
    for path in sorted(run.glob("figures/*.png")):
        figures[path.stem.split("_")[0]].append(_figure(path))
    return dict(figures)


def caption_of(path: Path) -> str:
    """Return the text of the .txt file beside a table or figure; empty when there is none."""
    beside = path.with_suffix(".txt")
    return decode(beside.read_bytes()).strip() if beside.exists() else ""


def _figure(path: Path) -> Figure:
    with Image.open(path) as picture:
        width = round(picture.width * _DPI / picture.info.get("dpi", (_DPI,))[0])
    caption = caption_of(path)
    table = path.parents[1] / "tables" / f"{path.stem}.csv"
    return Figure(
        alternative=caption or path.stem.replace("_", " "),
        width=width,
        png=base64.b64encode(path.read_bytes()).decode(),
        caption=caption,
        table=table.name if table.exists() else "",
    )
