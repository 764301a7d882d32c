"""What must not be summed up together: the same image twice, and different protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tttlib.results import columns
from tttlib.results.columns import KEY
from tttlib.results.folders import Gathered

_SHOWN = 4  # values in a message


def check(part: Gathered, by: Sequence[str], allowed: Sequence[str] = ()) -> None:
    """ValueError when a group of `by` mixes settings or holds an image twice.

    allowed  fields that may have several values in a group
    One message names the field, its values and what to do. Units of several code versions pass, see
    `notes`.
    """
    settings = columns.keys(part.rows, part.units)
    identity = [name for name in map(str, part.units) if columns.is_identity(name)]
    names = [*settings, *identity]
    table = _distinct(part, [*names, *by, KEY])
    for name in names:
        if name not in by and name not in allowed and name not in columns.AVERAGED:
            _check_one_value(table, name, list(by))
    if "id" in part.rows:
        _check_no_repetition(part, [*settings, *by], allowed)


def notes(part: Gathered) -> list[str]:
    """Which of `columns.NOTED` the units do not share, with how many units have which value."""
    found = []
    for name in columns.NOTED:
        counts = part.units[name].value_counts(dropna=False)
        if len(counts) > 1:
            said = ", ".join(f"{short(value)} ({n} units)" for value, n in counts.items())
            found.append(f"mixed {name}: {said}")
    return found


def _distinct(part: Gathered, names: Sequence[str]) -> pd.DataFrame:
    """The combinations of values that occur, one row each."""
    names = list(dict.fromkeys(names))
    rows = part.rows[[n for n in names if n in part.rows]].drop_duplicates()
    others = [n for n in names if n not in part.rows]
    return rows.join(part.units[others], on=KEY) if others else rows


def _check_one_value(table: pd.DataFrame, name: str, by: list[str]) -> None:
    text = table[name].map(short)
    if text.nunique() < 2:
        return
    groups = text.groupby([table[b].map(short) for b in by]) if by else [((), text)]
    for key, values in groups:
        distinct = sorted(values.unique())
        if len(distinct) < 2:
            continue
        said = ", ".join(distinct[:_SHOWN]) + (", …" if len(distinct) > _SHOWN else "")
        where = ", ".join(
            f"{b} = {v}" for b, v in zip(by, key if isinstance(key, tuple) else (key,), strict=True)
        )
        raise ValueError(
            f"one mean would mix several {name}: {said}{f' ({where})' if where else ''}; pick one "
            f"with --where {name}={_quoted(distinct[0])}, show them apart with --by, or accept it "
            f"with --allow-mixed {name}"
        )


def _check_no_repetition(part: Gathered, settings: list[str], allowed: Sequence[str]) -> None:
    """No image under one setting in two units."""
    names = [n for n in (*settings, "seed", *columns.AVERAGED) if part.knows(n)]
    names += [n for n in map(str, part.units) if columns.is_identity(n)]
    names = [n for n in dict.fromkeys(names) if n not in allowed]
    table = part.rows[[KEY, "id"]].assign(**{n: part.values(n) for n in names if n in part.rows})
    table = table.drop_duplicates()
    others = [n for n in names if n not in part.rows]
    table = table.join(part.units[others].map(short), on=KEY) if others else table
    key = [c for c in table.columns if c != KEY]
    twice = table[table.duplicated(key, keep=False)]
    if twice.empty:
        return
    first = twice.iloc[0]
    same = (twice[key].map(short) == first[key].map(short)).all(axis=1)
    a, b = twice.loc[same, KEY].unique()[:2]
    one, other = part.units.loc[a], part.units.loc[b]
    differing = [
        n for n in (*columns.WHICH_IMAGES, *part.units) if n in one and _differ(one[n], other[n])
    ]
    if set(differing) & set(allowed):
        return
    name = differing[0] if differing else "unit"
    values = ("", "") if name == "unit" else (one[name], other[name])
    shown = ", ".join(f"{n} = {short(first[n])}" for n in ("id", "domain", "step") if n in first)
    raise ValueError(
        f"the same image and setting twice ({shown}), in units {a} with {name} = "
        f"{short(values[0])} and {b} with {name} = {short(values[1])}; pick one with "
        f"--where {name}={_quoted(short(values[1]))}, or count both with --allow-mixed {name}"
    )


def _differ(a: Any, b: Any) -> bool:
    return short(a) != short(b)


def short(value: Any) -> str:
    """A value in a message; what a unit does not say is "none"."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "none"
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _quoted(text: str) -> str:
    return f"'{text}'" if " " in text or ":" in text or text.startswith("[") else text
