"""One accelerator in a few minutes: what it can do, and what the library makes of it.

The parts run in the order of their worth, each into a table of its own, so that a run which is cut
off or started again loses one part at most. On a CPU they run at a size that takes seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tttlib.bench.device_parts import PARTS, Size
from tttlib.runtime import environment
from tttlib.runtime.devices import best_device
from tttlib.runtime.files import atomic_write

log = logging.getLogger(__name__)

FULL = Size(
    vits=(("ViT-S/16 at 224", "small"), ("ViT-L/16 at 224", "large")),
    masks=(1, 8, 32, 128),
    steps=10,
    stack=16,
    networks=(("wrn-28-10", 32, 200), ("resnet-50", 224, 64)),
    sides=((32, 4096), (64, 2048), (224, 256)),
    rounds=3,
    products=(2048, 4096, 8192, 16384),
)
TINY = Size(
    vits=(("scenes", "scenes"),),
    masks=(1, 2),
    steps=2,
    stack=2,
    networks=(("wrn-10-1", 32, 8),),
    sides=((32, 16),),
    rounds=2,
    products=(256, 512),
)


def bench_device(
    out: Path, parts: Sequence[str] | None = None, size: Size | None = None
) -> dict[str, pd.DataFrame]:
    """Run the parts that `out` does not hold yet and return all their tables.

    Parameters
    ----------
    out
        Folder; part NAME is written to `<out>/tables/device_NAME.csv`, and until it is complete,
        row by row, to `device_NAME.part`.
    parts
        Names of `PARTS`; default: all, in their order.
    size
        Default: `FULL` on a GPU, `TINY` on a CPU.

    Raises
    ------
    ValueError
        For an unknown part.
    """
    device = best_device()
    size = size or (FULL if device.type == "cuda" else TINY)
    wanted = list(PARTS) if parts is None else list(parts)
    if unknown := [name for name in wanted if name not in PARTS]:
        raise ValueError(f"unknown parts {', '.join(unknown)}; known are {', '.join(PARTS)}")
    folder = out / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    tables = {}
    for name in wanted:
        path = folder / f"device_{name}.csv"
        if not path.is_file():
            unfinished, start = path.with_suffix(".part"), time.perf_counter()
            rows: list[dict[str, Any]] = []
            for row in PARTS[name](device, size):
                rows.append({"device": environment.describe()["device"], **row})
                log.info("%s: %s", name, _words(row))
                with atomic_write(unfinished) as temporary:
                    pd.DataFrame(rows).to_csv(temporary, index=False)
            unfinished.replace(path)
            log.info("%s: %.0f s", name, time.perf_counter() - start)
        tables[name] = pd.read_csv(path)
    return tables


def _words(row: dict[str, Any]) -> str:
    shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
    return ", ".join(shown)
