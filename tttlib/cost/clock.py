"""Seconds of a task, measured on this machine in a few seconds, or from another one's FLOP/s.

Every constant is measured at the settings of the work itself where one try of it fits into the
budget. Else with one image at a time and few masks (images for an adaptation method), and carried
over along a line, which the arithmetic follows; large batches use a processor better, so the line
rather overestimates them.
"""

from __future__ import annotations

import copy
import functools
import io
import logging
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tttlib import adapt, corruptions, data, flops
from tttlib.bench_corruptions import pictures
from tttlib.cost.work import Task
from tttlib.devices import best_device
from tttlib.evaluate.engines import engine
from tttlib.models import MaskedAutoencoder, zoo

_log = logging.getLogger(__name__)
ROUNDS = 5
_TRIES = 10  # steps that must be affordable, of the 25 or more that `_split_up` takes
_DOMAINS = ("gaussian_noise", "defocus_blur", "contrast", "fog")
_ON_DEVICE = ("step", "predict", "image", "arrival", "batch", "forward")


class Clock:
    """Measured constants, each once.

    budget  seconds that measuring one constant may take, roughly
    timer   seconds of what; `time.process_time` leaves out what other processes of a busy machine
            take
    flop_per_second  of another device: what it sustains on this work. Networks then cost their
                     FLOPs (counted, not timed); corruption, decoding and loading stay measured here
    Raises ValueError for a budget or FLOP/s of 0 or less.
    """

    def __init__(
        self,
        budget: float = 5.0,
        flop_per_second: float | None = None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        if budget <= 0 or (flop_per_second is not None and flop_per_second <= 0):
            raise ValueError(
                f"budget and FLOP/s must be above 0, not {budget} and {flop_per_second}"
            )
        self.budget, self.flop_per_second, self._timer = budget, flop_per_second, timer
        self._known: dict[Task, float] = {}
        self._worker: float | None = None

    def seconds(self, task: Task) -> float:
        """Of doing a task once."""
        if task not in self._known:
            if self.flop_per_second and task.kind in _ON_DEVICE:
                self._known |= {k: v / self.flop_per_second for k, v in _flop(task).items()}
            else:
                self._known |= self._measure(task)
        return self._known[task]

    @property
    def known(self) -> tuple[Task, ...]:
        """The tasks measured so far."""
        return tuple(self._known)

    def worker(self, datasets: Iterable[str] = ()) -> float:
        """Seconds until a new process has imported what it needs, and made scenes."""
        if self._worker is None:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", "import tttlib.evaluate"], check=True)
            self._worker = time.perf_counter() - start
        made = self._once(lambda: data.load("scenes", "test")) if "scenes" in datasets else 0.0
        return self._worker + made

    def _measure(self, task: Task) -> dict[Task, float]:
        s = native(task.values)
        if task.kind in ("step", "predict", "image"):
            found = self._standard(s)
            return {Task(kind, task.settings): found[kind] for kind in found}
        one = {
            "arrival": self._arrival,
            "batch": self._batch,
            "forward": self._forward,
            "corrupt": self._corrupt,
            "decode": self._decode,
            "load": self._load,
        }
        return {task: one[task.kind](s)}

    def _standard(self, s: Mapping[str, Any]) -> dict[str, float]:
        """Seconds of a step, a prediction and an image of standard TTT."""
        model = network(s)
        masks, together = s["batch_size"], together_of(s)

        def at(b: int, n: int) -> dict[str, float]:
            return self._split_up(lambda k, when: adapted(model, s, b, n, k, when), n)

        def one(b: int, n: int) -> float:
            adapted(model, s, b, n, 1, (1,))  # warms up
            return self._once(lambda: adapted(model, s, b, n, 1, (1,)))

        if self._once(lambda: adapted(model, s, 1, 1, 1, (1,))) > self.budget / 5:
            return self._at_a_glance(lambda b, at: adapted(model, s, b, 1, 1, at), masks)
        few = self._few(lambda b: one(b, 1), masks)
        if few < masks:
            low, high = at(1, 1), at(few, 1)
            return {k: _line(low[k], high[k], few, masks) if k == "step" else high[k] for k in low}
        return at(masks, together if _TRIES * one(masks, together) <= self.budget else 1)

    def _arrival(self, s: Mapping[str, Any]) -> float:
        model, masks, steps = network(s), s["batch_size"], s["steps"]

        def run(b: int, n: int) -> None:
            at = (steps,) if s["predictions"] == 1 else tuple(range(s["predictions"]))
            adapted(copy.deepcopy(model), s, b, n, steps, at, online=True)

        def at(b: int) -> float:
            run(b, 1)
            two, eight = (
                statistics.median(self._once(partial(run, b, n)) for _ in range(ROUNDS))
                for n in (2, 8)
            )
            return max(0.0, eight - two) / 6

        def one(b: int) -> float:
            run(b, 1)
            return 2 * self._once(lambda: run(b, 1))

        few = self._few(one, masks)
        return at(masks) if few == masks else _line(at(1), at(few), few, masks)

    def _batch(self, s: Mapping[str, Any]) -> float:
        adapter, b = adapter_of(s), s["batch_size"]
        few = min(b, 8)
        adapter(images_like(s, few)[0])
        rough = self._once(lambda: adapter(images_like(s, few)[0])) * b / few
        size = b if 2 * rough <= self.budget else few
        adapter.reset()
        batches = images_like(s, size)
        adapter(batches[-1])  # the first batch of a method may do more
        times = [self._once(partial(adapter, batch)) for batch in batches]
        return statistics.median(times) * b / size

    def _forward(self, s: Mapping[str, Any]) -> float:
        """Of one image in a batch."""
        model = network(s)
        few = min(s["batch_size"], 8)

        def run(n: int) -> float:
            images = pictures_of(s["size"], n).to(best_device())
            with torch.no_grad():
                return self._once(lambda: model.classify(images)) / n

        run(few)
        rough = run(few)
        size = s["batch_size"] if 4 * rough * s["batch_size"] <= self.budget else few
        return statistics.median(run(size) for _ in range(ROUNDS))

    def _split_up(self, run: Callable[[int, Sequence[int]], None], n: int) -> dict[str, float]:
        """Seconds of a step, a prediction and an image, from runs that differ in their numbers.

        run  adapts n images with so many steps, predicting after some of them
        Runs are timed in turn, as often as the budget allows, and count with their median.
        """
        run(1, (1,))
        once = self._once(lambda: run(1, (1,)))
        k = max(1, min(8, math.ceil(0.1 / max(once, 1e-4))))
        kinds = ((k, (k,)), (3 * k, (3 * k,)), (k, range(k + 1)))
        rounds = max(ROUNDS, min(9, int(self.budget / (5 * k * max(once, 1e-4)))))
        times = [[self._once(partial(run, *kind)) for kind in kinds] for _ in range(rounds)]
        short, long, often = map(statistics.median, zip(*times, strict=True))
        step, predict = (long - short) / (2 * k * n), (often - short) / (k * n)
        found = {"step": step, "predict": predict, "image": short / n - k * step - predict}
        return {name: max(0.0, value) for name, value in found.items()}

    def _at_a_glance(
        self, run: Callable[[int, Sequence[int]], None], masks: int
    ) -> dict[str, float]:
        """As `_split_up` from three single steps, for a network that is slow on this device."""
        once, predicted, two = (
            self._once(partial(run, *kind)) for kind in ((1, (1,)), (1, (0, 1)), (2, (1,)))
        )
        predict = max(0.0, predicted - once)
        one = max(0.0, once - predict)
        step = one if masks == 1 else _line(one, max(one, two - predict), 2, masks)
        return {"step": step, "predict": predict, "image": 0.0}

    def _once(self, work: Callable[[], object]) -> float:
        _synchronise()
        start = self._timer()
        work()
        _synchronise()
        return self._timer() - start

    def _corrupt(self, s: Mapping[str, Any]) -> float:
        """Of one image."""
        images = (pictures_of(s["size"], 16 if s["size"] > 100 else 64) * 255).to(torch.uint8)
        corruptions.corrupt(images, s["name"], s["severity"])
        times = [
            self._once(lambda: corruptions.corrupt(images, s["name"], s["severity"])) for _ in "12"
        ]
        return min(times) / len(images)

    def _decode(self, s: Mapping[str, Any]) -> float:
        """Of one JPEG; an original photograph of ImageNet is larger and resized."""
        from PIL import Image

        side = 420 if s["original"] else s["size"]
        pixels = (pictures_of(side, 1)[0] * 255).to(torch.uint8).permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "jpeg", quality=90)

        def read() -> None:
            image = Image.open(io.BytesIO(file.getvalue())).convert("RGB")
            if s["original"]:
                image.resize((256, 256), Image.Resampling.BICUBIC)

        return statistics.median(self._once(read) for _ in range(10))

    def _load(self, s: Mapping[str, Any]) -> float:
        _network.cache_clear()
        return self._once(lambda: network(s))

    def _few(self, one: Callable[[int], float], most: int) -> int:
        """The largest number of masks, doubled from 1 to `most`, with which a try is affordable.

        one  seconds with so many masks
        """
        few = 1
        while few < most and _TRIES * one(few) * (min(2 * few, most) / few) <= self.budget:
            few = min(2 * few, most)
        return max(few, min(2, most))


def network(s: Mapping[str, Any]) -> Any:
    """The network of a task; with random weights where its file is not there."""
    return _network(s["model"], s.get("preset"), s.get("head"))


@functools.lru_cache(maxsize=2)
def _network(name: str, preset: str | None, head: str | None) -> Any:
    device = best_device()
    try:
        return zoo.load(name, preset=preset, head=head, device=device)
    except (FileNotFoundError, ValueError):
        known = preset if preset in zoo.PRESETS else name.partition(":")[0]  # PRESET:FILE
        if known not in zoo.PRESETS:
            raise
        torch.manual_seed(0)
        return zoo.create(known).to(device).eval()


def together_of(s: Mapping[str, Any]) -> int:
    """Images adapted at once; where it is left open, what is typical."""
    if s.get("together"):
        return s["together"]
    if isinstance(network(s), MaskedAutoencoder):
        return 8
    return 1 if best_device().type == "cpu" else 16


def adapter_of(s: Mapping[str, Any]) -> adapt.Adapter:
    """The adaptation method of a task; EcoTTA without its warm-up, which costs extra."""
    constants: dict[str, Any] = dict(s.get("constants") or {})
    if s["method"] == "ecotta":
        constants["source"] = data.load("scenes", "train").sample(64)
        constants["warm_up"] = {"epochs": 0}
    return adapt.create(s["method"], network(s), preset=s.get("constants_of"), **constants)


def images_like(s: Mapping[str, Any], n: int) -> list[Tensor]:
    """Batches [n,3,size,size] of corrupted images, each under another corruption."""
    return [
        corruptions.corrupt(pictures_of(s["size"], n, s.get("dataset", "")), name, 5)
        for name in _DOMAINS
    ]


@functools.lru_cache(maxsize=8)
def pictures_of(size: int, n: int, dataset: str = "") -> Tensor:
    """[n,3,size,size] in [0,1]: of scenes, else photographs. Not to be written to."""
    if dataset == "scenes":
        return _scenes()[:n].float() / 255
    return pictures(size, n).float() / 255


@functools.cache
def _scenes() -> Tensor:
    return torch.as_tensor(data.load("scenes", "test").sample(1000, 1).images[:])


def adapted(
    model: nn.Module,
    s: Mapping[str, Any],
    masks: int,
    n: int,
    steps: int,
    at: Sequence[int],
    online: bool = False,
) -> None:
    """One call of the network's own test-time training."""
    _, run = engine(model)  # type: ignore[arg-type]
    names = ("optimizer", "mask_ratio", "finetune", "autocast", "reset_optimizer", "calm")
    given = {k: s[k] for k in names if k in s}
    images = pictures_of(s["size"], n)
    how: dict[str, Any] = {"online": True} if online else {"parallel": n}
    run(model, images, steps=steps, batch_size=masks, lr=1e-4, evaluate_at=at, **how, **given)


def _flop(task: Task) -> dict[Task, float]:
    """FLOPs of a task and of those that are counted with it."""
    s = native(task.values)
    if task.kind == "batch":
        adapter, b = adapter_of(s), 4
        adapter(images_like(s, b)[0])
        found = flops.count(lambda: adapter(images_like(s, b)[1]))
        return {task: found * s["batch_size"] / b}
    model = network(s)
    if task.kind == "forward":
        image = pictures_of(s["size"], 1).to(best_device())
        with torch.no_grad():
            return {task: flops.count(lambda: model.classify(image))}

    def counted(masks: int, steps: int, at: Sequence[int]) -> int:
        return flops.count(lambda: adapted(model, s, masks, 1, steps, at))

    one, two = (counted(b, 2, (2,)) - counted(b, 1, (1,)) for b in (1, 2))
    predict = counted(1, 1, (0, 1)) - counted(1, 1, (1,))
    step = _line(one, two, 2, s["batch_size"])
    if task.kind == "arrival":
        return {task: s["steps"] * step + s["predictions"] * predict}
    kinds = {"step": step, "predict": float(predict), "image": 0.0}
    return {Task(kind, task.settings): value for kind, value in kinds.items()}


def native(s: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings without an autocast that this processor only emulates."""
    name = s.get("autocast")
    if not name or best_device().type != "cpu" or not _emulated(name):
        return s
    return {key: value for key, value in s.items() if key != "autocast"}


@functools.cache
def _emulated(name: str) -> bool:
    """Whether matrix products in this dtype take much longer than in float32, told once."""
    a, b = (torch.ones(256, 256, dtype=dtype) for dtype in (getattr(torch, name), torch.float32))

    def seconds(m: Tensor) -> float:
        m @ m  # warms up
        start = time.perf_counter()
        m @ m
        return time.perf_counter() - start

    slower = seconds(a) / seconds(b)
    if slower > 4:
        _log.warning(
            "%s is emulated on this processor, %.0f times slower than float32; the plan counts the "
            "work in float32",
            name,
            slower,
        )
    return slower > 4


def _line(one: float, few: float, at: int, wanted: int) -> float:
    """The value at `wanted`, from those at 1 and `at`."""
    return max(few, one + (wanted - 1) * (few - one) / (at - 1)) if at > 1 else few


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
