"""Committed figures: from a run folder into `figures/`, with an index that says what made them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tttlib import results

COLUMNS = ["file", "what", "data", "command", "commit"]
_HEAD = """# Figures

Named after notebook and content. The command beside each makes it again (with `TTTLIB_DATA` naming
the folder of the real images where the data are not `scenes`). `index.csv` is this table.

"""


def publish(
    run: str | Path,
    folder: str | Path,
    *,
    suffix: str,
    data: str,
    command: str,
    names: Sequence[str] = (),
) -> list[Path]:
    """Copy figures (PNG) and tables (CSV) of a run and enter them in the index; returns the copies.

    run     folder of a run, with figures/, tables/ and results/
    folder  where the committed figures are
    suffix  goes into the file names: 02_gains -> 02_gains_<suffix>.png
    data    what they were made from, in words
    names   without ending; all of the run when empty
    The caption of each becomes its entry. Raises ValueError for a name the run does not have, or
    when nothing is there.
    """
    run, folder = Path(run), Path(folder)
    made = {p.name: p for p in [*run.glob("figures/*.png"), *run.glob("tables/*.csv")]}
    wanted = [p for p in made.values() if not names or p.stem in names]
    missing = set(names) - {p.stem for p in wanted}
    if missing or not wanted:
        known = ", ".join(sorted({p.stem for p in made.values()})) or "nothing"
        raise ValueError(f"{run} has no {', '.join(sorted(missing)) or 'figures'}; it has {known}")
    commit = _commits(run / "results")
    copies, rows = [], []
    for path in sorted(wanted):
        copy = folder / f"{path.stem}_{suffix}{path.suffix}"
        temporary = copy.with_name(f".{copy.name}")
        shutil.copyfile(path, temporary)
        os.replace(temporary, copy)
        what = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        rows.append([copy.name, what, data, command, commit])
        copies.append(copy)
    _enter(folder, pd.DataFrame(rows, columns=COLUMNS))
    return copies


def index(folder: str | Path) -> pd.DataFrame:
    """What is known of each committed figure: file, what, data, command, commit."""
    return pd.read_csv(Path(folder) / "index.csv", dtype=str, keep_default_na=False)


def page(table: pd.DataFrame) -> str:
    """The index as a page of Markdown."""
    lines = ["| file | what | data | made by | at |", "|---|---|---|---|---|"]
    for row in table.itertuples(index=False):
        name = f"[{row.file}]({row.file})"
        lines.append(f"| {name} | {row.what} | {row.data} | `{row.command}` | {row.commit} |")
    return _HEAD + "\n".join(lines) + "\n"


def _enter(folder: Path, new: pd.DataFrame) -> None:
    """Replace the entries of the same files, keep the others; write index and page."""
    path = folder / "index.csv"
    old = index(folder) if path.exists() else pd.DataFrame(columns=COLUMNS)
    kept = old[~old["file"].isin(new["file"])]
    table = pd.concat([kept, new], ignore_index=True).sort_values("file", ignore_index=True)
    for target, text in {
        path: table.to_csv(index=False),
        folder / "README.md": page(table),
    }.items():
        temporary = target.with_name(f".{target.name}")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, target)


def _commits(folder: Path) -> str:
    """The commits (short) at which the rows of a run were computed."""
    found = {results.provenance(p)["git_sha"] or "?" for p in folder.glob("*.parquet")}
    return ", ".join(sorted(sha[:7] for sha in found)) or "?"
