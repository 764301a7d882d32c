"""Command line: `python -m tttlib …`, also installed as `tttlib`."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The datasets the notebooks can use."
)
app.add_typer(data_app, name="data")

_PAIRS = typer.Option(
    "--parameter",
    "-p",
    metavar="NAME VALUE",
    help="Replace a default of the notebook's parameters cell; VALUE is YAML (8, 1e-3, true, "
    "[a, b], text). Repeatable; wins over --parameters.",
)
_FILE = typer.Option(
    "--parameters", metavar="FILE", help="YAML file of parameters, see notebooks/parameters/."
)


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
    parameter: Annotated[list[str] | None, _PAIRS] = None,
    parameters: Annotated[Path | None, _FILE] = None,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Folder of all runs.")] = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew, do not resume.")] = False,
) -> None:
    """Run every notebook and write one report: runs/TIME/index.html.

    Beside it lie the executed notebooks, result rows (Parquet), tables (CSV) and figures. An
    unfinished run is resumed, unless parameters, notebooks or code changed.
    """
    from tttlib.study import read_record, run_study

    with _interruptible("finished notebooks and results are kept; the same command resumes"):
        given = _parameters(parameters, parameter)
        report = run_study(runs, notebooks or None, given, fresh)
    record = read_record(report.parent)
    for name, seconds in record["seconds"].items():
        typer.echo(f"{seconds:7.1f} s  {name}")
    typer.echo(f"{sum(record['seconds'].values()):7.1f} s  together")
    if record["peak_memory_bytes"]:
        typer.echo(f"peak memory of a notebook: {record['peak_memory_bytes'] / 2**30:.2f} GB")
    typer.echo(f"report: {report}")


@app.command()
def run(
    notebook: Annotated[str, typer.Argument(help="Path, name, or beginning of the name (02).")],
    parameter: Annotated[list[str] | None, _PAIRS] = None,
    parameters: Annotated[Path | None, _FILE] = None,
    run_dir: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder of results, tables, figures; resumed if there."),
    ] = Path("runs/interactive"),
) -> None:
    """Run one notebook with other parameters: tttlib run 02 -p steps 20.

    The executed copy goes to RUN_DIR/notebooks. Result rows that are already in RUN_DIR/results are
    not computed again.
    """
    from tttlib.sweep import find_notebook, run_notebook

    given = {**_parameters(parameters, parameter), "run_dir": str(run_dir.resolve())}
    with _interruptible("finished results are kept; the same command resumes"):
        executed = run_notebook(find_notebook(notebook), run_dir / "notebooks", given)
    typer.echo(f"executed: {executed}")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe; a wrong one lists them.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Default: runs/training/RECIPE.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the dataset, else $TTTLIB_DATA.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ignore an earlier checkpoint.")] = False,
) -> None:
    """Train the weights of a recipe (resumes from its checkpoint)."""
    from tttlib import training

    folder = out or Path("runs/training") / recipe
    with _interruptible("the last checkpoint is kept; the same command resumes"):
        weights = training.train(recipe, out=folder, root=data, resume=not fresh)
    typer.echo(f"weights: {weights}")


@data_app.command("list")
def list_data() -> None:
    """Print the names that the notebooks' parameter `dataset` takes."""
    from tttlib.data import NAMES

    for name in NAMES:
        typer.echo(name)


@data_app.command("make-c")
def make_c(
    dataset: Annotated[str, typer.Argument(help="A name from `tttlib data list`.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the files go.")],
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "valid",
    layout: Annotated[
        str, typer.Option(help="npy (like CIFAR-10-C) or folders (like ImageNet-C, JPEG).")
    ] = "npy",
    corruption: Annotated[
        list[str] | None, typer.Option(help="Only these; repeatable.", show_default="all 19")
    ] = None,
    images: Annotated[int | None, typer.Option(help="Only a random sample of so many.")] = None,
    seed: Annotated[int, typer.Option(help="Of the random fields and of the sample.")] = 0,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the dataset, else $TTTLIB_DATA.")
    ] = None,
) -> None:
    """Write a dataset under every corruption, as files that other code reads (resumes)."""
    from tttlib import corruptions
    from tttlib.data import load
    from tttlib.data.make_c import make_c

    chosen = load(dataset, split, data)
    chosen = chosen if images is None else chosen.sample(images, seed)
    names = corruption or corruptions.NAMES + corruptions.EXTRA_NAMES
    with _interruptible("finished files are kept; the same command resumes"):
        make_c(chosen, out, layout=layout, names=names, seed=seed)
    typer.echo(f"corrupted: {out}")


@data_app.command("gallery")
def gallery(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the figures go.")],
) -> None:
    """Draw one photograph under all 19 corruptions and 5 severities, at 32, 64 and 224 pixels."""
    from tttlib import plots
    from tttlib.bench_corruptions import SIZES, pictures

    out.mkdir(parents=True, exist_ok=True)
    for size in SIZES:
        figure = plots.corruption_gallery(pictures(size, 1)[0])
        figure.savefig(
            out / f"corruptions_{size}.jpg",
            dpi=110,
            bbox_inches="tight",
            pil_kwargs={"quality": 85},
        )
        typer.echo(f"figure: {out / f'corruptions_{size}.jpg'}")


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
    root: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the data.")] = None,
) -> None:
    """Clean accuracy and corruption error of the bundled networks, each on its own test set."""
    from tttlib import model_table

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with _interruptible("finished networks are kept"):
        table = model_table.main(names, out, root, images)
    typer.echo(table.to_string(index=False))
    typer.echo(f"{out}: tables/models.csv, figures/training_curves.png")


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="What to time; a wrong name lists them.")] = "ttt",
) -> None:
    """Time the library against the obvious implementation."""
    from tttlib import bench as benchmark

    with _interruptible("nothing is kept"):
        benchmark.main(what)


@contextlib.contextmanager
def _interruptible(consequence: str) -> Iterator[None]:
    """Ctrl-C ends the command with one line that says what it means, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\ninterrupted: {consequence}", err=True)
        raise typer.Exit(130) from None


def _parameters(file: Path | None, pairs: list[str] | None) -> dict[str, Any]:
    """The parameters of a YAML file, then those of the command line (as name=value)."""
    from tttlib.sweep import parse_value, read_parameters

    found = read_parameters(file) if file is not None else {}
    for pair in pairs or []:
        name, _, value = pair.partition("=")
        if not name or not value:
            raise ValueError(f"-p needs a name and a value, such as -p steps 20; got {name!r}")
        found[name] = parse_value(value)
    return found


def _join_pairs(arguments: list[str]) -> list[str]:
    """`-p name value` as `-p name=value`, which the option parser can repeat."""
    joined, rest = [], iter(arguments)
    for argument in rest:
        joined.append(argument)
        if argument in ("-p", "--parameter"):
            name = next(rest, "")
            joined.append(name if "=" in name else f"{name}={next(rest, '')}")
    return joined


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; what the user can put right ends as one line on stderr and exit 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("tttlib").setLevel(logging.INFO)
    try:
        app(args=_join_pairs([word for word in words if word != "--debug"]), prog_name="tttlib")
    except (ValueError, FileNotFoundError) as error:
        _fail(error, debug)
    except Exception as error:
        # sweep is imported by the commands that run notebooks only: it keeps --help fast.
        sweep = sys.modules.get("tttlib.sweep")
        if sweep is None or not isinstance(error, sweep.NotebookError):
            raise
        _fail(error, debug)


def _fail(error: Exception, debug: bool) -> None:
    if debug:
        raise error
    typer.echo("error: " + " ".join(str(error).splitlines()), err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
