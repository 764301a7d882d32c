"""Command line: `tttlib sweep`, the units of a grid file on an engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tttlib.commands.console import interruptible

if TYPE_CHECKING:
    from tttlib.sweep import Summary


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
    --retry-failed. Exit code 1 when a unit failed. What to expect where: tttlib/sweep/README.md.
    """
    from tttlib.sweep import parse_value, run_sweep

    options = {} if partition is None else {"partition": partition}
    for pair in job or []:
        name, _, value = pair.partition("=")
        if not name or not value:
            raise ValueError(f"--job needs NAME=VALUE, such as gpus_per_node=1; got {pair!r}")
        options[name] = parse_value(value)
    folder = out or Path("runs/sweeps") / grid.stem
    with interruptible("finished units are kept; the same command resumes"):
        summary = run_sweep(
            grid,
            folder,
            engine=engine,
            workers=workers,
            timeout=timeout,
            retry_failed=retry_failed,
            address=address,
            options=options,
        )
    _tell(summary)
    raise typer.Exit(1 if summary.failed else 0)


def _tell(summary: Summary) -> None:
    for record in summary.failed:
        typer.echo(f"failed: {record['label']}: {record['error']}; see {summary.where(record)}")
    if summary.failed:
        typer.echo("failed units run again with --retry-failed")
    done = summary.done + summary.earlier
    typer.echo(
        f"{done} of {summary.total} units done ({summary.earlier} of them earlier), "
        f"{len(summary.failed)} failed: {summary.out}"
    )
