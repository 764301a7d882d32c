"""The verdicts of all notebooks as one table, and tables written into pages between marks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

_KEY = ["notebook", "claim", "measure"]


def table(folder: str | Path, columns: Mapping[str, str | Sequence[str]]) -> pd.DataFrame:
    """Return one row per claim and measure, one column per dataset with its verdict and number.

    Parameters
    ----------
    folder
        Folder of the committed figures, with <notebook>_claims_<suffix>.csv (see `publish`).
    columns
        Name of the column -> suffix of its files, or several. A dataset without a claim leaves its
        cell empty.

    Raises
    ------
    FileNotFoundError
        For a suffix without claims.
    ValueError
        For a table that decides a claim twice (with two settings).
    """
    cells = []
    for name, suffixes in columns.items():
        several = [suffixes] if isinstance(suffixes, str) else suffixes
        claims = pd.concat([_claims(Path(folder), s) for s in several])
        twice = claims[claims.duplicated(_KEY)]
        if len(twice):
            first = twice.iloc[0]
            raise ValueError(
                f"{first['notebook']}_claims_{'/'.join(several)}.csv decides {first['claim']!r} "
                "twice; publish a run with one setting"
            )
        cells.append(claims.set_index(_KEY).apply(_cell, axis=1).rename(name))
    merged = pd.concat(cells, axis=1, sort=False).fillna("")
    return merged.sort_index(level="notebook", sort_remaining=False, kind="stable").reset_index()


def markdown(table: pd.DataFrame) -> str:
    """Return the table as Markdown."""
    lines = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * table.shape[1]]
    rows = table.astype(str).to_numpy().tolist()
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def filled(text: str, mark: str, table: pd.DataFrame) -> str:
    """Return the page with the table between the lines `<!-- mark -->` and `<!-- end of mark -->`.

    A page without such lines raises a ValueError.
    """
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    marked = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    if not marked.search(text):
        raise ValueError(f"the page has no lines {begin} and {end} to write between")
    return marked.sub(lambda match: f"{match[1]}{markdown(table)}\n{match[2]}", text)


def _claims(folder: Path, suffix: str) -> pd.DataFrame:
    paths = sorted(folder.glob(f"??_claims_{suffix}.csv"))
    if not paths:
        raise FileNotFoundError(f"no file {folder}/??_claims_{suffix}.csv; publish a run first")
    tables = [pd.read_csv(path).assign(notebook=path.name[:2]) for path in paths]
    return pd.concat(tables, ignore_index=True)


def _cell(row: pd.Series) -> str:
    """Write "**supported** +0.177 [+0.126, +0.242], 80 images"; nothing where a number is NaN."""
    if math.isnan(row["estimate"]):
        return f"**{row['verdict']}**, {row['n']} {row['unit']}"
    number = f"{row['estimate']:+.3f}"
    if not math.isnan(row["low"]):
        number += f" [{row['low']:+.3f}, {row['high']:+.3f}]"
    return f"**{row['verdict']}** {number}, {row['n']} {row['unit']}"
