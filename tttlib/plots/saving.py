"""How figures and tables are kept, and shown where they are made."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tttlib.results.export import write_csv
from tttlib.runtime.files import atomic_write

_METADATA = {"png": {"Software": None}, "svg": {"Creator": None, "Date": None}}


def save(figure: Figure, run_dir: str | Path, name: str, caption: str) -> None:
    """Write ``<run_dir>/figures/<name>.png`` and its caption beside it; a notebook shows both.

    A figure that shows no photographs is written as ``<name>.svg`` too.
    """
    folder = Path(run_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for ending in ("png",) if _photographs(figure) else ("png", "svg"):
        with atomic_write(folder / f"{name}.{ending}") as temporary:
            metadata = _METADATA[ending]
            figure.savefig(temporary, format=ending, bbox_inches="tight", metadata=metadata)
    write_caption(folder / f"{name}.txt", caption)
    plt.close(figure)
    show(figure)
    show({"text/html": _paragraph(caption), "text/plain": caption})


def save_table(
    table: pd.DataFrame,
    run_dir: str | Path,
    name: str,
    caption: str,
    *,
    rows: int = 80,
    folded: bool = False,
    shown: Mapping[str, str] | None = None,
) -> None:
    """Write ``<run_dir>/tables/<name>.csv`` and its caption beside it; a notebook shows both.

    The notebook shows every column, or those of `shown` under the names that it gives them, and of
    a table of more than `rows` its first and last ones. A `folded` table is opened by a click on
    its caption: for what carries no verdict.
    """
    path = Path(run_dir) / "tables" / f"{name}.csv"
    write_csv(path, table)
    write_caption(path.with_suffix(".txt"), caption)
    if shown is not None:
        table = table[list(shown)].rename(columns=shown)
    options: dict[str, Any] = {"index": False, "na_rep": "–", "max_rows": rows}
    with pd.option_context("display.max_colwidth", None):
        page = table.to_html(border=0, **options)
        page = _folded(page, caption) if folded else page + _paragraph(caption)
        show({"text/html": page, "text/plain": f"{table.to_string(**options)}\n{caption}"})


def write_caption(path: Path, caption: str) -> None:
    """Write the caption of a figure or table, complete or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(caption + "\n", encoding="utf-8")


def show(output: Figure | dict[str, Any], **options: Any) -> None:
    """Display `output`, a figure or its forms by media type, in a notebook; nothing elsewhere.

    The options are those of `IPython.display.display`: `display_id`, `update`.
    """
    from IPython.core.getipython import get_ipython
    from IPython.display import display

    if get_ipython() is not None:
        display(output, raw=isinstance(output, dict), **options)


def _paragraph(caption: str) -> str:
    return f'<p style="color: #555; font-size: 90%">{html.escape(caption)}</p>'


def _folded(page: str, caption: str) -> str:
    return f"<details><summary>Table: {html.escape(caption)}</summary>{page}</details>"


def _photographs(figure: Figure) -> bool:
    """Return whether pixels with colour channels are shown; no vector format makes them smaller."""
    shown = (image.get_array() for axes in figure.axes for image in axes.images)
    return any(pixels is not None and pixels.ndim == 3 for pixels in shown)
