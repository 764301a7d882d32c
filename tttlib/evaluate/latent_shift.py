"""What organises the latent space under corruption, as result rows: maps, paths and shares.

The latents themselves are not kept. The rows of a unit are what tables and figures need of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from tttlib import statistics
from tttlib.data import ImageSet
from tttlib.evaluate.cls_latents import (
    adapted_latents,
    latent_trajectories,
    latents,
    layer_latents,
    layer_names,
)
from tttlib.evaluate.unit_rows import describe, protocol_of
from tttlib.models import MaskedAutoencoder
from tttlib.results import Store
from tttlib.streams import CLEAN


def latent_map(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    store: Store,
    severity: float = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Return where every image lies under every domain, as one unit of work.

    Parameters
    ----------
    model, dataset, domains, severity, seed
        As in `layer_latents`.
    store
        Keeps the rows.

    Returns
    -------
    DataFrame
        One row per image and domain with domain, id, label, class, the clusters and

        pc1, pc2, explained1, explained2
            its place on the first two principal components of all points, and their shares of the
            variance;
        silhouette_corruption, silhouette_class
            its silhouette among all points in all dimensions;
        read_corruption, read_class
            whether a linear classifier that has seen no version of this image is right;
        chance_corruption, chance_class
            how often the most frequent answer is right.
    """

    def compute() -> pd.DataFrame:
        points, rows = latents(model, dataset, domains, severity=severity, seed=seed)
        rows = _projected(rows, points)
        for name, column in (("corruption", "domain"), ("class", "class")):
            labels = rows[column]
            rows[f"silhouette_{name}"] = statistics.silhouette_values(points, labels)
            rows[f"read_{name}"] = statistics.linear_hits(points, labels, rows["id"])[0]
            rows[f"chance_{name}"] = labels.value_counts(normalize=True).max()
        return rows

    settings = {"domains": list(domains), "severity": severity, "seed": seed}
    return _unit(store, "latent_map", model, dataset, settings, compute)


def latent_separability(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    store: Store,
    severity: float = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how well corruption and class are separated in the latents, as one unit of work.

    Versions of an image stay in one fold of the classifiers.

    Parameters
    ----------
    model, dataset, domains, severity, seed
        As in `layer_latents`.
    store
        Keeps the rows.

    Returns
    -------
    DataFrame
        The columns of `statistics.separability_table` and `domain_set`: the corrupted images in all
        dimensions and on two components, the clean images, and both together.
    """

    def compute() -> pd.DataFrame:
        points, rows = latents(model, dataset, domains, severity=severity, seed=seed)
        clean, clean_rows = latents(model, dataset, [CLEAN])
        plane = _projected(rows, points)[["pc1", "pc2"]]
        table, factors = statistics.separability_table, ["domain", "class"]
        both = pd.concat([rows, clean_rows], ignore_index=True)
        parts = {
            "corrupted, all dimensions": table(points, rows, factors),
            "corrupted, two components": table(plane, rows, factors),
            "clean only": table(clean, clean_rows, ["class"]),
            "clean and corrupted": table(np.concatenate([points, clean]), both, factors),
        }
        joined = pd.concat([t.assign(domain_set=k) for k, t in parts.items()], ignore_index=True)
        return joined.replace({"factor": {"domain": "corruption"}})

    settings = {"domains": list(domains), "severity": severity, "seed": seed}
    return _unit(store, "latent_separability", model, dataset, settings, compute)


def latent_paths(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domain: str,
    *,
    store: Store,
    severity: float = 5,
    seed: int = 0,
    **settings: Any,
) -> pd.DataFrame:
    """Return where every image lies after every step of standard TTT, as one unit of work.

    Parameters
    ----------
    model, dataset, severity, seed
        As in `layer_latents`.
    domain
        One corruption or "clean".
    store
        Keeps the rows.
    **settings
        The settings of `ttt.run`.

    Returns
    -------
    DataFrame
        One row per image and step with domain, id, label, class, clusters, step, silhouette (by
        class, among the points of the step), pc1, pc2, explained1 and explained2 (one projection
        for all steps).
    """

    def compute() -> pd.DataFrame:
        points, rows = latent_trajectories(
            model, dataset, [domain], severity=severity, seed=seed, **settings
        )
        rows = _projected(rows, points).assign(silhouette=0.0)
        for _, index in rows.groupby("step").groups.items():
            values = statistics.silhouette_values(points[index], rows.loc[index, "class"])
            rows.loc[index, "silhouette"] = values
        return rows

    what = {"domain": domain, "severity": severity, "seed": seed, **settings}
    return _unit(store, "latent_paths", model, dataset, what, compute, reset="before every image")


def latent_variance(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    store: Store,
    severities: Sequence[float] = (1, 2, 3, 4, 5),
    layers: Sequence[str] = (),
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Return the shares of the variance of the CLS tokens, one unit of work per severity.

    Parameters
    ----------
    model, dataset, domains, seed, layers
        As in `layer_latents`.
    store
        Keeps the rows.
    severities
        The severities to compute.
    progress
        Whether to show a progress bar.

    Returns
    -------
    DataFrame
        The columns of `statistics.variance_shares`, severity and layer.
    """
    names, parts = layer_names(model, layers), []
    for severity in tqdm(severities, desc="severities", disable=not progress):

        def compute(severity: float = severity) -> pd.DataFrame:
            tokens, rows = layer_latents(
                model, dataset, domains, severity=severity, seed=seed, layers=names
            )
            tables = [
                statistics.variance_shares(
                    tokens[:, i], rows, clusters=dataset.factors(), seed=seed
                ).assign(layer=name)
                for i, name in enumerate(names)
            ]
            return pd.concat(tables, ignore_index=True)

        what = {"domains": list(domains), "layers": list(names), "severity": severity, "seed": seed}
        parts.append(_unit(store, "latent_variance", model, dataset, what, compute))
    return pd.concat(parts, ignore_index=True)


def latent_variance_without(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    store: Store,
    severity: float = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the shares of the variance of the last latents, leaving out each domain in turn.

    A share over all domains may rest on one of them.

    Parameters
    ----------
    model, dataset, domains, severity, seed
        As in `latents`; three domains or more, so that two are left.
    store
        Keeps the rows.

    Returns
    -------
    DataFrame
        The columns of `statistics.variance_shares` and without, the domain that is left out.

    Raises
    ------
    ValueError
        For fewer than three domains.
    """
    if len(domains) < 3:
        raise ValueError(f"leaving one out needs three domains or more, not {list(domains)}")

    def compute() -> pd.DataFrame:
        points, rows = latents(model, dataset, domains, severity=severity, seed=seed)
        how: dict[str, Any] = {"clusters": dataset.factors(), "seed": seed}
        parts = []
        for domain in domains:
            left = (rows["domain"] != domain).to_numpy()
            shares = statistics.variance_shares(points[left], rows[left], **how)
            parts.append(shares.assign(without=domain))
        return pd.concat(parts, ignore_index=True)

    what = {"domains": list(domains), "severity": severity, "seed": seed}
    return _unit(store, "latent_variance_without", model, dataset, what, compute)


def latent_variance_adapted(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    store: Store,
    online: bool = False,
    severity: float = 5,
    seed: int = 0,
    **settings: Any,
) -> pd.DataFrame:
    """Return the shares of the variance of the latents without and with TTT, as one unit of work.

    Parameters
    ----------
    model, dataset, domains, severity, seed, online
        As in `adapted_latents`, which explains the states.
    store
        Keeps the rows.
    **settings
        The settings of `ttt.run`.

    Returns
    -------
    DataFrame
        The columns of `statistics.variance_shares`, state ("before", "after", …) and kind: "share",
        or "change", which is the state minus "before" on the same images.
    """

    def compute() -> pd.DataFrame:
        states, rows = adapted_latents(
            model, dataset, domains, online=online, severity=severity, seed=seed, **settings
        )
        options: dict[str, Any] = {"clusters": dataset.factors(), "seed": seed}
        tables = []
        for state, points in states.items():
            baselines = {"share": None} | (
                {} if state == "before" else {"change": states["before"]}
            )
            for kind, baseline in baselines.items():
                table = statistics.variance_shares(points, rows, baseline=baseline, **options)
                tables.append(table.assign(state=state, kind=kind))
        return pd.concat(tables, ignore_index=True)

    what = {"domains": list(domains), "severity": severity, "seed": seed, "online": online}
    reset = "before every domain" if online else "before every image"
    return _unit(
        store, "latent_variance_adapted", model, dataset, {**what, **settings}, compute, reset=reset
    )


def _unit(
    store: Store,
    experiment: str,
    model: MaskedAutoencoder,
    dataset: ImageSet,
    settings: dict[str, Any],
    compute: Callable[[], pd.DataFrame],
    **protocol: str,
) -> pd.DataFrame:
    """Return the rows of a unit of work, computed unless they are there."""
    unit = {"experiment": experiment, **describe(model, dataset), **settings}
    protocol = {"latent": "CLS token of the whole image", **protocol}
    return store.run(unit, compute, protocol=protocol_of(dataset, protocol))


def _projected(rows: pd.DataFrame, points: np.ndarray) -> pd.DataFrame:
    """Return `rows` with the first two principal components of the points and their shares."""
    covariance = statistics.StreamingCovariance()
    for start in range(0, len(points), 1000):  # float64 copies of 1,000 points at a time
        covariance.update(points[start : start + 1000])
    projection = covariance.projection(2, points)
    pc1, pc2 = projection.coordinates.T
    first, second = projection.explained
    return rows.assign(pc1=pc1, pc2=pc2, explained1=first, explained2=second)
