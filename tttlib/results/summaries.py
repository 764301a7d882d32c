"""Means of result rows with intervals that respect which rows show the same image."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

log = logging.getLogger(__name__)

ANSWERS = ("correct", "error")  # columns of right-or-wrong answers
ECE = "ece"  # no column: the expected calibration error, of confidence and correct
NUMBERS = ("n", "difference", "low", "high")  # of a paired difference
ANSWER_NUMBERS = ("mended", "broken", "effective_n", "df")  # besides, of answers


def summarise(
    rows: pd.DataFrame,
    by: str | Sequence[str],
    *,
    value: str = "correct",
    clusters: Sequence[str] = (),
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Return n, mean, low and high of a column for each group of rows.

    Parameters
    ----------
    rows
        Result rows.
    by
        The columns that name a group; groups come in order of appearance.
    value
        The column to average, or "ece" for the expected calibration error (of the columns
        `confidence` and `correct`, see `statistics.calibration_error`).
    clusters
        Columns that name what makes rows dependent, for instance ("photograph", "digit"). Rows of
        one image (`id`, where there is such a column) are never taken as independent.
    level, seed, resamples
        Of the bootstrap interval, see `statistics.bootstrap`.

    Returns
    -------
    DataFrame
        Columns of `by`, n, mean, low, high. A mean of right or wrong is a fraction in [0, 1].

    Raises
    ------
    ValueError
        For a column that the rows lack.
    """
    from tttlib import statistics  # here: it needs torch, which takes seconds to import

    by = [by] if isinstance(by, str) else list(by)
    _prepare(rows, [*by, *columns_of(value), *clusters])
    options: dict[str, Any] = {"level": level, "seed": seed, "resamples": resamples}
    records = []
    for key, group in _groups(rows, by):
        factors = _factors(group, clusters)
        if value == ECE:
            mean = statistics.calibration_error(*_confidences(group), factors, **options)
        else:
            mean = statistics.bootstrap(_numbers(group, value), factors, **options)
        records.append({**key, **mean._asdict()})
    return pd.DataFrame(records, columns=[*by, "n", "mean", "low", "high"])


def paired_difference(
    rows: pd.DataFrame,
    by: str | Sequence[str] = (),
    *,
    method_column: str,
    baseline: Any,
    match: Sequence[str] = ("domain", "id"),
    value: str = "correct",
    clusters: Sequence[str] = (),
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Return the mean of method minus baseline over the same images, per group and method.

    Parameters
    ----------
    rows
        Result rows.
    by
        The columns that name a group.
    method_column, baseline
        The column that tells the methods apart (also "step", with 0) and its value for the
        reference.
    match
        Columns that together identify one image seen once.
    value, clusters, level, seed, resamples
        As in `summarise`.

    Returns
    -------
    DataFrame
        Columns of `by`, `method_column`, n, difference, low, high (fractions). For answers (`value`
        "correct" or "error") the interval is that of `statistics.paired_answers`, and its mended,
        broken, effective_n and df are columns, too.

    Raises
    ------
    ValueError
        When method and baseline did not see the same images, or saw one of them twice; for an
        unknown baseline and a column that the rows lack.
    """
    by = [by] if isinstance(by, str) else list(by)
    match = list(match)
    _prepare(rows, [*by, method_column, *match, *columns_of(value), *clusters])
    options: dict[str, Any] = {"level": level, "seed": seed, "resamples": resamples}
    records = []
    for key, group in _groups(rows, by):
        methods = {m: r.set_index(match) for m, r in group.groupby(method_column, sort=False)}
        if baseline not in methods:
            known = ", ".join(repr(m) for m in methods)
            raise ValueError(f"no baseline {method_column} = {baseline!r} in {key}; it has {known}")
        reference = methods.pop(baseline)
        factors = _factors(reference.reset_index(), clusters)
        for method, seen in methods.items():
            _check_same_images(reference, seen, f"{method_column} {baseline!r} and {method!r}")
            both = (reference, seen.loc[reference.index])
            change = _change(both, value, factors, options)
            records.append({**key, method_column: method, **change})
    numbers = [*NUMBERS, *(ANSWER_NUMBERS if value in ANSWERS else ())]
    return pd.DataFrame(records, columns=[*by, method_column, *numbers])


def _change(
    both: tuple[pd.DataFrame, pd.DataFrame], value: str, factors: list[np.ndarray], options: dict
) -> dict[str, Any]:
    """Return `NUMBERS`, and `ANSWER_NUMBERS` of answers, from the same rows before and after."""
    from tttlib import statistics

    if value == ECE:
        before, after = map(_confidences, both)
        moved = statistics.paired_calibration(before, after, factors, **options)
    else:
        one, other = (_numbers(rows, value) for rows in both)
        if value in ANSWERS:
            change = statistics.paired_answers(one, other, factors, **options)._asdict()
            if value == "error":
                change |= {"mended": change["broken"], "broken": change["mended"]}
            return change
        moved = statistics.paired(one, other, factors, **options)
    change = moved._asdict()
    change["difference"] = change.pop("mean")
    return change


def _prepare(rows: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse missing columns; warn of models that failed their sanity gate."""
    missing = [name for name in names if name not in rows]
    if missing:
        raise ValueError(
            f"no column {missing[0]!r} in the rows; they have {', '.join(map(str, rows.columns))}"
        )
    if "model_mismatch" in rows:
        for (model, doubt), _ in rows.groupby(["model", "model_mismatch"]):  # drops empty ones
            log.warning("do not trust the rows of %s: %s", model, doubt)


def _groups(rows: pd.DataFrame, by: list[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield each group with the values that name it; without `by` all rows are one group."""
    if not by:
        yield {}, rows
        return
    for key, group in rows.groupby(by, sort=False, dropna=False, observed=True):
        yield dict(zip(by, key, strict=True)), group


def _numbers(group: pd.DataFrame, value: str) -> np.ndarray:
    return group[value].astype("float64").to_numpy()


def columns_of(value: str) -> tuple[str, ...]:
    """Return the columns that a value is made of."""
    return ("confidence", "correct") if value == ECE else (value,)


def _confidences(group: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return _numbers(group, "confidence"), _numbers(group, "correct")


def _factors(group: pd.DataFrame, clusters: Sequence[str]) -> list[np.ndarray]:
    """Return the columns that make rows dependent.

    Without `clusters` that is the image itself, when several rows show one image.
    """
    names = list(clusters)
    if not names and "id" in group and group["id"].duplicated().any():
        names = ["id"]
    return [group[name].to_numpy() for name in names]


def _check_same_images(a: pd.DataFrame, b: pd.DataFrame, methods: str) -> None:
    for side in (a, b):
        if not side.index.is_unique:
            repeated = side.index[side.index.duplicated()]
            raise ValueError(
                f"{methods}: {_first(repeated)} occurs more than once; "
                "group by what differs, or add it to match"
            )
    odd = a.index.symmetric_difference(b.index)
    if len(odd):
        raise ValueError(
            f"{methods} did not see the same images: {len(odd)} of {len(a.index.union(b.index))} "
            f"were seen by one only, for instance {_first(odd)}"
        )


def _first(index: pd.Index) -> str:
    """Return the first entry of an index in words: domain=contrast, id=7."""
    row = index[:1].to_frame().iloc[0]
    return ", ".join(f"{name}={value}" for name, value in row.items())
