"""The commands `tttlib results` and `tttlib compare`: tables of what was run, and what moved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tttlib.commands.console import pairs
from tttlib.runtime.files import write

if TYPE_CHECKING:
    import pandas as pd

    from tttlib.results.tabulation import Summary

_SHOWN = 40  # cells
_CONDITION = "{} needs NAME=VALUE, such as domain=fog"
_PER_CENT = ("mean", "low", "high")
_WHERE = "Only these rows; repeatable. VALUE is YAML, a list [a, b] takes several, step=last the \
last answers."


def results(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR…", help="Runs, sweeps or results folders.")
    ],
    by: Annotated[
        list[str] | None,
        typer.Option(help="A column; repeatable, or with commas.", show_default="what varies"),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help=_WHERE),
    ] = None,
    value: Annotated[
        str | None, typer.Option(help="Column to sum up.", show_default="correct")
    ] = None,
    allow_mixed: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="May differ in a mean; repeatable.")
    ] = None,
    published: Annotated[
        str | None, typer.Option(metavar="NAME", help="Put a published table beside it.")
    ] = None,
    published_where: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Only these published rows.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table, unrounded.")
    ] = None,
    latex: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it for LaTeX (booktabs).")
    ] = None,
) -> None:
    """Print what was measured: mean, 95 % interval and n by setting, a table per experiment.

    tttlib results runs/x --where experiment=ttt --where step=last --by model,domain

    An image that counts twice under one setting, and means over different settings, data, weights
    or protocols are refused; the message names the field.
    """
    import pandas as pd

    from tttlib.results import beside_published, tabulate
    from tttlib.results import latex as to_latex
    from tttlib.results.export import csv_text

    refused: list[ValueError] = []
    conditions = pairs(where, _CONDITION.format("--where"), empty=True)
    theirs = pairs(published_where, _CONDITION.format("--published-where"), empty=True)
    how: dict[str, Any] = {"by": _words(by) or None, "value": value, "refused": refused}
    summaries = tabulate(folders, where=conditions, allow_mixed=_words(allow_mixed), **how)
    tables, texts = [], []
    for summary in summaries:
        table = shown = summary.table
        percent = "mean" in table and summary.value == "correct"
        if percent and published is not None:
            table = shown = beside_published(table, published, summary.fixed, theirs)
        elif percent:
            shown = table.assign(**{c: 100 * table[c] for c in _PER_CENT})
        title, shown = _title(summary, percent), _rounded(shown)
        typer.echo(title)
        typer.echo(shown.to_string(index=False, na_rep="-"))
        for note in summary.notes:
            typer.echo(f"note: {note}")
        typer.echo("")
        texts.append(to_latex(shown, title))
        tables.append(table.assign(experiment=summary.experiment))
    if csv is not None and tables:
        _write(csv, csv_text(pd.concat(tables, ignore_index=True)))
    if latex is not None and texts:
        _write(latex, "\n".join(texts))
    if refused:
        more = f" (and {len(refused) - 1} more experiments)" if len(refused) > 1 else ""
        raise ValueError(f"{refused[0]}{more}")


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="A B", help="Two runs, or a file of goldens (JSON) and a run."),
    ],
    rtol: Annotated[
        float | None, typer.Option(help="Relative tolerance.", show_default="1e-5")
    ] = None,
    atol: Annotated[
        float | None, typer.Option(help="Absolute tolerance.", show_default="1e-7")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print all cells that moved.")] = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every cell with its state.")
    ] = None,
    make_golden: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Only write goldens of these runs of several seeds."),
    ] = None,
    experiment: Annotated[
        list[str] | None, typer.Option(help="Of goldens: only these experiments; repeatable.")
    ] = None,
) -> None:
    """Compare runs cell by cell; exit code 1 when a cell moved or is missing in B.

    A cell is the mean and n of one setting of one experiment, or a number of tables/*.csv. Equal
    code on one machine gives equal rows; the default tolerances are those of summation order.
    Elsewhere use --atol, or goldens, which have a tolerance for every cell:

    tttlib compare --make-golden FILE SEED0 SEED1 SEED2 …

    tttlib compare FILE RUN
    """
    from tttlib.results import goldens
    from tttlib.results.compare import readable
    from tttlib.results.export import csv_text

    if make_golden is not None:
        made = goldens.make(runs, make_golden, experiments=experiment or None)
        typer.echo(f"written: {make_golden}, {len(made)} cells from {len(runs)} runs")
        return
    if len(runs) != 2:
        raise ValueError(f"compare needs two runs, or goldens and a run; got {len(runs)} paths")
    comparison = goldens.compare_paths(*runs, rtol=rtol, atol=atol)
    if csv is not None:
        _write(csv, csv_text(comparison.cells))
    odd = comparison.cells[comparison.cells["state"] != "same"]
    if len(odd):
        shared, table = readable(odd)
        table = table if everything else table.head(_SHOWN)
        typer.echo(f"all of: {shared}" if shared else "cells that differ:")
        typer.echo(_rounded(table).to_string(index=False, na_rep="-"))
        if len(odd) > len(table):
            typer.echo(f"… and {len(odd) - len(table)} more (--all)")
    typer.echo(", ".join(f"{n} {state}" for state, n in comparison.counts().items()))
    if comparison.regressed:
        raise typer.Exit(1)


def _title(summary: Summary, percent: bool) -> str:
    from tttlib.results.columns import short

    fixed = [f"{name} {short(value)}" for name, value in summary.fixed.items()]
    said = ", ".join(["accuracy in %"] * percent + fixed)
    return f"{summary.experiment}: {said}" if said else summary.experiment


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Round per cent to one digit, other numbers to four that count."""
    import pandas as pd

    shown = table.copy()
    for c in table:
        percent = c in (*_PER_CENT, "published", "difference") and "mean" in table
        if percent or pd.api.types.is_float_dtype(table[c]):
            shown[c] = [f"{v:{'.1f' if percent else '.4g'}}" if v == v else "-" for v in table[c]]
    return shown


def _words(options: Sequence[str] | None) -> list[str]:
    """Return the names of repeated options, each with one name or several with commas."""
    return [w.strip() for option in options or () for w in option.split(",") if w.strip()]


def _write(path: Path, text: str) -> None:
    write(path, text)
    typer.echo(f"written: {path}")
