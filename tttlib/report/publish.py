"""Committed figures: from a run folder into `figures/`, with an index that says what made them.

Beside them lies what the run measured (``rows/<suffix>.csv.gz``: mean and n of every setting, see
`compare.cells_of`). The index holds its digest for each figure, so that a figure of an older run
than its rows is found.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path

import filelock
import pandas as pd

from tttlib import results
from tttlib.results import compare
from tttlib.results.export import read_csv, write_csv
from tttlib.runtime.files import write
from tttlib.runtime.text import decode

COLUMNS = ["file", "what", "data", "command", "commit", "rows"]
LARGEST_SVG = 400_000
"""Bytes; a larger figure (thousands of points) is published as PNG."""

_HEAD = """# Figures

Named after notebook and content. The command beside each makes it again (with `TTTLIB_DATA` naming
the folder of the real images where the data are not `scenes`). `index.csv` is this table with, for
each, the digest of the rows it was made from; these lie in `rows/`, as mean and n of every setting.

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
    """Copy figures and tables of a run and enter them in the index.

    The caption of each becomes its entry. Figures are SVG where the run has one of at most
    `LARGEST_SVG` bytes, otherwise PNG.

    Parameters
    ----------
    run
        Folder of a run, with figures/, tables/ and results/.
    folder
        Where the committed figures are.
    suffix
        Goes into the file names: 02_gains -> 02_gains_<suffix>.svg. Each run has its own.
    data
        What the figures were made from, in words.
    command
        The command that makes the run again.
    names
        Names without ending; all figures and tables of the run when empty.

    Returns
    -------
    list of Path
        The copies.

    Raises
    ------
    ValueError
        For a name that the run does not have, and when the run has no figures and tables.
    FileNotFoundError
        For a figure or table without a caption beside it.
    """
    run, folder = Path(run), Path(folder)
    small = [p for p in run.glob("figures/*.svg") if p.stat().st_size <= LARGEST_SVG]
    figures = {path.stem: path for path in [*run.glob("figures/*.png"), *small]}
    available = [*figures.values(), *run.glob("tables/*.csv")]
    wanted = [path for path in available if not names or path.stem in names]
    missing = set(names) - {path.stem for path in wanted}
    if missing or not wanted:
        known = ", ".join(sorted({path.stem for path in available})) or "nothing"
        raise ValueError(f"{run} has no {', '.join(sorted(missing)) or 'figures'}; it has {known}")
    captions = {p: decode(p.with_suffix(".txt").read_bytes()).strip() for p in wanted}
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".lock"):  # two runs may be published at once
        digest = _keep_rows(run, folder, suffix)
        commit = _commits(run / "results")
        copies, entries = [], []
        for path in sorted(wanted):
            copy = folder / f"{path.stem}_{suffix}{path.suffix}"
            write(copy, path.read_bytes())
            entries.append([copy.name, captions[path], data, command, commit, digest])
            copies.append(copy)
            for other in {".png", ".svg"} - {path.suffix} if path.suffix != ".csv" else ():
                copy.with_suffix(other).unlink(missing_ok=True)
        _enter(folder, pd.DataFrame(entries, columns=COLUMNS))
    return copies


def digest_of_rows(folder: str | Path, suffix: str) -> str:
    """Return the first 12 hex digits of the sha256 of the text in ``rows/<suffix>.csv.gz``."""
    text = gzip.decompress((Path(folder) / "rows" / f"{suffix}.csv.gz").read_bytes())
    return hashlib.sha256(text).hexdigest()[:12]


def index(folder: str | Path) -> pd.DataFrame:
    """Return what is known of each committed figure: columns `COLUMNS`."""
    return read_csv(Path(folder) / "index.csv", dtype=str, keep_default_na=False)


def page(table: pd.DataFrame) -> str:
    """Return the index as a page of Markdown."""
    lines = ["| file | what | data | made by | at |", "|---|---|---|---|---|"]
    for row in table.itertuples(index=False):
        name = f"[{row.file}]({row.file})"
        lines.append(f"| {name} | {row.what} | {row.data} | `{row.command}` | {row.commit} |")
    return _HEAD + "\n".join(lines) + "\n"


def _enter(folder: Path, new: pd.DataFrame) -> None:
    """Replace the entries of the same files, drop those of files that are gone, keep the others."""
    path = folder / "index.csv"
    old = index(folder) if path.exists() else pd.DataFrame(columns=COLUMNS)
    kept = old[~old["file"].isin(new["file"]) & old["file"].map(lambda n: (folder / n).exists())]
    table = pd.concat([kept, new], ignore_index=True).sort_values("file", ignore_index=True)
    write_csv(path, table)
    write(folder / "README.md", page(table))


def _keep_rows(run: Path, folder: Path, suffix: str) -> str:
    """Write what the run measured beside its figures and return the digest."""
    cells = compare.cells_of(run, tables=False)[["cell", "quantity", "n", "mean"]]
    text = cells.to_csv(index=False, float_format="%.6g").encode()
    write(folder / "rows" / f"{suffix}.csv.gz", gzip.compress(text, mtime=0))
    return digest_of_rows(folder, suffix)


def _commits(folder: Path) -> str:
    """Return the commits (short) at which the rows of a run were computed."""
    commits = {results.provenance(p)["git_sha"] or "?" for p in folder.glob("*.parquet")}
    return ", ".join(sorted(sha[:7] for sha in commits)) or "?"
