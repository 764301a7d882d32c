"""Committed figures: from a run folder into `figures/`, with an index that says what made them.

Beside them lies what the run measured (`rows/<suffix>.csv.gz`: mean and n of every setting, see
`compare.cells_of`). The index holds its digest for each figure, so that a figure of an older run
than its rows is found.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tttlib import results
from tttlib.results import compare

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
    """Copy figures and tables of a run and enter them in the index; returns the copies.

    run     folder of a run, with figures/, tables/ and results/
    folder  where the committed figures are
    suffix  goes into the file names: 02_gains -> 02_gains_<suffix>.svg; one run for each suffix
    data    what they were made from, in words
    names   without ending; all of the run when empty
    The caption of each becomes its entry. Figures are SVG where the run has one of at most
    `LARGEST_SVG` bytes, else PNG. Raises ValueError for a name the run does not have, or when
    nothing is there.
    """
    run, folder = Path(run), Path(folder)
    made = {
        p.stem: p for p in [*run.glob("figures/*.png"), *filter(_small, run.glob("figures/*.svg"))]
    }
    found = [*made.values(), *run.glob("tables/*.csv")]
    wanted = [p for p in found if not names or p.stem in names]
    missing = set(names) - {p.stem for p in wanted}
    if missing or not wanted:
        known = ", ".join(sorted({p.stem for p in found})) or "nothing"
        raise ValueError(f"{run} has no {', '.join(sorted(missing)) or 'figures'}; it has {known}")
    digest = _keep_rows(run, folder, suffix)
    commit = _commits(run / "results")
    copies, rows = [], []
    for path in sorted(wanted):
        copy = folder / f"{path.stem}_{suffix}{path.suffix}"
        _replace(copy, path.read_bytes())
        what = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        rows.append([copy.name, what, data, command, commit, digest])
        copies.append(copy)
        for other in {".png", ".svg"} - {path.suffix} if path.suffix != ".csv" else ():
            copy.with_suffix(other).unlink(missing_ok=True)
    _enter(folder, pd.DataFrame(rows, columns=COLUMNS))
    return copies


def digest_of_rows(folder: str | Path, suffix: str) -> str:
    """Of `rows/<suffix>.csv.gz`: 12 hex digits of the sha256 of its text."""
    text = gzip.decompress((Path(folder) / "rows" / f"{suffix}.csv.gz").read_bytes())
    return hashlib.sha256(text).hexdigest()[:12]


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
    """Replace the entries of the same files, drop those of files that are gone, keep the others."""
    path = folder / "index.csv"
    old = index(folder) if path.exists() else pd.DataFrame(columns=COLUMNS)
    kept = old[~old["file"].isin(new["file"]) & old["file"].map(lambda n: (folder / n).exists())]
    table = pd.concat([kept, new], ignore_index=True).sort_values("file", ignore_index=True)
    _replace(path, table.to_csv(index=False).encode())
    _replace(folder / "README.md", page(table).encode())


def _keep_rows(run: Path, folder: Path, suffix: str) -> str:
    """Write what the run measured beside its figures; returns the digest."""
    cells = compare.cells_of(run, tables=False)[["cell", "quantity", "n", "mean"]]
    text = cells.to_csv(index=False, float_format="%.6g").encode()
    (folder / "rows").mkdir(exist_ok=True)
    _replace(folder / "rows" / f"{suffix}.csv.gz", gzip.compress(text, mtime=0))
    return digest_of_rows(folder, suffix)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _small(path: Path) -> bool:
    return path.stat().st_size <= LARGEST_SVG


def _commits(folder: Path) -> str:
    """The commits (short) at which the rows of a run were computed."""
    found = {results.provenance(p)["git_sha"] or "?" for p in folder.glob("*.parquet")}
    return ", ".join(sorted(sha[:7] for sha in found)) or "?"
