"""Finished units from run folders, result folders and the folders of sweeps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from tttlib.results import columns, unit_state
from tttlib.results.columns import KEY
from tttlib.results.result_file import joined, provenance, read_table
from tttlib.results.store import unit_key

_PATTERNS = ("*.parquet", "results/*.parquet", "units/*/results/*.parquet")


class Gathered(NamedTuple):
    """The units of one experiment.

    Attributes
    ----------
    rows
        All rows of the units, with a column `unit_key`.
    units
        One row per unit, by key: its fields, see `columns.of_unit`.
    """

    rows: pd.DataFrame
    units: pd.DataFrame

    def where(self, kept: pd.Series) -> Gathered:
        """Return the rows that `kept` marks, and the units that still have some."""
        rows = self.rows[kept]
        return Gathered(rows, self.units[self.units.index.isin(rows[KEY].unique())])

    def values(self, name: str) -> pd.Series:
        """Return a column of the rows, or a field of their units, for every row."""
        if name in self.rows:
            return self.rows[name]
        return self.rows[KEY].map(self.units[name])

    def knows(self, name: str) -> bool:
        """Return whether `name` is a column of the rows or a field of the units."""
        return name in self.rows or name in self.units

    def distinct(self, names: Iterable[str]) -> pd.DataFrame:
        """Return the combinations of values that occur, one row each; `KEY` is among the names."""
        names = list(dict.fromkeys(names))
        rows = self.rows[[n for n in names if n in self.rows]].drop_duplicates()
        return rows.join(self.units[[n for n in names if n not in self.rows]], on=KEY)

    def settings(self) -> list[str]:
        """Return the columns that tell settings apart, `columns.LEADING` first.

        They are the fields of the units, without those for images, identity and what is only noted;
        and of the rows `step` and every text that does not belong to an image.
        """
        apart = {*columns.WHICH_IMAGES, *columns.NOTED, KEY, "seed"}
        own = [
            c
            for c in self._others()
            if c in columns.LEADING or not pd.api.types.is_numeric_dtype(self.rows[c])
        ]
        names = {c for c in [*self.units, *own] if c not in apart and not columns.is_identity(c)}
        return columns.ordered(names)

    def measured(self) -> list[str]:
        """Return the columns that hold results: right or wrong, and fractional numbers."""
        kinds = (pd.api.types.is_bool_dtype, pd.api.types.is_float_dtype)
        found = [c for c in self._others() if c not in columns.LEADING]
        return [c for c in found if any(is_kind(self.rows[c]) for is_kind in kinds)]

    def _others(self) -> list[str]:
        """Return the columns of the rows that say nothing of units, images or verdicts."""
        known = {*self.units.columns, *columns.OF_IMAGES, *columns.OF_VERDICTS}
        return [c for c in self.rows.columns if c not in known]


class _Unit(NamedTuple):
    path: Path
    table: pa.Table
    origin: dict[str, Any]


def result_files(folders: Sequence[str | Path]) -> list[Path]:
    """Return the Parquet files of folders: F/*, F/results/* and F/units/*/results/* of each F.

    Files that are being written have other names. Units of a sweep that are not done are left out.

    Raises
    ------
    FileNotFoundError
        For a folder that does not exist or holds no finished unit.
    """
    return _files(folders)[0]


def gather(folders: Sequence[str | Path]) -> tuple[dict[str, Gathered], list[str]]:
    """Return the units of every experiment in `folders`, and notes on what was left out.

    A unit that lies in several folders with the same rows is read once.

    Raises
    ------
    FileNotFoundError
        As `result_files`.
    ValueError
        For a unit that lies in several folders with different rows.
    """
    files, notes = _files(folders)
    units: dict[str, _Unit] = {}
    for path in files:
        origin, table = provenance(path), read_table(path).replace_schema_metadata(None)
        unit, key = _Unit(path, table, origin), unit_key(origin["unit"])
        if (first := units.setdefault(key, unit)) is not unit:
            _check_copy(first, unit)
    experiments: dict[str, list[str]] = {}
    for key, unit in units.items():
        experiments.setdefault(unit.origin["unit"]["experiment"], []).append(key)
    if copies := len(files) - len(units):
        notes.append(f"{copies} files repeat the rows of another one; they count once")
    return {name: _together(name, keys, units) for name, keys in sorted(experiments.items())}, notes


def _files(folders: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    files: list[Path] = []
    notes: list[str] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}; name a run, a sweep or a results folder")
        found = [path for pattern in _PATTERNS for path in sorted(folder.glob(pattern))]
        present = [path for path in found if not path.name.startswith(".")]
        complete, reasons = unit_state.completed(folder, present)
        if not complete:
            reason = "; ".join([*reasons, f"looked for {', '.join(_PATTERNS)}"])
            help_ = "run the experiment, or name the folder of one run"
            raise FileNotFoundError(f"no finished units in {folder}: {reason}; {help_}")
        files += complete
        notes += reasons
    return list(dict.fromkeys(files)), notes


def _together(name: str, keys: Iterable[str], units: dict[str, _Unit]) -> Gathered:
    tables, fields = [], {}
    for key in keys:
        _, table, origin = units[key]
        fields[key] = columns.of_unit(origin)
        tables.append(table.append_column(KEY, pa.array([key] * len(table), pa.string())))
    rows = joined(tables, f"experiment {name!r}", "name folders of one kind")
    return Gathered(rows, pd.DataFrame.from_dict(fields, orient="index"))


def _check_copy(a: _Unit, b: _Unit) -> None:
    """Refuse two files of one unit that hold different rows."""
    if a.table.to_pandas().equals(b.table.to_pandas()):
        return
    one, other = (columns.of_unit(u.origin) for u in (a, b))
    name = next((n for n in {**one, **other} if one.get(n) != other.get(n)), "utc")
    first, second = ({**a.origin, **one}.get(name), {**b.origin, **other}.get(name))
    raise ValueError(
        f"{a.path} and {b.path} are the same unit with other rows; {name} is {first!r} and "
        f"{second!r}: leave one of the folders out, or delete one of the files"
    )
