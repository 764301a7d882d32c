"""What the adaptation methods say of themselves, as a table: the one in adapt/README.md."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import pandas as pd

from tttlib import adapt
from tttlib.adapt import Adapter

_PAPER = re.compile(
    r"Papers?: (?P<authors>.+?(?: et al\.| and \w+)), (?:.+?, )??(?P<venue>(?:[A-Z]\w+ )?20\d\d)\b"
    r"(?:, (?P<archive>arXiv|OpenReview) (?P<number>[\w.]*\w))?"
)
_ADDRESS = {"arXiv": "https://arxiv.org/abs/", "OpenReview": "https://openreview.net/forum?id="}


def declarations(names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return what methods train, need and answer with, and their papers, one row a method.

    Columns method, trains ("nothing" where there are no gradients), needs, answer, paper, address
    and file.
    The paper is the first one that the file of the method names, in the words "Paper: AUTHORS,
    TITLE, VENUE YEAR, arXiv NUMBER"; a method without one has an empty text there.

    Parameters
    ----------
    names
        Of methods; None is all, in the order of `adapt.NAMES`.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    names = adapt.NAMES if names is None else names
    if unknown := ", ".join(name for name in names if name not in adapt.METHODS):
        raise ValueError(f"unknown methods {unknown}; known are {', '.join(adapt.NAMES)}")
    return pd.DataFrame([_row(adapt.METHODS[name]) for name in names])


def markdown(table: pd.DataFrame, folder: str = "") -> str:
    """Return the rows of `declarations` as a table in Markdown.

    Parameters
    ----------
    table
        The rows.
    folder
        Where the methods' files are, with a slash at its end, for links from elsewhere.
    """
    lines = ["| method | trains | needs | answer | paper |", "|---|---|---|---|---|"]
    for row in table.to_dict("records"):
        paper = f"[{row['paper']}]({row['address']})" if row["address"] else row["paper"]
        name = f"[`{row['method']}`]({folder}{row['file']})"
        cells = [name, row["trains"], row["needs"], row["answer"], paper]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _row(method: type[Adapter]) -> dict[str, str]:
    text = " ".join((sys.modules[method.__module__].__doc__ or "").split())
    paper, address = "", ""
    if found := _PAPER.search(text):
        paper = f"{found['authors']}, {found['venue']}"
        if archive := found["archive"]:
            address = _ADDRESS[archive] + found["number"]
    still = not method.trains and method.answer == Adapter.answer  # says nothing else of it
    return {
        "method": method.name,
        "trains": method.trains or "nothing",
        "needs": ", ".join(method.needs),
        "answer": "of the network as it is" if still else method.answer,
        "paper": paper,
        "address": address,
        "file": method.__module__.rpartition(".")[2] + ".py",
    }
