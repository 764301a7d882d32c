"""Tables as CSV files: written so that a spreadsheet runs nothing, read as one may save them."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pandas as pd

from tttlib.runtime.files import write
from tttlib.runtime.text import decode

_FORMULA = tuple("=+-@\t\n＝＋－＠")  # the last four are the full-width forms
_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_HARMLESS = re.compile(rf"[-+]|{_NUMBER}( ?%)?( \[{_NUMBER}, {_NUMBER}\])?")


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV, without its index, in which no text is a formula.

    A spreadsheet takes a cell that begins with ``= + - @`` or a tab for a formula, which may read
    files or open addresses. Such a text gets an apostrophe in front, which spreadsheets hide.
    Numbers, also as text with an interval ("+1.0 [-2.5, +3.0]"), stay as they are.
    """
    safe = table.rename(columns=_defused)
    for i in range(table.shape[1]):
        if not pd.api.types.is_numeric_dtype(table.dtypes.iloc[i]):
            cells = table.iloc[:, i].map(_defused, na_action="ignore")
            safe.isetitem(i, cells.array)
    return safe.to_csv(index=False)


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as `csv_text`, complete or not at all; its folder is made."""
    write(path, csv_text(table))


def read_csv(path: str | Path, **options: Any) -> pd.DataFrame:
    """Read a CSV file in any encoding that other programs save it in.

    Parameters
    ----------
    path
        The file.
    options
        For `pandas.read_csv`.

    Raises
    ------
    ValueError
        For a file that is no table.
    """
    try:
        return pd.read_csv(io.StringIO(decode(Path(path).read_bytes())), **options)
    except ValueError as error:  # pandas' own are of this kind
        raise ValueError(f"{path} is no CSV table: {error}") from error


def _defused(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    cell = value.replace("\r\n", "\n").replace("\r", "\n")  # which to_csv does not quote
    return "'" + cell if cell.startswith(_FORMULA) and not _HARMLESS.fullmatch(cell) else cell
