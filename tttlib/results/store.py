"""Finished units of work: one Parquet file each, with provenance.

A unit of work is what is computed, or lost, together: for instance 200 images of one corruption
with one setting. A finished unit is read, not run again, so every experiment is resumable.
"""

from __future__ import annotations

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

from tttlib.results.result_file import joined, provenance, read_table, write
from tttlib.runtime import clock, environment


class Store:
    """A folder of finished units, one Parquet file each."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, unit: Mapping[str, Any]) -> Path:
        """Return where the rows of `unit` are kept: <experiment>-<key>.parquet.

        Raises
        ------
        ValueError
            For a unit that is no JSON value, or whose `experiment` is no file name.
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
        """Return the rows of `unit`: read if it finished earlier, else computed and kept.

        Parameters
        ----------
        unit
            What identifies the work (JSON values; `experiment` is required). Its scalars become
            columns where `function` gives none of that name.
        function
            Computes the rows.
        protocol
            What a reader must know to compare the numbers (reset rule, weights hash, dataset
            fingerprint, …); kept as provenance.
        force
            Run again and replace the rows.

        Raises
        ------
        ValueError
            For a unit that is no JSON value, for a damaged file, and for a finished unit that was
            computed under another protocol.
        """
        path = self.path(unit)
        identity = _jsonable(dict(unit), "unit")
        protocol = _jsonable(dict(protocol or {}), "protocol")
        if path.exists() and not force:
            _check_same(path, {"unit": identity, "protocol": protocol})
            return read_table(path).to_pandas()
        start = time.perf_counter()
        rows = function()
        if not isinstance(rows, pd.DataFrame):
            raise ValueError(f"the function of a unit returns a DataFrame, not {type(rows)}")
        origin = {
            "unit": identity,
            "protocol": protocol,
            "seconds": round(time.perf_counter() - start, 3),
            "utc": clock.now(),
            **environment.describe(),
        }
        for name, value in identity.items():
            if name not in rows and not isinstance(value, list | dict):
                rows = rows.assign(**{name: value})
        write(path, rows, origin)
        return read_table(path).to_pandas()


def unit_key(unit: Mapping[str, Any]) -> str:
    """Return 16 hex digits that depend on the content of `unit` alone.

    They are the sha256 of its canonical JSON: sorted keys, numpy scalars as Python ones, tuples as
    lists, floats by their shortest exact form, no NaN. 1 and 1.0 differ. Paths are refused: they
    differ between machines.
    """
    text = json.dumps(
        _jsonable(dict(unit), "unit"), sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load(folder: str | Path) -> pd.DataFrame:
    """Return the rows of all finished units of a folder.

    They have the columns `unit` (the key), `git_sha` and `device`. Half-written files have other
    names and are not seen. Columns that a unit lacks are empty.

    Raises
    ------
    FileNotFoundError
        When there is no finished unit.
    ValueError
        For a damaged file, and for columns of one name and different types.
    """
    paths = sorted(Path(folder).glob("*.parquet"))
    if not paths:
        raise FileNotFoundError(f"no finished units (*.parquet) in {folder}; run the experiment")
    tables = []
    for path in paths:
        table, origin = read_table(path), provenance(path)
        named = {**origin, "unit": unit_key(origin["unit"])}
        for name in ("git_sha", "device", "unit"):
            if name not in table.column_names:
                column = pa.array([named[name]] * len(table), pa.string())
                table = table.append_column(name, column)
        tables.append(table)
    return joined(tables, str(folder), "keep different experiments in different folders")


def _check_same(path: Path, wanted: Mapping[str, Any]) -> None:
    origin = provenance(path)
    for part, after in wanted.items():
        before = origin[part]
        for name in {**before, **after}:
            if before.get(name) != after.get(name):
                raise ValueError(
                    f"{path} was computed with another {part}: {name} was {before.get(name)!r}, "
                    f"is now {after.get(name)!r}; delete the file or use another run folder"
                )


def _jsonable(value: Any, where: str) -> Any:
    """Return `value` with plain JSON values for numpy scalars and tuples; refuse what is none."""
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
