"""Means of result rows with intervals that respect which rows show the same image."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

log = logging.getLogger(__name__)


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
    """n, mean, low and high of column `value` for each group of `by` (in order of appearance).

    clusters  columns naming what makes rows dependent, for instance ("photograph", "digit"); rows
              of one image (`id`, where there is such a column) are never taken for independent.
    low, high  bounds of the bootstrap interval, see `statistics.bootstrap`; a mean of right or
              wrong is a fraction in [0,1], not per cent.
    """
    from tttlib import statistics  # here: it needs torch, which takes seconds to import

    by = [by] if isinstance(by, str) else list(by)
    need_columns(rows, [*by, value, *clusters])
    _warn_of_mismatch(rows)
    records = []
    for key, group in _groups(rows, by):
        interval = statistics.bootstrap(
            group[value].astype("float64").to_numpy(),
            _factors(group, clusters),
            level=level,
            seed=seed,
            resamples=resamples,
        )
        records.append({**key, **interval._asdict()})
    return pd.DataFrame(records, columns=[*by, "n", "mean", "low", "high"])


def _warn_of_mismatch(rows: pd.DataFrame) -> None:
    """Rows of a model that failed its sanity gate are never summed up in silence."""
    if "model_mismatch" in rows:
        for (model, doubt), _ in rows.groupby(["model", "model_mismatch"]):  # drops empty ones
            log.warning("do not trust the rows of %s: %s", model, doubt)


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
    """Mean of method minus baseline over the same images, for each group of `by` and each method.

    method_column, baseline  the column that tells the methods apart (also "step", with 0) and its
                             value for the reference
    match     columns that together identify one image seen once
    Returns columns by…, `method_column`, n, difference, low, high (fractions).
    Raises ValueError when method and baseline did not see the same images, or one of them twice.
    """
    from tttlib import statistics  # here: it needs torch, which takes seconds to import

    by = [by] if isinstance(by, str) else list(by)
    match = list(match)
    need_columns(rows, [*by, method_column, *match, value, *clusters])
    _warn_of_mismatch(rows)
    records = []
    for key, group in _groups(rows, by):
        methods = {m: r.set_index(match) for m, r in group.groupby(method_column, sort=False)}
        if baseline not in methods:
            known = ", ".join(repr(m) for m in methods)
            raise ValueError(f"no baseline {method_column} = {baseline!r} in {key}; it has {known}")
        reference = methods.pop(baseline)
        for method, seen in methods.items():
            _check_same_images(reference, seen, f"{method_column} {baseline!r} and {method!r}")
            seen = seen.loc[reference.index]
            interval = statistics.paired(
                reference[value].astype("float64").to_numpy(),
                seen[value].astype("float64").to_numpy(),
                _factors(reference.reset_index(), clusters),
                level=level,
                seed=seed,
                resamples=resamples,
            )
            found = {"n": interval.n, "difference": interval.mean}
            found |= {"low": interval.low, "high": interval.high}
            records.append({**key, method_column: method, **found})
    columns = [*by, method_column, "n", "difference", "low", "high"]
    return pd.DataFrame(records, columns=columns)


def _groups(rows: pd.DataFrame, by: list[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Each group with the values that name it; without `by` all rows are one group."""
    if not by:
        yield {}, rows
        return
    for key, group in rows.groupby(by, sort=False, dropna=False, observed=True):
        yield dict(zip(by, key, strict=True)), group


def _factors(group: pd.DataFrame, clusters: Sequence[str]) -> list[np.ndarray]:
    """The columns that make rows dependent; the image itself when several rows show one image."""
    names = list(clusters)
    if not names and "id" in group and group["id"].duplicated().any():
        names = ["id"]
    return [group[name].to_numpy() for name in names]


def need_columns(rows: pd.DataFrame, names: Sequence[str]) -> None:
    """ValueError, listing what there is, when a column is missing."""
    missing = [name for name in names if name not in rows]
    if missing:
        raise ValueError(
            f"no column {missing[0]!r} in the rows; they have {', '.join(map(str, rows.columns))}"
        )


def _check_same_images(a: pd.DataFrame, b: pd.DataFrame, what: str) -> None:
    for side in (a, b):
        if not side.index.is_unique:
            twice = side.index[side.index.duplicated()]
            raise ValueError(
                f"{what}: {_first(twice)} occurs more than once; "
                "group by what differs, or add it to match"
            )
    odd = a.index.symmetric_difference(b.index)
    if len(odd):
        raise ValueError(
            f"{what} did not see the same images: {len(odd)} of {len(a.index.union(b.index))} were "
            f"seen by one only, for instance {_first(odd)}"
        )


def _first(index: pd.Index) -> str:
    """First entry of an index in words: domain=contrast, id=7."""
    row = index[:1].to_frame().iloc[0]
    return ", ".join(f"{name}={value}" for name, value in row.items())
