"""The command `tttlib sweep`: the units of a grid file on an engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tttlib.commands.console import interruptible, pairs

if TYPE_CHECKING:
    from tttlib.sweep import Summary
    from tttlib.sweep.forecast import Forecast

_SHOWN = 40  # units


def sweep(
    grid: Annotated[Path, typer.Argument(help="Grid file (YAML), see notebooks/grids/.")],
    engine: Annotated[
        str, typer.Option(help="local, dask, slurm, or serial (in this process).")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Units at once.", show_default="one per GPU, else half the cores"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Default: runs/sweeps/GRID.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="A unit that takes longer fails.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run again what failed earlier.")
    ] = False,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Run again what other code computed.")
    ] = False,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Keep the rows that other code computed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would run, and for how long.")
    ] = False,
    timings: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="--dry-run: a sweep whose times count; repeatable."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="tcp://HOST:PORT", help="Dask scheduler; else one is started here."),
    ] = None,
    partition: Annotated[str | None, typer.Option(help="SLURM partition.")] = None,
    job: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of SLURM jobs: gpus_per_node=1 … Repeatable."),
    ] = None,
) -> None:
    """Run every combination of a grid, each once: tttlib sweep notebooks/grids/demo.yaml.

    The same command resumes: finished units are skipped, failed ones stay as they are unless
    --retry-failed, and units whose source files were edited since are refused unless --recompute or
    --keep-old. Exit code 1 when a unit failed. What to expect where: tttlib/sweep/README.md.
    """
    folder = out or Path("runs/sweeps") / grid.stem
    terms: dict[str, Any] = {"retry_failed": retry_failed, "keep_old": keep_old}
    if dry_run:
        from tttlib.sweep.forecast import forecast

        _print_forecast(forecast(grid, folder, timings=timings or (), **terms), workers)
        return
    from tttlib.sweep import run_sweep

    options = {} if partition is None else {"partition": partition}
    options |= pairs(job, "--job needs NAME=VALUE, such as gpus_per_node=1")
    terms |= {"engine": engine, "workers": workers, "address": address, "options": options}
    with interruptible("finished units are kept; the same command resumes"):
        summary = run_sweep(grid, folder, timeout=timeout, recompute=recompute, **terms)
    _print_summary(summary)
    raise typer.Exit(1 if summary.failed else 0)


def _print_summary(summary: Summary) -> None:
    for record in summary.failed:
        typer.echo(f"failed: {record['label']}: {record['error']}; see {summary.where(record)}")
    if summary.failed:
        typer.echo("failed units run again with --retry-failed")
    done, failed = summary.done + summary.earlier, len(summary.failed)
    counts = f"{done} of {summary.total} units done ({summary.earlier} of them earlier)"
    typer.echo(f"{counts}, {failed} failed: {summary.out}")


def _print_forecast(expected: Forecast, workers: int | None) -> None:
    for unit, seconds in expected.todo[:_SHOWN]:
        typer.echo(f"{'unknown' if seconds is None else f'{seconds:.1f} s':>10}  {unit.label}")
    if len(expected.todo) > _SHOWN:
        typer.echo(f"            … and {len(expected.todo) - _SHOWN} more")
    states = ", ".join(f"{n} {state}" for state, n in sorted(expected.states.items()))
    typer.echo(f"{len(expected.todo)} of {expected.total} units would run ({states})")
    if expected.problem:
        typer.echo(f"what is done is not known here: {expected.problem}")
    if expected.states["stale"]:
        typer.echo("stale: done by other code; the sweep needs --recompute or --keep-old")
    n = workers or 1
    known = [seconds for _, seconds in expected.todo if seconds is not None]
    if known:
        hours = max(expected.seconds / n, *known) / 3600
        typer.echo(f"{hours:.3g} h with {n} worker{'s' * (n > 1)}, by the median of finished units")
    if expected.unknown:
        missing = f"{len(expected.todo) - len(known)} units of {', '.join(expected.unknown)}"
        typer.echo(f"not counted: {missing}, none of whose kind has finished")
