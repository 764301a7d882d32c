"""How figures and tables are kept, and shown where they are made."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

_METADATA = {"png": {"Software": None}, "svg": {"Creator": None, "Date": None}}


def save(figure: Figure, run_dir: str | Path, name: str, caption: str) -> None:
    """Write `<run_dir>/figures/<name>.png` and its caption beside it; a notebook shows both.

    A figure that shows no photographs is written as `<name>.svg` too.
    """
    folder = Path(run_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for ending in ("png",) if _photographs(figure) else ("png", "svg"):
        temporary = folder / f".{name}.{ending}"
        figure.savefig(temporary, bbox_inches="tight", metadata=_METADATA[ending])
        os.replace(temporary, folder / f"{name}.{ending}")
    (folder / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")
    plt.close(figure)
    _show(figure)
    _show({"text/html": _words(caption), "text/plain": caption})


def save_table(
    table: pd.DataFrame, run_dir: str | Path, name: str, caption: str, *, rows: int = 80
) -> None:
    """Write `<run_dir>/tables/<name>.csv` and its caption beside it; a notebook shows both.

    Every column is shown, and of a table of more than `rows` its first and last ones.
    """
    folder = Path(run_dir) / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.csv"
    table.to_csv(temporary, index=False)
    (folder / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")
    os.replace(temporary, folder / f"{name}.csv")
    how: dict[str, Any] = {"index": False, "na_rep": "–", "max_rows": rows}
    with pd.option_context("display.max_colwidth", None):
        page = table.to_html(border=0, **how) + _words(caption)
        _show({"text/html": page, "text/plain": f"{table.to_string(**how)}\n{caption}"})


def _show(what: Figure | dict[str, str]) -> None:
    """Display, in a notebook; elsewhere nothing."""
    from IPython.core.getipython import get_ipython
    from IPython.display import display

    if get_ipython() is not None:
        display(what, raw=isinstance(what, dict))


def _words(caption: str) -> str:
    return f'<p style="color: #555; font-size: 90%">{html.escape(caption)}</p>'


def _photographs(figure: Figure) -> bool:
    """Whether pixels with colour channels are shown, which no vector format makes smaller."""
    shown = (image.get_array() for axes in figure.axes for image in axes.images)
    return any(pixels is not None and pixels.ndim == 3 for pixels in shown)
