"""The tables of a sweep: all result rows, and the state of its units."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from tttlib.sweep import records
from tttlib.sweep.plan_file import read_plan
from tttlib.sweep.sweeps import unit_folder

log = logging.getLogger(__name__)
_CODE = ("code", "sources")
_STATE = ("state", "seconds", *_CODE, "host", "error")


def load(out: str | Path) -> pd.DataFrame:
    """Return the rows of all done units of a sweep (`results.load` of each).

    The column `sweep_unit` holds the key of the unit; `code` (version and commit) and `sources`
    (a hash of the source files that the unit used) say which code made a row.

    A result that two units computed (the same file of results) counts once. Logged warnings say if
    the rows of such units differ, if versions of the code are mixed, and if units are not done.

    Raises
    ------
    FileNotFoundError
        Without a done unit that has rows.
    ValueError
        For a damaged or missing file of a done unit.
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
        if unfit := records.unfit_files(unit_folder(out, key), record):
            raise ValueError(f"{unfit[0]} is damaged or gone; the same sweep computes it again")
        folder = unit_folder(out, key) / "results"
        if not any(folder.glob("*.parquet")):
            continue
        code = {name: record.get(name, "") for name in _CODE}
        for name, group in results.load(folder).groupby("unit", sort=False):
            if (first := seen.setdefault(str(name), group)) is group:
                parts.append(group.assign(sweep_unit=key, **code))
            elif not _equal(first, group):
                log.warning(
                    "result %s differs between units of %s; the first one counts", name, out
                )
    if len(done) < len(listed):
        log.warning("%s: %d of %d units are not done", out, len(listed) - len(done), len(listed))
    if len(versions) > 1:
        counts = ", ".join(f"{code} ({n} units)" for code, n in sorted(versions.items()))
        log.warning("the rows of %s mix versions of the code: %s", out, counts)
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
    """Return one row per unit of the grid: key, label, state, seconds, code, host, error.

    The state is "open" for a unit without a record, "running" for one that was started last. The
    column `sources` stands for the content of the source files that the unit used.
    """
    out = Path(out)
    rows = []
    for unit in read_plan(out)["units"]:
        record: dict[str, Any] = records.read(unit_folder(out, unit["key"])) or {"state": "open"}
        shown = {name: record.get(name) for name in _STATE}
        rows.append({"key": unit["key"], "label": unit["label"], **shown})
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
