"""The tables of a sweep: all result rows, and the state of its units."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttlib.sweep import records
from tttlib.sweep.plan_file import read_plan
from tttlib.sweep.sweeps import unit_folder

if TYPE_CHECKING:
    import pandas as pd

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
    import pyarrow as pa  # here: it and pandas take a second to import

    from tttlib import results
    from tttlib.results.result_file import joined

    out = Path(out)
    parts: list[pd.DataFrame] = []
    seen: dict[str, pd.DataFrame] = {}
    found = {unit["key"]: _record(out, unit) for unit in read_plan(out)["units"]}
    done = {key: record for key, record in found.items() if record["state"] == records.DONE}
    for key, record in done.items():
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
                said = "result %s differs between units of %s; the first one counts"
                log.warning(said, name, out)
    if len(done) < len(found):
        log.warning("%s: %d of %d units are not done", out, len(found) - len(done), len(found))
    versions = Counter(record["code"] for record in done.values())
    if len(versions) > 1:
        counts = ", ".join(f"{code} ({n} units)" for code, n in sorted(versions.items()))
        log.warning("the rows of %s mix versions of the code: %s", out, counts)
    if not parts:
        raise FileNotFoundError(f"no done unit of {out} has result rows")
    tables = [pa.Table.from_pandas(part, preserve_index=False) for part in parts]
    return joined(tables, str(out), "load the results of their folders one by one")


def overview(out: str | Path) -> pd.DataFrame:
    """Return one row per unit of the grid: key, label, state, seconds, code, host, error.

    The state is "open" for a unit without a record, "running" for one that was started last. The
    column `sources` stands for the content of the source files that the unit used.
    """
    import pandas as pd

    rows = []
    for unit in read_plan(out)["units"]:
        record = _record(Path(out), unit)
        shown = {name: record.get(name) for name in _STATE}
        rows.append({"key": unit["key"], "label": unit["label"], **shown})
    return pd.DataFrame(rows)


def _record(out: Path, unit: dict[str, Any]) -> dict[str, Any]:
    return records.read(unit_folder(out, unit["key"])) or {"state": "open"}


def _equal(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether they hold the same numbers, wherever and with whatever code they were computed."""
    a, b = (t.drop(columns=["git_sha", "device"]).dropna(axis=1, how="all") for t in (a, b))
    return a.reset_index(drop=True).equals(b.reset_index(drop=True))
