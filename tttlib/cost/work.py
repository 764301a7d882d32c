"""A unit of work in numbers: how often which task is done.

standard    images x steps x one step of B masks, images x predictions, images
online      arrivals, each with its steps and predictions; held-out images x evaluations
adaptation  arrivals / B batches of a method; a warm-up as 3 forward passes an image
source      images
each        corruption and decoding of every image, loading the network once
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from tttlib.corruptions import NAMES

_NETWORK = ("model", "preset", "head")
_TTT = ("batch_size", "optimizer", "mask_ratio", "finetune", "autocast")

_DEFAULTS: dict[str, dict[str, Any]] = {
    "standard": {"steps": 10, "batch_size": 8, "corruption": "gaussian_noise"},
    "online": {"steps": 1, "batch_size": 8, "order": "consecutive", "evaluate_every": 100},
    "adaptation": {"method": "tent", "model": "wrn-scenes", "batch_size": 20, "order": "continual"},
    "source": {"batch_size": 250, "corruption": "gaussian_noise"},
}
EXPERIMENTS = tuple(_DEFAULTS)


class Task(NamedTuple):
    """A kind of work whose cost can be measured once.

    kind      step, predict, image (of standard TTT: what an image costs beside its steps), arrival
              (online), batch (of an adaptation method), forward (of one image), corrupt, decode,
              load
    settings  JSON of what its cost depends on
    """

    kind: str
    settings: str

    @property
    def values(self) -> dict[str, Any]:
        return json.loads(self.settings)


def task(kind: str, **settings: Any) -> Task:
    """Settings that are None are left to what does the work."""
    given = {k: v for k, v in settings.items() if v is not None}
    return Task(kind, json.dumps(given, sort_keys=True))


def work_of(experiment: str, parameters: Mapping[str, Any]) -> dict[Task, float]:
    """How often a unit does which task; empty for what is no experiment (`EXPERIMENTS`).

    parameters  as in a grid file; what is missing has the experiment's default
    """
    if experiment not in EXPERIMENTS:
        return {}
    p = {"n_images": 100, "dataset": "scenes", "model": "mae-scenes", "severity": 5.0}
    p |= _DEFAULTS[experiment] | {k: v for k, v in parameters.items() if v is not None}
    p["parallel"] = parameters.get("parallel", 10)  # None leaves it to the training itself
    counts = {"standard": _standard, "online": _online, "adaptation": _adaptation}
    found = counts.get(experiment, _source)(p)
    found[task("load", **_network(p))] = 1
    return {t: n for t, n in found.items() if n}


def _standard(p: Mapping[str, Any]) -> dict[Task, float]:
    n, steps = p["n_images"], p["steps"]
    if p.get("part") is not None and p.get("chunk"):
        n = max(0, min(p["chunk"], n - p["part"] * p["chunk"]))
    settings = {k: p.get(k) for k in _TTT} | _network(p) | {"together": p["parallel"]}
    settings = {**settings, "size": _size(p)}
    return {
        task("step", **settings): n * steps,
        task("predict", **settings): n * _predictions(p, steps + 1),
        task("image", **settings): n,
        **_images(p, n, [p["corruption"]]),
    }


def _online(p: Mapping[str, Any]) -> dict[Task, float]:
    n, held, domains = p["n_images"], p.get("n_heldout", 0), p.get("corruptions") or list(NAMES)
    domains = domains[:1] if p["order"] in ("levels", "interpolated") else domains
    settings = {k: p.get(k) for k in (*_TTT, "reset_optimizer", "calm")} | _network(p)
    settings |= {"steps": p["steps"], "size": _size(p), "predictions": _predictions(p, 1)}
    evaluations = math.ceil(n / p["evaluate_every"]) + 1 if held else 0
    return {
        task("arrival", **settings): n,
        task("forward", batch_size=250, size=_size(p), **_network(p)): held * evaluations,
        **_images(p, (n + held) / len(domains), domains),
    }


def _adaptation(p: Mapping[str, Any]) -> dict[Task, float]:
    n, domains = p["n_images"], p.get("corruptions") or list(NAMES)
    each = {"gradual": 9.0, "mixed": 1 / len(domains)}.get(p["order"], 1.0) * n
    network = {"model": p["model"]}
    settings = {k: p.get(k) for k in ("method", "constants", "batch_size")} | network
    settings |= {"constants_of": p.get("preset"), "size": _size(p)}
    constants = p.get("constants") or {}
    epochs = (constants.get("warm_up") or {}).get("epochs", 10) if p.get("n_source") else 0
    warm_up = task("forward", batch_size=64, size=_size(p), **network)
    return {
        task("batch", dataset=p["dataset"], **settings): each * len(domains) / p["batch_size"],
        warm_up: 3 * epochs * p.get("n_source", 0),
        **_images(p, each, domains),
    }


def _source(p: Mapping[str, Any]) -> dict[Task, float]:
    settings = {"batch_size": p["batch_size"], "size": _size(p), **_network(p)}
    made = _images(p, p["n_images"], [p["corruption"]])
    return {task("forward", **settings): p["n_images"], **made}


def _network(p: Mapping[str, Any]) -> dict[str, Any]:
    if p.get("method"):
        return {"model": p["model"]}
    return {k: p.get(k) for k in _NETWORK}


def _predictions(p: Mapping[str, Any], otherwise: int) -> int:
    at = p.get("evaluate_at")
    return otherwise if at is None else len(at)


def _images(p: Mapping[str, Any], each: float, domains: list[str]) -> dict[Task, float]:
    """Making `each` images under every domain: decoding, and corruption where it is not on disk."""
    dataset, found = p["dataset"], {}
    if "imagenet" in dataset or "jpeg" in dataset:
        original = dataset.startswith("imagenet") and not dataset.endswith("-c")
        found[task("decode", size=_size(p), original=original)] = each * len(domains)
    if not dataset.endswith("-c"):
        for name in domains:
            if name != "clean":
                severity = 3.0 if p.get("order") == "gradual" else float(p["severity"])
                made = task("corrupt", name=name, severity=severity, size=_size(p))
                found[made] = found.get(made, 0) + each
    return found


def _size(p: Mapping[str, Any]) -> int:
    """Side of the dataset's images in pixels."""
    dataset = p["dataset"]
    if dataset.startswith("tiny-imagenet"):
        return 64
    return 224 if dataset.startswith("imagenet") else 32
