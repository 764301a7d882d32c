"""Command line: `python -m tttlib …`, also installed as `tttlib`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tttlib.commands import data, publish, results, sweep
from tttlib.commands.console import interruptible, pairs, remedy
from tttlib.commands.data import Root

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.command("sweep")(sweep.sweep)
app.command()(publish.publish)
app.command()(results.results)
app.command()(results.compare)

_NEEDED = "-p needs a name and a value, such as -p steps 20"
_HELP = "Replace a default of the notebook's parameters cell; VALUE is YAML (8, 1e-3, true, \
[a, b], text). Repeatable; wins over --parameters."
_FILES = "YAML file of parameters, see notebooks/parameters/."
Pairs = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", metavar="NAME VALUE", help=_HELP)
]
File = Annotated[Path | None, typer.Option("--parameters", metavar="FILE", help=_FILES)]


@app.callback()
def _tttlib(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Test-time training with masked autoencoders, and continual test-time adaptation.

    A study in notebooks over a small library. Start with `tttlib study`, which runs every notebook
    on the embedded images (no download, no GPU) and writes one HTML report, or open the notebooks
    in JupyterLab (make lab). Real images: see `tttlib data list` and set TTTLIB_DATA to their
    folder. Long work shows its progress, stops with Ctrl-C, and resumes when started again.
    """


@app.command()
def study(
    notebooks: Annotated[
        list[str] | None, typer.Argument(help="Only these, by path or name.", show_default="all")
    ] = None,
    parameter: Pairs = None,
    parameters: File = None,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Folder of all runs.")] = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew, do not resume.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Notebooks at once.", show_default="by GPUs, cores and memory"),
    ] = None,
) -> None:
    """Run every notebook and write one report: runs/TIME/index.html.

    Beside it lie the executed notebooks, result rows (Parquet), tables (CSV) and figures. An
    unfinished run is resumed, unless parameters, notebooks or code changed.
    """
    from tttlib.commands.study import read_record, run_study
    from tttlib.sweep import read_parameters

    with interruptible("finished notebooks and results are kept; the same command resumes"):
        given = read_parameters(parameters) if parameters is not None else {}
        given |= pairs(parameter, _NEEDED)
        report = run_study(runs, notebooks or None, given, fresh, workers=workers)
    record = read_record(report.parent)
    for name, seconds in record["seconds"].items():
        typer.echo(f"{seconds:7.1f} s  {name}")
    typer.echo(f"{record['wall_seconds']:7.1f} s  in all")
    if record["peak_memory_bytes"]:
        typer.echo(f"peak memory of a notebook: {record['peak_memory_bytes'] / 2**30:.2f} GB")
    typer.echo(f"report: {report}")


@app.command()
def run(
    notebook: Annotated[str, typer.Argument(help="Path, name, or beginning of the name (02).")],
    parameter: Pairs = None,
    parameters: File = None,
    run_dir: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder of results, tables, figures; resumed if there."),
    ] = Path("runs/interactive"),
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Use rows of RUN_DIR that other code computed.")
    ] = False,
) -> None:
    """Run one notebook with other parameters: tttlib run 02 -p steps 20.

    The executed copy goes to RUN_DIR/notebooks. Result rows that are already in RUN_DIR/results are
    not computed again; if the notebook or the code behind it was edited since, the run is refused.
    """
    from tttlib.commands.run import run_into
    from tttlib.sweep import find_notebook, read_parameters
    from tttlib.sweep.parameter_files import of_notebook

    path = find_notebook(notebook)
    given = {} if parameters is None else of_notebook(path, read_parameters(parameters))
    given |= pairs(parameter, _NEEDED)
    with interruptible("finished results are kept; the same command resumes"):
        executed = run_into(run_dir, path, given, keep_old=keep_old)
    typer.echo(f"executed: {executed}")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe; a wrong one lists them.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Default: runs/training/RECIPE.")
    ] = None,
    data: Root = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ignore an earlier checkpoint.")] = False,
) -> None:
    """Train the weights of a recipe (resumes from its checkpoint)."""
    from tttlib.models import training

    folder = out or Path("runs/training") / recipe
    with interruptible("the last checkpoint is kept; the same command resumes"):
        weights = training.train(recipe, out=folder, root=data, resume=not fresh)
    typer.echo(f"weights: {weights}")


@app.command()
def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Bundled names or checkpoint files.", show_default="all bundled"),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR")] = Path("runs/models"),
    images: Annotated[
        int | None, typer.Option("-n", "--images", help="Of each test set.", show_default="all")
    ] = None,
    root: Root = None,
) -> None:
    """Measure clean accuracy and corruption error of networks, each on its own test set."""
    from tttlib.tables import bundled_networks

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with interruptible("finished networks are kept"):
        table = bundled_networks.main(names, out, root, images)
    typer.echo(table.to_string(index=False))
    typer.echo(f"{out}: tables/models.csv, figures/training_curves.png")


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="What to time; a wrong name lists them.")] = "ttt",
    out: Annotated[Path, typer.Option(metavar="DIR", help="For tables and figures.")] = Path(
        "runs/bench"
    ),
    palm: Annotated[
        Path | None, typer.Option(metavar="DIR", help="released: a checkout of PALM's code.")
    ] = None,
    ttt_mae: Annotated[
        Path | None, typer.Option(metavar="DIR", help="released: a checkout of TTT-MAE's code.")
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(metavar="EXE", help="released: the interpreter of an environment for them."),
    ] = None,
) -> None:
    """Time the library against the obvious implementation, or against released programs."""
    from tttlib import bench as benchmark

    with interruptible("nothing is kept"):
        benchmark.main(what, out, palm=palm, ttt_mae=ttt_mae, python=python)


def _join_pairs(arguments: list[str]) -> list[str]:
    """Turn `-p name value` into `-p name=value`, which the option parser can repeat."""
    joined, rest = [], iter(arguments)
    for argument in rest:
        joined.append(argument)
        if argument in ("-p", "--parameter"):
            name = next(rest, "")
            joined.append(name if "=" in name else f"{name}={next(rest, '')}")
    return joined


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    What the user can put right ends as one line on stderr and exit code 2, for files that cannot be
    written with the option or variable that helps. Defects keep their traceback.
    """
    if arguments is None:  # a file called queue.py in the current folder runs nowhere
        os.environ.setdefault("PYTHONSAFEPATH", "1")  # not in a worker
        if sys.path[0] in ("", os.getcwd()):  # nor here, where `python -m tttlib` put it first
            sys.path.append(sys.path.pop(0))
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("tttlib").setLevel(logging.INFO)
    try:
        app(args=_join_pairs(words), prog_name="tttlib")
    except BrokenPipeError:  # the reader of the output has gone, as in `tttlib data list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        # tttlib.sweep is imported by the commands that run notebooks only: it keeps --help fast.
        sweeps = sys.modules.get("tttlib.sweep")
        expected: tuple[type[Exception], ...] = (ValueError, OSError)
        if sweeps is not None:
            expected += (sweeps.NotebookError, sweeps.SweepError)
        if debug or not isinstance(error, expected):
            raise
        text = " ".join(str(error).splitlines()) + remedy(error, words[0] if words else "")
        typer.echo(f"error: {text}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
