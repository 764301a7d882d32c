"""Finished units from run folders, result folders and the folders of sweeps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from tttlib.results import columns
from tttlib.results.columns import KEY
from tttlib.results.store import provenance, read_table, unit_key


class Gathered(NamedTuple):
    """The units of one experiment.

    rows   all their rows, with a column `unit_key`
    units  one row per unit, by key: its fields, see `columns.of_unit`
    """

    rows: pd.DataFrame
    units: pd.DataFrame

    def where(self, kept: pd.Series) -> Gathered:
        """The rows that `kept` marks, and the units that still have some."""
        rows = self.rows[kept]
        return Gathered(rows, self.units[self.units.index.isin(rows[KEY].unique())])

    def values(self, name: str) -> pd.Series:
        """A column of the rows, or a field of their units."""
        if name in self.rows:
            return self.rows[name]
        return self.rows[KEY].map(self.units[name])

    def knows(self, name: str) -> bool:
        return name in self.rows or name in self.units


def result_files(folders: Sequence[str | Path]) -> list[Path]:
    """The Parquet files of folders: F/*, F/results/* and F/units/*/results/* of each F.

    Files that are being written have other names. Raises FileNotFoundError for a folder that is not
    there or has none.
    """
    found: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}; name a run, a sweep or a results folder")
        patterns = ("*.parquet", "results/*.parquet", "units/*/results/*.parquet")
        files = [p for pattern in patterns for p in sorted(folder.glob(pattern))]
        files = [p for p in files if not p.name.startswith(".")]
        if not files:
            raise FileNotFoundError(
                f"no finished units in {folder}: looked for {', '.join(patterns)}; "
                "run the experiment, or name the folder of one run"
            )
        found += files
    return list(dict.fromkeys(path.resolve() for path in found))


def gather(folders: Sequence[str | Path]) -> tuple[dict[str, Gathered], list[str]]:
    """The units of every experiment in `folders`, and notes on what was left out.

    A unit that lies in several folders with the same rows is read once; with other rows it is
    refused (ValueError).
    """
    seen: dict[str, tuple[Path, pa.Table, dict[str, Any]]] = {}
    copies = 0
    for path in result_files(folders):
        origin, table = provenance(path), read_table(path).replace_schema_metadata(None)
        key = unit_key(origin["unit"])
        if key in seen:
            _check_copy(seen[key], (path, table, origin))
            copies += 1
        else:
            seen[key] = (path, table, origin)
    experiments: dict[str, list[str]] = {}
    for key, (_, _, origin) in seen.items():
        experiments.setdefault(origin["unit"]["experiment"], []).append(key)
    found = {name: _joined(name, keys, seen) for name, keys in sorted(experiments.items())}
    notes = [f"{copies} files repeat the rows of another one; they count once"] if copies else []
    return found, notes


def _joined(name: str, keys: Iterable[str], seen: dict[str, tuple]) -> Gathered:
    tables, units = [], {}
    for key in keys:
        _, table, origin = seen[key]
        units[key] = columns.of_unit(origin)
        tables.append(table.append_column(KEY, pa.array([key] * len(table), pa.string())))
    try:
        rows = pa.concat_tables(tables, promote_options="permissive").to_pandas()
    except pa.ArrowException as error:
        raise ValueError(
            f"units of experiment {name!r} have columns of one name and different types ({error}); "
            "name folders of one kind"
        ) from error
    return Gathered(rows, pd.DataFrame.from_dict(units, orient="index"))


def _check_copy(
    a: tuple[Path, pa.Table, dict[str, Any]], b: tuple[Path, pa.Table, dict[str, Any]]
) -> None:
    """Two files of one unit must say the same."""
    (first, rows_a, origin_a), (second, rows_b, origin_b) = a, b
    if rows_a.to_pandas().equals(rows_b.to_pandas()):
        return
    fields_a, fields_b = columns.of_unit(origin_a), columns.of_unit(origin_b)
    differing = [n for n in {**fields_a, **fields_b} if fields_a.get(n) != fields_b.get(n)]
    name = differing[0] if differing else "utc"
    values = [{**o, **f}.get(name) for o, f in ((origin_a, fields_a), (origin_b, fields_b))]
    raise ValueError(
        f"{first} and {second} are the same unit with other rows; {name} is {values[0]!r} and "
        f"{values[1]!r}: leave one of the folders out, or delete one of the files"
    )
