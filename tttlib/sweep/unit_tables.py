"""The tables of a sweep: all result rows, and the state of its units."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from tttlib.sweep import records
from tttlib.sweep.running import read_plan, unit_folder

log = logging.getLogger(__name__)


def load(out: str | Path) -> pd.DataFrame:
    """The rows of all done units of a sweep (`results.load` of each), with `sweep_unit`, its key.

    A result that two units computed (the same file of results) counts once; if their rows differ
    that is a logged warning, and so are versions of the code that are mixed and units that are not
    done. Raises FileNotFoundError without a done unit that has rows, ValueError for a damaged file.
    """
    from tttlib import results

    out = Path(out)
    parts: list[pd.DataFrame] = []
    versions: dict[str, int] = {}
    seen: dict[str, pd.DataFrame] = {}
    listed = read_plan(out)["units"]
    done = list(_done(out, listed))
    for key, record in done:
        versions[record["code"]] = versions.get(record["code"], 0) + 1
        folder = unit_folder(out, key) / "results"
        if not any(folder.glob("*.parquet")):
            continue
        for name, group in results.load(folder).groupby("unit", sort=False):
            if (first := seen.setdefault(str(name), group)) is group:
                parts.append(group.assign(sweep_unit=key))
            elif not _equal(first, group):
                log.warning(
                    "result %s differs between units of %s; the first one counts", name, out
                )
    if len(done) < len(listed):
        log.warning("%s: %d of %d units are not done", out, len(listed) - len(done), len(listed))
    if len(versions) > 1:
        told = ", ".join(f"{code} ({n} units)" for code, n in sorted(versions.items()))
        log.warning("the rows of %s mix versions of the code: %s", out, told)
    if not parts:
        raise FileNotFoundError(f"no done unit of {out} has result rows")
    tables = [pa.Table.from_pandas(part, preserve_index=False) for part in parts]
    try:
        return pa.concat_tables(tables, promote_options="permissive").to_pandas()
    except pa.ArrowException as error:
        raise ValueError(
            f"units of {out} have columns of one name and different types ({error}); "
            "load the results of their folders one by one"
        ) from error


def overview(out: str | Path) -> pd.DataFrame:
    """One row per unit of the grid: key, label, state, seconds, code, host, error.

    state is "open" for a unit without a record, "running" for one that was started last.
    """
    out = Path(out)
    rows = []
    for unit in read_plan(out)["units"]:
        record: dict[str, Any] = records.read(unit_folder(out, unit["key"])) or {"state": "open"}
        told = {name: record.get(name) for name in ("state", "seconds", "code", "host", "error")}
        rows.append({"key": unit["key"], "label": unit["label"], **told})
    return pd.DataFrame(rows)


def _done(out: Path, units: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for unit in units:
        record = records.read(unit_folder(out, unit["key"]))
        if record is not None and record["state"] == records.DONE:
            yield unit["key"], record


def _equal(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether they hold the same numbers, wherever and with whatever code they were computed."""
    a, b = (t.drop(columns=["git_sha", "device"]).dropna(axis=1, how="all") for t in (a, b))
    return a.reset_index(drop=True).equals(b.reset_index(drop=True))
