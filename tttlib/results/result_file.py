"""One Parquet file of result rows, with their provenance in its metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tttlib.runtime.files import atomic_write

_METADATA = b"tttlib"


def write(path: Path, rows: pd.DataFrame, origin: dict[str, Any]) -> None:
    """Write rows with their provenance `origin`, complete or not at all; the folder is made."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), _METADATA: json.dumps(origin).encode()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="zstd")


def read_table(path: Path) -> pa.Table:
    """Return all rows of a file; raise ValueError with the remedy when it is damaged."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def provenance(path: str | Path) -> dict[str, Any]:
    """Return where the rows of a file come from: its unit, protocol, git sha, versions and device.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is damaged or holds no provenance.
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


def joined(tables: Sequence[pa.Table], name: str, remedy: str) -> pd.DataFrame:
    """Return the rows of several tables; columns that a table lacks are empty.

    Parameters
    ----------
    tables
        The tables to join.
    name, remedy
        What the tables belong to and what helps, for the message of the error.

    Raises
    ------
    ValueError
        When columns of one name have types that do not fit together.
    """
    try:
        bare = [table.replace_schema_metadata(None) for table in tables]
        return pa.concat_tables(bare, promote_options="permissive").to_pandas()
    except pa.ArrowException as error:
        raise ValueError(
            f"units of {name} have columns of one name and different types ({error}); {remedy}"
        ) from error


def _damaged(path: str | Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is damaged ({str(error).splitlines()[0]}); delete it and run again: "
        "only this unit is computed anew"
    )
