"""An experiment that needs no torch, for tests of sweeps; workers import it by its name.

Its rows are written as a `results.Store` writes them.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any


class Unprintable(Exception):
    """An error whose text raises another one."""

    def __str__(self) -> str:
        raise ZeroDivisionError


def trivial(
    run_dir: Path,
    *,
    number: int = 0,
    seed: int = 0,
    seconds: float = 0.0,
    fault: str = "",
    log: str = "",
    dataset: str = "",
    split: str = "",
    root: str = "",
) -> None:
    """Three rows that depend on number and seed.

    seconds  to sleep before the rows are written
    log      a file that gets a line at the start and one at the end
    fault    what goes wrong, see `_fail`
    """
    _tell(log, f"start {number} {seed} {os.getpid()}")
    time.sleep(seconds)
    _fail(fault, run_dir)
    write_rows(run_dir, {"experiment": "trivial", "number": number, "seed": seed})
    _tell(log, f"end {number} {seed} {os.getpid()}")


def write_rows(run_dir: Path, unit: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tttlib.results import unit_key

    value = [(unit["number"] * 31 + unit["seed"] * 7 + i) % 97 / 97 for i in range(3)]
    columns: dict[str, list] = {"id": [0, 1, 2], "value": value}
    columns |= {name: [x] * 3 for name, x in unit.items()}
    origin = {"unit": unit, "protocol": {}, "git_sha": "none", "device": "none"}
    table = pa.table(columns).replace_schema_metadata({b"tttlib": json.dumps(origin).encode()})
    path = run_dir / "results" / f"trivial-{unit_key(unit)}.parquet"
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    pq.write_table(table, temporary)
    os.replace(temporary, path)


def _tell(log: str, line: str) -> None:
    if log:
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def _fail(fault: str, run_dir: Path) -> None:
    if fault == "raise":
        raise ArithmeticError("two and two\nare five")
    if fault == "warn":
        logging.getLogger("tttlib.somewhere").warning("mind the gap")
    if fault == "hang":
        time.sleep(3600)
    if fault == "busy":  # deaf to exceptions
        while True:
            try:
                while True:
                    time.sleep(0.01)
            except KeyboardInterrupt:
                pass
    if fault == "deaf":  # keeps the interpreter's lock
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        ctypes.PyDLL(None).sleep(3600)
    if fault == "exit":
        raise SystemExit(3)
    if fault == "memory":
        import resource

        import numpy as np

        resource.setrlimit(resource.RLIMIT_AS, (2**31, resource.RLIM_INFINITY))
        try:
            kept = [np.empty(2**24) for _ in range(64)]  # 8 GiB
            assert kept
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    if fault == "interrupt":
        raise KeyboardInterrupt("pretended")
    if fault == "text":  # long, and no UTF-8
        raise ValueError(b"\xff\xfe".decode("utf-8", "surrogateescape") + 5_000_000 * "x")
    if fault == "unprintable":
        raise Unprintable
    if fault == "vanish":  # what another program may do to a shared folder
        for other in run_dir.parent.iterdir():
            if other != run_dir and (other / "unit.json").exists():
                shutil.rmtree(other)
    if fault == "orphan once" and not (run_dir / "died").exists():
        (run_dir / "died").touch()
        if (child := os.fork()) == 0:
            time.sleep(600)
            os._exit(0)
        (run_dir.parents[1] / "orphan").write_text(str(child))
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "die" or (fault == "die once" and not (run_dir / "died").exists()):
        (run_dir / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
