"""The command `tttlib publish`: figures and tables of a run among the committed ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def publish(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.")],
    suffix: Annotated[
        str, typer.Option(help="Of the file names: 02_gains becomes 02_gains_SUFFIX.svg.")
    ],
    data: Annotated[str, typer.Option(help="What the figures were made from, in words.")],
    command: Annotated[str, typer.Option(help="What makes the run again.")],
    name: Annotated[
        list[str] | None,
        typer.Option(help="Only this figure or table; repeatable.", show_default="all"),
    ] = None,
    to: Annotated[Path, typer.Option(metavar="DIR", help="The committed figures.")] = Path(
        "figures"
    ),
) -> None:
    """Copy figures and tables of a run into figures/ and enter them in its index.

    tttlib publish runs/x --suffix tiny --data "50 images" --command "tttlib run 02" --name 02_gains
    """
    from tttlib.report.publish import publish as copy

    for path in copy(run, to, suffix=suffix, data=data, command=command, names=name or ()):
        typer.echo(path)
