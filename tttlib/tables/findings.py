"""The verdicts of all notebooks as one table, and tables written into pages between marks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd


def table(
    folder: str | Path, columns: Mapping[str, str | Sequence[str]], notebooks: Sequence[str] = ()
) -> pd.DataFrame:
    """One row per claim and measure, one column per dataset: verdict, number, interval and n.

    folder     of the committed figures, with <notebook>_claims_<suffix>.csv (see `publish`)
    columns    name of the column -> suffix of its files, or several
    notebooks  only the claims of these ("01", …); of all when empty
    A dataset without a claim leaves its cell empty. Raises FileNotFoundError for a suffix without
    claims, ValueError for a table that decides a claim twice (with two settings).
    """
    cells = []
    for name, suffixes in columns.items():
        several = [suffixes] if isinstance(suffixes, str) else suffixes
        found = pd.concat([_claims(Path(folder), s, notebooks) for s in several])
        twice = found[found.duplicated(["notebook", "claim", "measure"])]
        if len(twice):
            first = twice.iloc[0]
            raise ValueError(
                f"{first['notebook']}_claims_{'/'.join(several)}.csv decides {first['claim']!r} "
                "twice; publish a run with one setting"
            )
        keyed = found.set_index(["notebook", "claim", "measure"])
        cells.append(keyed.apply(_cell, axis=1).rename(name))
    merged = pd.concat(cells, axis=1, sort=False).fillna("")
    return merged.sort_index(level="notebook", sort_remaining=False, kind="stable").reset_index()


def markdown(found: pd.DataFrame) -> str:
    """The table as Markdown."""
    lines = ["| " + " | ".join(map(str, found.columns)) + " |", "|" + "---|" * found.shape[1]]
    rows = found.astype(str).to_numpy().tolist()
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def filled(text: str, mark: str, found: pd.DataFrame) -> str:
    """A page with the table between the lines `<!-- mark -->` and `<!-- end of mark -->`.

    Raises ValueError when the page has no such lines.
    """
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    marked = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    if not marked.search(text):
        raise ValueError(f"the page has no lines {begin} and {end} to write between")
    return marked.sub(lambda match: f"{match[1]}{markdown(found)}\n{match[2]}", text)


def _claims(folder: Path, suffix: str, notebooks: Sequence[str]) -> pd.DataFrame:
    paths = sorted(folder.glob(f"??_claims_{suffix}.csv"))
    if not paths:
        raise FileNotFoundError(f"no file {folder}/??_claims_{suffix}.csv; publish a run first")
    tables = [pd.read_csv(path).assign(notebook=path.name[:2]) for path in paths]
    found = pd.concat(tables, ignore_index=True)
    return found[found["notebook"].isin(notebooks)] if notebooks else found


def _cell(row: pd.Series) -> str:
    """supported: +0.177 [+0.126, +0.242], 80 images; without a number when there is none (NaN)"""
    if math.isnan(row["estimate"]):
        return f"**{row['verdict']}**, {row['n']} {row['unit']}"
    number = f"{row['estimate']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    return f"**{row['verdict']}** {number}, {row['n']} {row['unit']}"
