"""The verdicts of one or several runs as one table, for the README."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from tttlib import claims
from tttlib.results import Store

BEGIN, END = "<!-- findings -->", "<!-- end of findings -->"


def table(runs: Mapping[str, str | Path], notebooks: Sequence[str] = ()) -> pd.DataFrame:
    """One row per claim and measure, one column per run: verdict, number, interval and n.

    runs       name of the column -> folder of a run
    notebooks  only the claims of these ("01", …); of all when empty
    A run without a claim leaves its cell empty. Raises FileNotFoundError for a run without claims,
    ValueError for one that decides a claim twice (with two settings).
    """
    columns = []
    for name, folder in runs.items():
        found = claims.collect(Store(Path(folder) / "results"))
        if notebooks:
            found = found[found["notebook"].isin(notebooks)]
        twice = found[found.duplicated(["notebook", "claim", "measure"])]
        if len(twice):
            raise ValueError(
                f"{folder} decides {twice['claim'].iloc[0]!r} twice: its notebooks ran with "
                "several settings; give a folder of one run"
            )
        keyed = found.set_index(["notebook", "claim", "measure"])
        columns.append(keyed.apply(_cell, axis=1).rename(name))
    merged = pd.concat(columns, axis=1, sort=False).fillna("")
    return merged.sort_index(level="notebook", sort_remaining=False, kind="stable").reset_index()


def markdown(found: pd.DataFrame) -> str:
    """The table as Markdown."""
    lines = ["| " + " | ".join(map(str, found.columns)) + " |", "|" + "---|" * found.shape[1]]
    rows = found.astype(str).to_numpy().tolist()
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def write(runs: Mapping[str, str | Path], page: str | Path, notebooks: Sequence[str] = ()) -> None:
    """Put the table between the marks of a page. ValueError when the page has no such marks."""
    path = Path(page)
    text = path.read_text(encoding="utf-8")
    marked = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    if not marked.search(text):
        raise ValueError(f"{path} has no lines {BEGIN} and {END} to write between")
    body = markdown(table(runs, notebooks))
    temporary = path.with_name(f".{path.name}")
    new = marked.sub(lambda match: f"{match[1]}{body}\n{match[2]}", text)
    temporary.write_text(new, encoding="utf-8")
    os.replace(temporary, path)


def _cell(row: pd.Series) -> str:
    """supported: +0.177 [+0.126, +0.242], 80 images; without a number when there is none (NaN)"""
    if math.isnan(row["estimate"]):
        return f"**{row['verdict']}**, {row['n']} {row['unit']}"
    number = f"{row['estimate']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    return f"**{row['verdict']}** {number}, {row['n']} {row['unit']}"
