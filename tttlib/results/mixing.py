"""What must not be averaged together: the same image twice, and different protocols."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tttlib.results import columns
from tttlib.results.columns import KEY, short
from tttlib.results.folders import Gathered

_SHOWN = 4  # values in a message


def check(part: Gathered, by: Sequence[str], allowed: Sequence[str] = ()) -> None:
    """Refuse a table whose means would mix settings or count an image twice.

    Units of several code versions pass, see `notes`.

    Parameters
    ----------
    part
        The units of one experiment.
    by
        The columns of the table.
    allowed
        Fields that may have several values in a group.

    Raises
    ------
    ValueError
        With the name of the field, its values and what to do.
    """
    settings = part.settings()
    identity = [name for name in map(str, part.units) if columns.is_identity(name)]
    names = [*settings, *identity]
    table = part.distinct([*names, *by, KEY])
    for name in names:
        if name not in by and name not in allowed and name not in columns.AVERAGED:
            _check_one_value(table, name, list(by))
    if "id" in part.rows:
        _check_no_repetition(part, [*settings, *by], allowed)


def notes(part: Gathered) -> list[str]:
    """Say which of `columns.NOTED` the units do not share, and how many units have which value."""
    lines = []
    for name in columns.NOTED:
        counts = part.units[name].value_counts(dropna=False)
        if len(counts) > 1:
            values = ", ".join(f"{short(value)} ({n} units)" for value, n in counts.items())
            lines.append(f"mixed {name}: {values}")
    return lines


def _check_one_value(table: pd.DataFrame, name: str, by: list[str]) -> None:
    text = table[name].map(short)
    if text.nunique() < 2:
        return
    groups = text.groupby([table[b].map(short) for b in by]) if by else [((), text)]
    for key, values in groups:
        if len(distinct := sorted(values.unique())) < 2:
            continue
        shown = ", ".join(distinct[:_SHOWN]) + (", …" if len(distinct) > _SHOWN else "")
        key = key if isinstance(key, tuple) else (key,)
        where = ", ".join(f"{b} = {v}" for b, v in zip(by, key, strict=True))
        raise ValueError(
            f"one mean would mix several {name}: {shown}{f' ({where})' if where else ''}; pick one "
            f"with --where {name}={_quoted(distinct[0])}, show them apart with --by, or accept it "
            f"with --allow-mixed {name}"
        )


def _check_no_repetition(part: Gathered, settings: list[str], allowed: Sequence[str]) -> None:
    """Refuse an image that occurs under one setting in two units.

    Pieces of one stream are one unit here: a domain that comes back shows its images again.
    """
    names = [n for n in (*settings, "seed", *columns.AVERAGED) if part.knows(n)]
    names += [n for n in map(str, part.units) if columns.is_identity(n)]
    table = part.distinct([KEY, "id", *(n for n in names if n not in allowed)])
    key = [c for c in table.columns if c != KEY]
    others = [c for c in key if c not in part.rows]
    table = table.assign(**{c: table[c].map(short) for c in others})
    table = table.assign(**{KEY: table[KEY].map(_whole(part.units))}).drop_duplicates()
    repeated = table[table.duplicated(key, keep=False)]
    if repeated.empty:
        return
    first = repeated.iloc[0]
    same = (repeated[key].map(short) == first[key].map(short)).all(axis=1)
    a, b = repeated.loc[same, KEY].unique()[:2]
    one, other = part.units.loc[a].map(short), part.units.loc[b].map(short)
    fields = dict.fromkeys(n for n in (*columns.WHICH_IMAGES, *part.units) if n in one)
    differing = [n for n in fields if one[n] != other[n]]
    if set(differing) & set(allowed):
        return
    name = differing[0] if differing else "unit"
    values = (one[name], other[name]) if differing else ("", "")
    shown = ", ".join(f"{n} = {short(first[n])}" for n in ("id", "domain", "step") if n in first)
    raise ValueError(
        f"the same image and setting twice ({shown}), in units {a} with {name} = {values[0]} and "
        f"{b} with {name} = {values[1]}; pick one with --where {name}={_quoted(values[1])}, or "
        f"count both with --allow-mixed {name}"
    )


def _whole(units: pd.DataFrame) -> pd.Series:
    """Return for each unit the key of the first one that differs from it in its piece alone."""
    fields = units.drop(columns=["piece", *columns.NOTED], errors="ignore").map(short)
    keys = units.index.to_series()
    return keys.groupby([fields[c] for c in fields], sort=False).transform("first")


def _quoted(text: str) -> str:
    return f"'{text}'" if " " in text or ":" in text or text.startswith("[") else text
