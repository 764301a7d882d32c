"""Experiments that need no notebook: thin classes over `tttlib.evaluate`.

An experiment is a function of `run_dir` and keyword parameters with defaults, which keeps its rows
in a `results.Store` under <run_dir>/results. A grid names one of `NAMES`, or "module:function" for
one of your own: from a file beside the grid, or an installed package. The built-in ones are
classes, whose fields are the parameters.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch takes seconds to import: only the workers that need it do
    from tttlib.data import ImageSet
    from tttlib.results import Store
    from tttlib.streams import Stream

_RISING = ("levels", "interpolated")  # streams of one corruption at all severities


@dataclass(kw_only=True)
class BuiltIn:
    """The images that every built-in experiment takes, and the corruption's strength and seed."""

    dataset: str = "scenes"
    split: str = "test"
    root: str = ""
    options: Mapping[str, Any] | None = None
    n_images: int = 100
    sample_seed: int = 0
    severity: float = 5.0
    seed: int = 0

    @classmethod
    def start(cls, run_dir: Path, **parameters: Any) -> None:
        """Run the experiment with these parameters; its rows go to <run_dir>/results."""
        from tttlib.results import Store

        cls(**parameters).run(Store(run_dir / "results"))

    def run(self, store: Store) -> None:
        """Compute the rows, or find them in the store."""
        raise NotImplementedError

    def images(self, n: int, *, split: str = "", skip: int = 0) -> ImageSet:
        """Return a sample of `n` images, beginning after `skip` others."""
        from tttlib.sweep import fingerprints

        found = fingerprints.images(self.dataset, split or self.split, self.root, self.options)
        return found.sample(n, self.sample_seed, skip=skip)

    def stream(
        self, order: str, images: ImageSet, corruptions: Sequence[str] | None, batch_size: int
    ) -> Stream:
        """Return the images as a stream of `tttlib.streams`; no corruptions mean all 15."""
        from tttlib import streams
        from tttlib.corruptions import NAMES as ALL

        domains = list(corruptions or ALL)
        severity = {} if order in (*_RISING, "gradual") else {"severity": self.severity}
        settings: dict[str, Any] = {"batch_size": batch_size, "seed": self.seed, **severity}
        make = getattr(streams, order)
        return make(images, domains[0] if order in _RISING else domains, **settings)


@dataclass(kw_only=True)
class WithAutoencoder(BuiltIn):
    """An experiment on a network that is loaded with `zoo.load`: a masked autoencoder, mostly."""

    model: str = "mae-scenes"
    preset: str | None = None
    head: str | None = None

    def network(self) -> Any:
        """Return the network."""
        from tttlib.models import zoo

        return zoo.load(self.model, preset=self.preset, head=self.head)


@dataclass(kw_only=True)
class Training(WithAutoencoder):
    """Test-time training; None for a setting leaves it to `ttt.run`.

    Attributes
    ----------
    lr
        Learning rate. None: the released rule, blr * batch_size / 256 (a `RotationNet`: its own
        default).
    """

    steps: int = 10
    batch_size: int = 8
    blr: float = 0.01
    lr: float | None = None
    optimizer: str | None = None
    mask_ratio: float | None = None
    finetune: str | None = None
    autocast: str | None = None

    def training(self, net: Any, *more: str) -> dict[str, Any]:
        """Return the settings of `ttt.run` that are chosen, and the fields named in `more`."""
        from tttlib import ttt
        from tttlib.models import MaskedAutoencoder

        names = ("steps", "batch_size", "lr", "optimizer", "mask_ratio", "finetune", *more)
        settings = {name: getattr(self, name) for name in names}
        if self.lr is None and isinstance(net, MaskedAutoencoder):
            settings["lr"] = ttt.scaled_lr(self.blr, self.batch_size)
        return {name: value for name, value in settings.items() if value is not None}


@dataclass(kw_only=True)
class Standard(Training):
    """Standard TTT (`evaluate.standard`) on `n_images` images under one corruption.

    Attributes
    ----------
    parallel
        Images adapted at once; a fixed number, so that the rounding never depends on the machine's
        load. None leaves it to `ttt.run`.
    chunk, part
        Unit `part` takes the images part * chunk … of the sample. That is exact, because no image
        has a part in another one's training. A `chunk` of None makes one unit.
    """

    corruption: str = "gaussian_noise"
    evaluate_at: list[int] | None = None
    parallel: int | None = 10
    chunk: int | None = 50
    part: int | None = None

    def run(self, store: Store) -> None:
        """Compute the rows of the images, or of their part."""
        from tttlib import evaluate

        net, images = self.network(), self.images(self.n_images)
        if self.part is not None and self.chunk:
            start = self.part * self.chunk
            images = images.subset(range(start, min(start + self.chunk, self.n_images)))
        stream = self.stream("continual", images, [self.corruption], 1)
        settings = self.training(net, "evaluate_at", "autocast", "parallel")
        evaluate.standard(net, stream, store=store, progress=False, **settings)


@dataclass(kw_only=True)
class Online(Training):
    """Online TTT (`evaluate.online`) along one stream, which is one unit and cannot be split.

    Attributes
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

    steps: int = 1
    order: str = "consecutive"
    corruptions: list[str] | None = None
    reset_optimizer: bool | None = None
    calm: Mapping[str, float] | None = None
    n_heldout: int = 0
    evaluate_every: int = 100

    def run(self, store: Store) -> None:
        """Compute the rows of the stream.

        Raises
        ------
        ValueError
            For an unknown order.
        """
        from tttlib import evaluate

        _check_order(self.order, ("consecutive", "mixed", *_RISING))
        net, heldout = self.network(), None
        if self.n_heldout:
            others = self.images(self.n_heldout, skip=self.n_images)
            heldout = self.stream("consecutive", others, self.corruptions, 1)
        evaluate.online(
            net,
            self.stream(self.order, self.images(self.n_images), self.corruptions, 1),
            store=store,
            heldout=heldout,
            evaluate_every=self.evaluate_every,
            progress=False,
            **self.training(net, "reset_optimizer", "calm", "autocast"),
        )


@dataclass(kw_only=True)
class Adaptation(BuiltIn):
    """Continual test-time adaptation (`evaluate.adaptation`) along one stream: one unit.

    Attributes
    ----------
    preset, constants
        Of the method, see `adapt.create`.
    order
        "continual", "gradual" (ignores `severity`), "mixed" or "correlated".
    n_source
        Number of images of `source_split` for a method that warms up on source data (ecotta).
    """

    method: str = "tent"
    model: str = "wrn-scenes"
    preset: str | None = "cifar10-c"
    reset: str = "never"
    constants: Mapping[str, Any] | None = None
    order: str = "continual"
    corruptions: list[str] | None = None
    batch_size: int = 20
    source_split: str = ""
    n_source: int = 0

    def run(self, store: Store) -> None:
        """Compute the rows of the stream.

        Raises
        ------
        ValueError
            For an unknown order.
        """
        from tttlib import evaluate
        from tttlib.models import zoo

        _check_order(self.order, ("continual", "gradual", "mixed", "correlated"))
        images, given = self.images(self.n_images), {}
        if self.n_source:
            given["source"] = self.images(self.n_source, split=self.source_split or "train")
        evaluate.adaptation(
            zoo.load(self.model),
            self.stream(self.order, images, self.corruptions, self.batch_size),
            self.method,
            store=store,
            preset=self.preset,
            reset=self.reset,
            given=given,
            progress=False,
            **(self.constants or {}),
        )


@dataclass(kw_only=True)
class Source(WithAutoencoder):
    """The unadapted model (`evaluate.source`) on `n_images` images of one corruption."""

    corruption: str = "gaussian_noise"
    batch_size: int = 250

    def run(self, store: Store) -> None:
        """Compute the rows of the images."""
        from tttlib import evaluate

        net, images = self.network(), self.images(self.n_images)
        stream = self.stream("continual", images, [self.corruption], self.batch_size)
        unit = {"experiment": "source", "method": "source", **evaluate.describe(net, images)}
        unit |= {"domain": self.corruption, "severity": self.severity}
        unit |= {"batch_size": self.batch_size, "seed": self.seed}
        protocol = {"prediction": "without adaptation", "corruption": "made in memory, not JPEG"}
        store.run(unit, lambda: evaluate.source(net, stream), protocol=protocol)


_BUILT_IN: dict[str, type[BuiltIn]] = {
    kind.__name__.lower(): kind for kind in (Standard, Online, Adaptation, Source)
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
    if (kind := _BUILT_IN.get(name)) is not None:
        return Experiment(name, kind.start, {f.name: f.default for f in fields(kind)})
    module, _, attribute = name.partition(":")
    if not attribute:
        known = ", ".join(NAMES)
        raise ValueError(f"unknown experiment {name!r}; known are {known}, or module:function")
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


def _check_order(order: str, known: Sequence[str]) -> None:
    if order not in known:
        raise ValueError(f"unknown order {order!r}; known are {', '.join(known)}")
