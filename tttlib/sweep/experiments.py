"""Experiments that need no notebook: thin functions over `tttlib.evaluate`.

An experiment is a function of `run_dir` and keyword parameters with defaults, which keeps its rows
in a `results.Store` under <run_dir>/results. A grid names one of `NAMES`, or "module:function" for
one of your own: from a file beside the grid, or an installed package.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch takes seconds to import: only the workers that need it do
    from tttlib.data import ImageSet
    from tttlib.results import Store
    from tttlib.streams import Stream


def standard(
    run_dir: Path,
    *,
    model: str = "mae-scenes",
    preset: str | None = None,
    head: str | None = None,
    dataset: str = "scenes",
    split: str = "test",
    root: str = "",
    options: Mapping[str, Any] | None = None,
    n_images: int = 100,
    sample_seed: int = 0,
    corruption: str = "gaussian_noise",
    severity: float = 5.0,
    seed: int = 0,
    steps: int = 10,
    batch_size: int = 8,
    blr: float = 0.01,
    lr: float | None = None,
    optimizer: str | None = None,
    mask_ratio: float | None = None,
    finetune: str | None = None,
    evaluate_at: list[int] | None = None,
    autocast: str | None = None,
    parallel: int | None = 10,
    chunk: int | None = 50,
    part: int | None = None,
) -> None:
    """Run standard TTT (`evaluate.standard`) on `n_images` images under one corruption.

    Parameters
    ----------
    lr
        Learning rate. None: the released rule, blr * batch_size / 256 (a `RotationNet`: its own
        default).
    parallel
        Images adapted at once; a fixed number, so that the rounding never depends on the machine's
        load. None leaves it to `ttt.run`.
    chunk, part
        Unit `part` takes the images part * chunk … of the sample. That is exact, because no image
        has a part in another one's training. A `chunk` of None makes one unit.

    Notes
    -----
    None for any other setting leaves it to `ttt.run`.
    """
    from tttlib import evaluate, streams, ttt
    from tttlib.models import MaskedAutoencoder

    net = _model(model, preset, head)
    images = _images(dataset, split, root, options, n_images, sample_seed)
    if part is not None and chunk:
        images = images.subset(range(part * chunk, min((part + 1) * chunk, n_images)))
    if lr is None and isinstance(net, MaskedAutoencoder):
        lr = ttt.scaled_lr(blr, batch_size)
    stream = streams.continual(images, [corruption], severity=severity, batch_size=1, seed=seed)
    evaluate.standard(
        net,
        stream,
        store=_store(run_dir),
        progress=False,
        steps=steps,
        batch_size=batch_size,
        **_chosen(
            lr=lr,
            optimizer=optimizer,
            mask_ratio=mask_ratio,
            finetune=finetune,
            evaluate_at=evaluate_at,
            autocast=autocast,
            parallel=parallel,
        ),
    )


def online(
    run_dir: Path,
    *,
    model: str = "mae-scenes",
    preset: str | None = None,
    head: str | None = None,
    dataset: str = "scenes",
    split: str = "test",
    root: str = "",
    options: Mapping[str, Any] | None = None,
    n_images: int = 100,
    sample_seed: int = 0,
    order: str = "consecutive",
    corruptions: list[str] | None = None,
    severity: float = 5.0,
    seed: int = 0,
    steps: int = 1,
    batch_size: int = 8,
    blr: float = 0.01,
    lr: float | None = None,
    optimizer: str | None = None,
    mask_ratio: float | None = None,
    finetune: str | None = None,
    reset_optimizer: bool | None = None,
    calm: Mapping[str, float] | None = None,
    autocast: str | None = None,
    n_heldout: int = 0,
    evaluate_every: int = 100,
) -> None:
    """Run online TTT (`evaluate.online`) along one stream, which is one unit and cannot be split.

    Parameters
    ----------
    order
        "consecutive" or "mixed" (each image once, under one of the corruptions), "levels" or
        "interpolated" (the first corruption at rising severity).
    corruptions
        None: the 15 of ImageNet-C.
    n_heldout
        Number of other images, which are evaluated every `evaluate_every` arrivals without
        adapting to them.
    """
    from tttlib import evaluate, ttt
    from tttlib import streams as orders
    from tttlib.corruptions import NAMES as ALL
    from tttlib.models import MaskedAutoencoder

    net, domains = _model(model, preset, head), corruptions or list(ALL)
    images = _images(dataset, split, root, options, n_images, sample_seed)
    settings: dict[str, Any] = {"severity": severity, "batch_size": 1, "seed": seed}
    heldout = None
    if n_heldout:
        others = _images(dataset, split, root, options, n_heldout, sample_seed, skip=n_images)
        heldout = orders.consecutive(others, domains, **settings)
    if order in ("levels", "interpolated"):
        settings.pop("severity")
        stream: Stream = getattr(orders, order)(images, domains[0], **settings)
    else:
        stream = _stream(order, ("consecutive", "mixed"), images, domains, settings)
    if lr is None and isinstance(net, MaskedAutoencoder):
        lr = ttt.scaled_lr(blr, batch_size)
    evaluate.online(
        net,
        stream,
        store=_store(run_dir),
        heldout=heldout,
        evaluate_every=evaluate_every,
        progress=False,
        steps=steps,
        batch_size=batch_size,
        **_chosen(
            lr=lr,
            optimizer=optimizer,
            mask_ratio=mask_ratio,
            finetune=finetune,
            reset_optimizer=reset_optimizer,
            calm=calm,
            autocast=autocast,
        ),
    )


def adaptation(
    run_dir: Path,
    *,
    method: str = "tent",
    model: str = "wrn-scenes",
    preset: str | None = "cifar10-c",
    reset: str = "never",
    constants: Mapping[str, Any] | None = None,
    dataset: str = "scenes",
    split: str = "test",
    root: str = "",
    options: Mapping[str, Any] | None = None,
    n_images: int = 100,
    sample_seed: int = 0,
    order: str = "continual",
    corruptions: list[str] | None = None,
    severity: float = 5.0,
    batch_size: int = 20,
    seed: int = 0,
    source_split: str = "",
    n_source: int = 0,
) -> None:
    """Run continual test-time adaptation (`evaluate.adaptation`) along one stream: one unit.

    Parameters
    ----------
    preset, constants
        Of the method, see `adapt.create`.
    order
        "continual", "gradual" (ignores `severity`), "mixed" or "correlated".
    n_source
        Number of images of `source_split` for a method that warms up on source data (ecotta).
    """
    from tttlib import evaluate
    from tttlib.corruptions import NAMES as ALL

    images = _images(dataset, split, root, options, n_images, sample_seed)
    settings: dict[str, Any] = {"severity": severity, "batch_size": batch_size, "seed": seed}
    if order == "gradual":
        settings.pop("severity")
    known = ("continual", "gradual", "mixed", "correlated")
    stream = _stream(order, known, images, corruptions or list(ALL), settings)
    given = {}
    if n_source:
        split = source_split or "train"
        given["source"] = _images(dataset, split, root, options, n_source, sample_seed)
    evaluate.adaptation(
        _model(model),
        stream,
        method,
        store=_store(run_dir),
        preset=preset,
        reset=reset,
        given=given,
        progress=False,
        **(constants or {}),
    )


def source(
    run_dir: Path,
    *,
    model: str = "mae-scenes",
    preset: str | None = None,
    head: str | None = None,
    dataset: str = "scenes",
    split: str = "test",
    root: str = "",
    options: Mapping[str, Any] | None = None,
    n_images: int = 100,
    sample_seed: int = 0,
    corruption: str = "gaussian_noise",
    severity: float = 5.0,
    seed: int = 0,
    batch_size: int = 250,
) -> None:
    """Evaluate the unadapted model (`evaluate.source`) on `n_images` images of one corruption."""
    from tttlib import evaluate, streams

    net = _model(model, preset, head)
    images = _images(dataset, split, root, options, n_images, sample_seed)
    settings: dict[str, Any] = {"severity": severity, "batch_size": batch_size, "seed": seed}
    stream = streams.continual(images, [corruption], **settings)
    unit = {"experiment": "source", "method": "source", **evaluate.describe(net, images)}
    unit |= {"domain": corruption, **settings}
    protocol = {"prediction": "without adaptation", "corruption": "made in memory, not JPEG"}
    _store(run_dir).run(unit, lambda: evaluate.source(net, stream), protocol=protocol)


_BUILT_IN: dict[str, Callable[..., None]] = {
    "standard": standard,
    "online": online,
    "adaptation": adaptation,
    "source": source,
}
NAMES = tuple(_BUILT_IN)


@dataclass(frozen=True)
class Experiment:
    """An experiment that a grid can name."""

    name: str
    function: Callable[..., Any]
    defaults: Mapping[str, Any]

    def parts(self, parameters: Mapping[str, Any]) -> list[dict[str, int]]:
        """Return what each unit adds to the parameters: its `part` of the images, or nothing.

        Raises
        ------
        ValueError
            For sizes that cannot be, and for chunks that would change which images are adapted
            together: only rounding depends on that, yet a split has to be exact.
        """
        if not {"n_images", "chunk", "part"} <= self.defaults.keys():
            return [{}]
        n, chunk = parameters["n_images"], parameters["chunk"]
        if n < 1 or (chunk is not None and chunk < 1):
            raise ValueError(f"n_images and chunk must be 1 or more, not {n} and {chunk}")
        if chunk is None or parameters["part"] is not None:
            return [{}]
        together = parameters.get("parallel")
        if chunk < n and together and (chunk % together or (100 % chunk and chunk % 100)):
            raise ValueError(
                f"chunk {chunk} must be a multiple of parallel ({together}), and divide 100 or be "
                "a multiple of it, so that the same images adapt together as without chunks"
            )
        return [{"part": k} for k in range(-(-n // chunk))]


def find(name: str, folder: str | Path | None = None) -> Experiment:
    """Find an experiment by its name, or by "module:function".

    Parameters
    ----------
    name
        One of `NAMES`, or "module:function".
    folder
        A folder whose modules can be imported from now on, after all others; nothing there takes
        the place of another module.

    Raises
    ------
    ValueError
        For an unknown name, a function that cannot be imported, and one whose parameters are not
        keywords with defaults.
    """
    function = _BUILT_IN.get(name)
    if function is None:
        module, _, attribute = name.partition(":")
        if not attribute:
            raise ValueError(
                f"unknown experiment {name!r}; known are {', '.join(NAMES)}, or module:function"
            )
        if folder and str(folder) not in sys.path:
            sys.path.append(str(folder))
        try:
            function = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"experiment {name!r} cannot be imported: {error}") from error
    parameters = list(inspect.signature(function).parameters.values())[1:]
    if any(p.kind is not p.KEYWORD_ONLY or p.default is p.empty for p in parameters):
        raise ValueError(f"experiment {name!r}: all but run_dir must be keywords with defaults")
    return Experiment(name, function, {p.name: p.default for p in parameters})


def module_of(name: str) -> str:
    """Return the name of the module that an experiment lies in."""
    return __name__ if name in _BUILT_IN else name.partition(":")[0]


def _model(name: str, preset: str | None = None, head: str | None = None) -> Any:
    from tttlib.models import zoo

    return zoo.load(name, preset=preset, head=head)


def _images(
    dataset: str,
    split: str,
    root: str,
    options: Mapping[str, Any] | None,
    n: int,
    seed: int,
    skip: int = 0,
) -> ImageSet:
    from tttlib.sweep import fingerprints

    return fingerprints.images(dataset, split, root, options).sample(n, seed, skip=skip)


def _chosen(**settings: Any) -> dict[str, Any]:
    """Return the settings that are not None."""
    return {name: value for name, value in settings.items() if value is not None}


def _stream(
    order: str,
    known: tuple[str, ...],
    images: ImageSet,
    domains: list[str],
    settings: dict[str, Any],
) -> Stream:
    from tttlib import streams

    if order not in known:
        raise ValueError(f"unknown order {order!r}; known are {', '.join(known)}")
    return getattr(streams, order)(images, domains, **settings)


def _store(run_dir: Path) -> Store:
    from tttlib.results import Store

    return Store(run_dir / "results")
