"""The commands `tttlib data …`: what datasets there are, whether they are intact, getting them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from tttlib.commands.console import interruptible

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The datasets: what is known, check, download, corrupt.",
)

_OPTION = typer.Option("--data", "--root", metavar="DIR", help="Data root, else $TTTLIB_DATA.")
Root = Annotated[Path | None, _OPTION]
Name = Annotated[str, typer.Argument(help="A name from `tttlib data list`.")]
_SHOWN = 20  # problems


@app.command("list")
def list_data(data: Root = None) -> None:
    """Print every dataset: its splits, where it is looked for, and whether it is there.

    A notebook's parameter `dataset` takes the names that do not end in -c; those that do are read
    by data.load with a corruption and a severity.
    """
    from tttlib.commands import catalogue
    from tttlib.runtime.paths import data_root

    root = data_root(data)
    origin = "--data" if data else "$TTTLIB_DATA" if os.environ.get("TTTLIB_DATA") else "default"
    typer.echo(f"data root: {root} ({origin})")
    for line in catalogue.table(root):
        typer.echo(line)
    typer.echo(catalogue.OF_CORRUPTIONS)


@app.command("check")
def check_data(
    name: Name,
    data: Root = None,
    classes: Annotated[
        bool, typer.Option("--classes", help="Print the number of images of each class.")
    ] = False,
) -> None:
    """Read every file of a dataset: counts, shapes, checksums, boxes; decode every image.

    Exit code 2 if a file is damaged or missing. A part of a dataset, intact, is told and passes.
    """
    from tttlib.data import DamagedDataError
    from tttlib.data.delivery.check import check

    with interruptible("nothing was changed"):
        report = check(name, data)
    for line in report.lines:
        typer.echo(line)
    if classes:
        for part, counts in report.counts.items():
            typer.echo(f"{part}: {' '.join(map(str, counts))}")
    for line in report.missing:
        typer.echo(f"missing: {line}")
    for line in report.problems[:_SHOWN]:
        typer.echo(f"damaged: {line}")
    n = len(report.problems)
    if n > _SHOWN:
        typer.echo(f"damaged: … and {n - _SHOWN} more")
    if n:
        count = f"{n} {'problem' if n == 1 else 'problems'}"
        raise DamagedDataError(f"{name} is damaged, {count}, the first: {report.problems[0]}")
    typer.echo(f"{name}: intact" + (", not complete" if report.missing else ""))


@app.command("download")
def download_data(
    name: Name,
    data: Root = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Only this of several archives; repeatable."),
    ] = None,
    checksum: Annotated[
        str | None,
        typer.Option(metavar="ALG:HEX", help="The file's checksum, such as md5:… or sha256:…."),
    ] = None,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Accept a file whose checksum is not known.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep-archive", help="Do not delete the archive after unpacking.")
    ] = False,
) -> None:
    """Fetch a dataset from its publisher, check the checksum and unpack it under the data root.

    A transfer that broke off is resumed by the same command.
    """
    from tttlib.data.delivery.download import download

    how: dict[str, Any] = {"checksum": checksum, "unverified": unverified, "keep": keep}
    with interruptible("what has arrived is kept; the same command resumes"):
        paths = download(name, data, only=only or (), **how)
    for path in paths:
        typer.echo(f"there: {path}")
    typer.echo(f"next: tttlib data check {name.removesuffix('-5000-list')}")


@app.command("make-c")
def make_c(
    dataset: Name,
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
    data: Root = None,
) -> None:
    """Write a dataset under every corruption, as files that other code reads (resumes)."""
    from tttlib import corruptions
    from tttlib.data import load
    from tttlib.data.delivery.make_c import make_c

    chosen = load(dataset, split, data)
    chosen = chosen if images is None else chosen.sample(images, seed)
    names = corruption or corruptions.NAMES + corruptions.EXTRA_NAMES
    with interruptible("finished files are kept; the same command resumes"):
        make_c(chosen, out, layout=layout, names=names, seed=seed)
    typer.echo(f"corrupted: {out}")


@app.command("gallery")
def gallery(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the figures go.")],
) -> None:
    """Draw one photograph under all 19 corruptions and 5 severities, at 32, 64 and 224 pixels."""
    from tttlib import plots
    from tttlib.bench.corruption_speed import SIZES
    from tttlib.data.photographs import pictures

    out.mkdir(parents=True, exist_ok=True)
    for size in SIZES:
        figure, path = (
            plots.corruption_gallery(pictures(size, 1)[0]),
            out / f"corruptions_{size}.jpg",
        )
        figure.savefig(path, dpi=110, bbox_inches="tight", pil_kwargs={"quality": 85})
        typer.echo(f"figure: {path}")
