"""Finished units of work: one Parquet file each, with provenance.

A unit of work is what is computed, or lost, together: for instance 200 images of one corruption
with one setting. A finished unit is read, not run again, so every experiment is resumable.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tttlib.runtime import environment

_METADATA = b"tttlib"


class Store:
    """A folder of finished units, one Parquet file each."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, unit: Mapping[str, Any]) -> Path:
        """Where the rows of `unit` are kept: <experiment>-<key>.parquet.

        Raises ValueError for a unit that is no JSON or whose `experiment` is no file name.
        """
        experiment = unit.get("experiment")
        if not isinstance(experiment, str) or not re.fullmatch(r"[\w.-]*\w", experiment):
            raise ValueError(
                f"a unit needs an 'experiment' made of letters, digits, '_', '-' and '.', "
                f"got {experiment!r}"
            )
        return self.folder / f"{experiment}-{unit_key(unit)}.parquet"

    def run(
        self,
        unit: Mapping[str, Any],
        function: Callable[[], pd.DataFrame],
        *,
        protocol: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> pd.DataFrame:
        """The rows of `unit`: read when finished earlier, else computed by `function` and kept.

        unit      what identifies the work (JSON values; `experiment` is required); its scalars
                  become columns where `function` gives none of that name
        protocol  what a reader must know to compare the numbers (reset rule, weights hash, dataset
                  fingerprint, …); kept as provenance
        force     run again and replace

        Raises ValueError for a unit that is no JSON, for a damaged file, and for a finished unit
        that was computed under another protocol.
        """
        path = self.path(unit)
        wanted = _jsonable(dict(protocol or {}), "protocol")
        if path.exists() and not force:
            _check_same(path, provenance(path), _jsonable(dict(unit), "unit"), wanted)
            return read_table(path).to_pandas()
        start = time.perf_counter()
        rows = function()
        if not isinstance(rows, pd.DataFrame):
            raise ValueError(f"the function of a unit returns a DataFrame, not {type(rows)}")
        origin = {
            "unit": _jsonable(dict(unit), "unit"),
            "protocol": wanted,
            "seconds": round(time.perf_counter() - start, 3),
            "utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **environment.describe(),
        }
        for name, value in origin["unit"].items():
            if name not in rows and (value is None or isinstance(value, bool | int | float | str)):
                rows = rows.assign(**{name: value})
        _write(path, rows, origin)
        return read_table(path).to_pandas()


def unit_key(unit: Mapping[str, Any]) -> str:
    """16 hex digits that depend on the content of `unit` alone (sha256 of its canonical JSON).

    Canonical: sorted keys, numpy scalars as Python ones, tuples as lists, floats by their shortest
    exact form, no NaN. 1 and 1.0 differ. Paths are refused: they differ between machines.
    """
    text = json.dumps(
        _jsonable(dict(unit), "unit"), sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load(folder: str | Path) -> pd.DataFrame:
    """Rows of all finished units of a folder, with columns `unit` (key), `git_sha` and `device`.

    Half-written files have other names and are not seen. Columns that a unit lacks are empty.
    Raises FileNotFoundError when there is no finished unit, ValueError for a damaged file.
    """
    paths = sorted(Path(folder).glob("*.parquet"))
    if not paths:
        raise FileNotFoundError(f"no finished units (*.parquet) in {folder}; run the experiment")
    tables = []
    for path in paths:
        table, origin = read_table(path), provenance(path)
        extra = {"git_sha": origin["git_sha"], "device": origin["device"]}
        extra["unit"] = unit_key(origin["unit"])
        for name, value in extra.items():
            if name not in table.column_names:
                column = pa.array([value] * len(table), pa.string())
                table = table.append_column(name, column)
        tables.append(table.replace_schema_metadata(None))
    try:
        return pa.concat_tables(tables, promote_options="permissive").to_pandas()
    except pa.ArrowException as error:
        raise ValueError(
            f"units of {folder} have columns of one name and different types ({error}); "
            "keep different experiments in different folders"
        ) from error


def provenance(path: str | Path) -> dict[str, Any]:
    """Where the rows of a file come from: unit, protocol, git sha, versions, device, time, …

    Raises FileNotFoundError when there is no file, ValueError when it is damaged or does not say.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no result file {path}")
    try:
        raw = (pq.read_schema(path).metadata or {}).get(_METADATA)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    if raw is None:
        raise ValueError(f"{path} was not written by a results.Store: it has no provenance")
    return json.loads(raw)


def _check_same(path: Path, origin: dict, unit: Any, protocol: Any) -> None:
    for what, wanted in (("unit", unit), ("protocol", protocol)):
        found = origin[what]
        differing = [k for k in {**found, **wanted} if found.get(k) != wanted.get(k)]
        if differing:
            k = differing[0]
            raise ValueError(
                f"{path} was computed with another {what}: {k} was {found.get(k)!r}, is now "
                f"{wanted.get(k)!r}; delete the file or use another run folder"
            )


def _jsonable(value: Any, where: str) -> Any:
    """`value` with numpy scalars and tuples as plain JSON values; ValueError names what is none."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{where}: key {key!r} is no string")
        return {key: _jsonable(value[key], f"{where}.{key}") for key in value}
    if isinstance(value, list | tuple):
        return [_jsonable(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not np.isfinite(value):
        raise ValueError(f"{where} is {value}; say None or a string instead")
    if isinstance(value, os.PathLike):
        raise ValueError(f"{where} is a path ({value}), which differs between machines: name it")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{where} is a {type(value).__name__}, no JSON value: {value!r:.80}")


def _write(path: Path, rows: pd.DataFrame, origin: dict) -> None:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    described = {**(table.schema.metadata or {}), _METADATA: json.dumps(origin).encode()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(table.replace_schema_metadata(described), temporary, compression="zstd")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_table(path: Path) -> pa.Table:
    """All rows of a file; ValueError with the remedy when it is damaged."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: str | Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is damaged ({str(error).splitlines()[0]}); delete it and run again: "
        "only this unit is computed anew"
    )
