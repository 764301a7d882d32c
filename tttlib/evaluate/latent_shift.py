"""What organises the latent space under corruption, as result rows: maps, paths and shares.

The latents themselves are not kept: a unit's rows are what tables and figures need of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from tttlib import statistics, ttt
from tttlib.data import ImageSet
from tttlib.evaluate.cls_latents import latent_trajectories, latents
from tttlib.evaluate.layers import LAST, clustered_rows, layer_latents, layer_names
from tttlib.evaluate.unit_rows import describe, latent_rows, protocol_of, stream_of
from tttlib.models import MaskedAutoencoder
from tttlib.results import Store
from tttlib.runtime.devices import best_device
from tttlib.streams import CLEAN

PROTOCOL = {
    "latent": "CLS token of the whole image",
}


def latent_map(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    store: Store,
    severity: float = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Where every image lies under every domain, one row each; one unit of work.

    pc1, pc2                on the principal components of all points; explained1, explained2 are
                            the components' shares of the variance
    silhouette_corruption, silhouette_class   of the point among all, all dimensions
    read_corruption, read_class               whether a linear classifier that has seen no version
                            of this image names them rightly; chance_… is the always-one-answer rate
    and domain, id, label, class, clusters.
    """

    def compute() -> pd.DataFrame:
        found, rows = layer_latents(
            model, dataset, domains, severity=severity, seed=seed, layers=[LAST]
        )
        rows = _projected(rows, found[:, 0])
        for name, column in (("corruption", "domain"), ("class", "class")):
            labels = rows[column]
            rows[f"silhouette_{name}"] = statistics.silhouette_values(found[:, 0], labels)
            rows[f"read_{name}"] = statistics.linear_hits(found[:, 0], labels, rows["id"])[0]
            rows[f"chance_{name}"] = labels.value_counts(normalize=True).max()
        return rows

    what = {"domains": list(domains), "severity": severity, "seed": seed}
    unit = {"experiment": "latent_map", **describe(model, dataset), **what}
    return store.run(unit, compute, protocol=protocol_of(dataset, PROTOCOL))


def latent_separability(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    store: Store,
    severity: float = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """What silhouettes and linear classifiers tell of corruption and class; one unit of work.

    For the corrupted images in all dimensions and on two components, for the clean ones, and for
    both together (`domain_set`): the columns of `statistics.separability_table`. Versions of an
    image stay in one fold.
    """

    def compute() -> pd.DataFrame:
        found, rows = latents(model, dataset, domains, severity=severity, seed=seed)
        clean, clean_rows = latents(model, dataset, [CLEAN])
        plane = _projected(rows, found)[["pc1", "pc2"]]
        table, factors = statistics.separability_table, ["domain", "class"]
        both = pd.concat([rows, clean_rows], ignore_index=True)
        parts = {
            "corrupted, all dimensions": table(found, rows, factors),
            "corrupted, two components": table(plane, rows, factors),
            "clean only": table(clean, clean_rows, ["class"]),
            "clean and corrupted": table(np.concatenate([found, clean]), both, factors),
        }
        joined = pd.concat([t.assign(domain_set=k) for k, t in parts.items()], ignore_index=True)
        return joined.replace({"factor": {"domain": "corruption"}})

    what = {"domains": list(domains), "severity": severity, "seed": seed}
    unit = {"experiment": "latent_separability", **describe(model, dataset), **what}
    return store.run(unit, compute, protocol=protocol_of(dataset, PROTOCOL))


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
    """Where every image lies after every step of standard TTT, one row each; one unit of work.

    settings  of `ttt.run`
    Columns: domain, id, label, class, clusters, step, silhouette (by class, among the points of the
    step), pc1, pc2, explained1, explained2 (one projection for all steps).
    """

    def compute() -> pd.DataFrame:
        found, rows = latent_trajectories(
            model, dataset, [domain], severity=severity, seed=seed, **settings
        )
        position = pd.Series(range(len(dataset)), dataset.ids.tolist()).loc[rows["id"]]
        rows = clustered_rows(dataset, rows, torch.tensor(position.to_numpy()))
        rows = _projected(rows.reset_index(drop=True), found).assign(silhouette=0.0)
        for _, index in rows.groupby("step").groups.items():
            values = statistics.silhouette_values(found[index], rows.loc[index, "class"])
            rows.loc[index, "silhouette"] = values
        return rows

    what = {"domain": domain, "severity": severity, "seed": seed, **settings}
    unit = {"experiment": "latent_paths", **describe(model, dataset), **what}
    return store.run(
        unit, compute, protocol=protocol_of(dataset, PROTOCOL | {"reset": "before every image"})
    )


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
    """Shares of the variance of the CLS tokens by severity and layer; one unit per severity.

    layers  see `layer_names`; all by default
    Columns: those of `statistics.variance_shares`, severity, layer.
    """
    names, parts = layer_names(model, layers), []
    for severity in tqdm(severities, desc="severities", disable=not progress):

        def compute(severity: float = severity) -> pd.DataFrame:
            found, rows = layer_latents(
                model, dataset, domains, severity=severity, seed=seed, layers=names
            )
            clusters = tuple(dataset.clusters)
            tables = [
                statistics.variance_shares(found[:, i], rows, clusters=clusters, seed=seed)
                for i in range(len(names))
            ]
            joined = zip(tables, names, strict=True)
            return pd.concat([t.assign(layer=name) for t, name in joined], ignore_index=True)

        what = {"domains": list(domains), "layers": list(names), "severity": severity, "seed": seed}
        unit = {"experiment": "latent_variance", **describe(model, dataset), **what}
        parts.append(store.run(unit, compute, protocol=protocol_of(dataset, PROTOCOL)))
    return pd.concat(parts, ignore_index=True)


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
    """Shares of the variance of the latents without and with TTT, and their paired change.

    settings  of `ttt.run`, see `adapted_latents` for the states
    Columns: those of `statistics.variance_shares`, state ("before", "after" …) and kind: "share",
    or "change", the state minus "before" on the same images. One unit of work.
    """

    def compute() -> pd.DataFrame:
        states, rows = adapted_latents(
            model, dataset, domains, online=online, severity=severity, seed=seed, **settings
        )
        how: dict[str, Any] = {"clusters": tuple(dataset.clusters), "seed": seed}
        tables = []
        for state, found in states.items():
            table = statistics.variance_shares(found, rows, **how)
            tables.append(table.assign(state=state, kind="share"))
            if state != "before":
                change = statistics.variance_shares(found, rows, baseline=states["before"], **how)
                tables.append(change.assign(state=state, kind="change"))
        return pd.concat(tables, ignore_index=True)

    what = {"domains": list(domains), "severity": severity, "seed": seed, "online": online}
    unit = {"experiment": "latent_variance_adapted", **describe(model, dataset), **what, **settings}
    reset = "before every domain" if online else "before every image"
    return store.run(unit, compute, protocol=protocol_of(dataset, PROTOCOL | {"reset": reset}))


def adapted_latents(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    online: bool = False,
    severity: float = 5,
    seed: int = 0,
    **settings: Any,
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """CLS latents [N,D] in every state, and the rows [N] (domain, id, label, class, clusters).

    before         the model as it is
    after          standard: after the last step on this image alone. Online: after the last step on
                   this image, with what the images before it left
    end of stream  online only: by the weights that the domain's stream ended with
    Online, every domain starts from the source and shows its images in one seeded order, the same
    for all domains. `model` is not changed.
    """
    device = best_device()
    model = model.to(device)
    arrival = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
    back = arrival.argsort()
    order = arrival if online else torch.arange(len(dataset))
    parts: dict[str, list[np.ndarray]] = {}
    rows = []
    for batch in stream_of(dataset, domains, severity, seed, len(dataset)):
        net = copy.deepcopy(model) if online else model
        result = ttt.run(
            net, batch.images[order], ids=dataset.ids[order], seed=seed, online=online,
            record_latents=True, evaluate_at=[0, settings["steps"]], **settings,
        )  # fmt: skip
        assert result.latents is not None
        states = {"before": result.latents[:, 0], "after": result.latents[:, -1]}
        if online:
            states = {"before": _encoded(model, batch.images), "after": states["after"][back]}
            states["end of stream"] = _encoded(net, batch.images)
        for state, found in states.items():
            parts.setdefault(state, []).append(found.numpy())
        rows.append(clustered_rows(dataset, latent_rows(dataset, batch), batch.index))
    joined = {state: np.concatenate(found) for state, found in parts.items()}
    return joined, pd.concat(rows, ignore_index=True)


@torch.no_grad()
def _encoded(model: MaskedAutoencoder, images: torch.Tensor, size: int = 250) -> torch.Tensor:
    device = model.cls_token.device
    model.eval()
    return torch.cat([model.encode(x.to(device)).float().cpu() for x in images.split(size)])


def _projected(rows: pd.DataFrame, found: np.ndarray) -> pd.DataFrame:
    """`rows` with the first two principal components of the points and their shares."""
    covariance = statistics.StreamingCovariance()
    for start in range(0, len(found), 1000):  # float64 copies of 1,000 points at a time
        covariance.update(found[start : start + 1000])
    projection = covariance.projection(2, found)
    pc1, pc2 = projection.coordinates.T
    first, second = projection.explained
    return rows.assign(pc1=pc1, pc2=pc2, explained1=first, explained2=second)
