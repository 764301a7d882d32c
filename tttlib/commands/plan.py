"""The command `tttlib plan`: hours and memory of a grid before it is started."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from tttlib.cost import Clock

_WORKERS = (1, 2, 4, 8, 16)


def plan(
    grid: Annotated[Path, typer.Argument(metavar="GRID.yaml", help="As for `tttlib sweep`.")],
    workers: Annotated[
        list[int] | None,
        typer.Option(help="Number of workers; repeatable.", show_default="1, 2, 4, 8, 16"),
    ] = None,
    budget: Annotated[
        float, typer.Option(metavar="SECONDS", help="For measuring one constant, roughly.")
    ] = 5.0,
    device_flops: Annotated[
        float | None,
        typer.Option(
            metavar="FLOP/S",
            help="What another device sustains, such as 2e13; networks "
            "are then counted, not timed.",
        ),
    ] = None,
    bench: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The same from tables/bench_ttt.csv of that device (`tttlib bench ttt`).",
        ),
    ] = None,
    seconds: Annotated[
        list[str] | None,
        typer.Option("--seconds", metavar="NAME=S", help="Of one unit of a notebook; repeatable."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write seconds and bytes of every unit.")
    ] = None,
) -> None:
    """Predict the hours and the memory of a grid: a short calibration, times what it will do.

    Measures one step of each network at its masks, one batch of each method, one forward pass and
    every corruption on this machine, each for a few seconds, and keeps nothing. For a machine that
    is not at hand give --device-flops or --bench.
    """
    from tttlib import cost

    if device_flops is not None and bench is not None:
        raise ValueError("give --device-flops or --bench, not both")
    rate = _sustained(bench) if bench is not None else device_flops
    clock = cost.Clock(budget, rate)
    units = [(unit.experiment, unit.parameters) for unit in _units(grid)]
    table = cost.predict(units, clock, seconds=_given(seconds))
    for line in _lines(table, units, clock, workers or _WORKERS, rate):
        typer.echo(line)
    if csv is not None:
        csv.parent.mkdir(parents=True, exist_ok=True)
        temporary = csv.with_name(f".{csv.name}.{os.getpid()}.tmp")
        table.to_csv(temporary, index=False)
        os.replace(temporary, csv)
        typer.echo(f"written: {csv}")


def add_to(app: typer.Typer) -> None:
    """Hook the command into the command line."""
    app.command()(plan)


def _units(grid: Path) -> list[Any]:
    """The units of a grid file: objects with `experiment` and `parameters`."""
    return importlib.import_module("tttlib.sweep.grid").read_grid(grid)


def _lines(
    table: pd.DataFrame,
    units: Sequence[tuple[str, Mapping[str, Any]]],
    clock: Clock,
    workers: Sequence[int],
    rate: float | None,
) -> list[str]:
    from tttlib import cost

    start = clock.worker({str(p.get("dataset", "")) for _, p in units})
    where = f"a device of {rate:.3g} FLOP/s" if rate else _device()
    lines = [f"{len(table)} units on {where}", ""]
    for name, part in table.groupby("experiment", sort=False):
        lines.append(f"{name}: {len(part)} units, {_each(part)}")
    lines += ["", *(f"  {_per(clock, task)}" for task in clock.known)]
    total = table["seconds"].sum()
    lines += ["", f"together {_hours(total / 3600)} of one worker:"]
    lines += [
        f"  {name} {100 * table[name].sum() / total:.0f} %"
        for name in cost.plan.SECONDS
        if total and table[name].sum() > 0
    ]
    unknown = table[table["seconds"].isna()]
    if len(unknown):
        names = ", ".join(unknown["experiment"].unique())
        lines.append(
            f"not counted: {len(unknown)} units of {names}; run one and give its time, "
            "--seconds NAME=S"
        )
    lines += ["", f"{'workers':>7} {'hours':>9} {'GPU-hours':>9} {'memory in all':>14}"]
    for n in workers:
        hours = cost.hours_with(table, n, start)
        bytes_ = table["bytes"].nlargest(n).sum()
        lines.append(f"{n:7d} {hours:9.2f} {hours * n:9.2f} {_size(bytes_):>14}")
    peak = table["bytes"].max()
    lines += [
        "",
        f"a worker is ready after {start:.0f} s and holds up to {_size(peak)}, the libraries apart",
        "each worker needs a device of its own for this: on one machine they share its processors",
    ]
    return lines


def _each(part: pd.DataFrame) -> str:
    if part["seconds"].isna().all():
        return "time unknown"
    low, high = part["seconds"].min(), part["seconds"].max()
    same = high < 1.05 * low
    each = f"{low:.1f} s" if same else f"{low:.1f} to {high:.1f} s"
    return (
        f"{each} each, {_hours(part['seconds'].sum() / 3600)}, up to {_size(part['bytes'].max())}"
    )


def _per(clock: Clock, task: Any) -> str:
    """A constant in words."""
    s = task.values
    words = {
        "step": "step of an image with {batch_size} masks, {model}",
        "predict": "prediction for an image, {model}",
        "image": "image beside its steps, {model}",
        "arrival": "arrival of online training with {batch_size} masks x {steps}, {model}",
        "batch": "batch of {batch_size}, {method} on {model}",
        "forward": "forward pass of an image, {model}",
        "corrupt": "{name} at severity {severity:g}, {size} pixels",
        "decode": "decoding an image, {size} pixels",
        "load": "loading {model}",
    }[task.kind]
    return f"{1000 * clock.seconds(task):10.3f} ms  {words.format(**s)}"


def _sustained(file: Path) -> float:
    """FLOP/s of the middle row of a table of `tttlib bench ttt`.

    Raises ValueError for a file without the columns.
    """
    import pandas as pd

    if not file.is_file():
        raise FileNotFoundError(f"no table {file}; `tttlib bench ttt --out DIR` writes one")
    table = pd.read_csv(file)
    if not {"GFLOP", "image steps/s"} <= set(table):
        raise ValueError(f"{file} is no table of `tttlib bench ttt`: no GFLOP, image steps/s")
    return float((1e9 * table["GFLOP"] * table["image steps/s"]).median())


def _given(pairs: Sequence[str] | None) -> dict[str, float]:
    found = {}
    for pair in pairs or ():
        name, _, value = pair.partition("=")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise ValueError(f"--seconds needs NAME=SECONDS such as 02=35, got {pair!r}") from error
    return found


def _device() -> str:
    from tttlib.runtime import environment

    origin = environment.describe()
    return f"{origin['device']}, {origin['threads']} threads"


def _hours(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 0.1 else f"{3600 * hours:.0f} s"


def _size(found: float) -> str:
    if not found > 0:
        return "?"
    return f"{found / 2**30:.2f} GB" if found >= 2**30 else f"{found / 2**20:.0f} MB"
