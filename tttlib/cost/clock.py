"""Seconds of a task, measured on this machine in a few seconds, or from another one's FLOP/s.

Every constant is measured at the settings of the work itself where one try of it fits into the
budget. Else with one image at a time and few masks (images for an adaptation method), and carried
over along a line, which the arithmetic follows; large batches use a processor better, so the line
rather overestimates them.
"""

from __future__ import annotations

import copy
import io
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from tttlib import corruptions, data
from tttlib.cost import trials
from tttlib.cost.arithmetic import flop, line
from tttlib.cost.work import Task
from tttlib.runtime.devices import best_device

ROUNDS = 5
_TRIES = 10  # steps that must be affordable, of the 25 or more that `_split_up` takes
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
                self._known |= {k: v / self.flop_per_second for k, v in flop(task).items()}
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
        s = trials.native(task.values)
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
        model = trials.network(s)
        masks, together = s["batch_size"], trials.together_of(s)

        def at(b: int, n: int) -> dict[str, float]:
            return self._split_up(lambda k, when: trials.adapted(model, s, b, n, k, when), n)

        def one(b: int, n: int) -> float:
            trials.adapted(model, s, b, n, 1, (1,))  # warms up
            return self._once(lambda: trials.adapted(model, s, b, n, 1, (1,)))

        tries = (self._once(lambda: trials.adapted(model, s, 1, 1, 1, (1,))) for _ in range(2))
        if min(tries) > self.budget / 5:  # the first try in a process does more
            return self._at_a_glance(lambda b, at: trials.adapted(model, s, b, 1, 1, at), masks)
        few = self._few(lambda b: one(b, 1), masks)
        if few < masks:
            low, high = at(1, 1), at(few, 1)
            return {k: line(low[k], high[k], few, masks) if k == "step" else high[k] for k in low}
        return at(masks, together if _TRIES * one(masks, together) <= self.budget else 1)

    def _arrival(self, s: Mapping[str, Any]) -> float:
        model, masks, steps = trials.network(s), s["batch_size"], s["steps"]

        def run(b: int, n: int) -> None:
            at = (steps,) if s["predictions"] == 1 else tuple(range(s["predictions"]))
            trials.adapted(copy.deepcopy(model), s, b, n, steps, at, online=True)

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
        return at(masks) if few == masks else line(at(1), at(few), few, masks)

    def _batch(self, s: Mapping[str, Any]) -> float:
        adapter, b = trials.adapter_of(s), s["batch_size"]
        few = min(b, 8)
        adapter(trials.images_like(s, few)[0])
        rough = self._once(lambda: adapter(trials.images_like(s, few)[0])) * b / few
        size = b if 2 * rough <= self.budget else few
        adapter.reset()
        batches = trials.images_like(s, size)
        adapter(batches[-1])  # the first batch of a method may do more
        times = [self._once(partial(adapter, batch)) for batch in batches]
        return statistics.median(times) * b / size

    def _forward(self, s: Mapping[str, Any]) -> float:
        """Of one image in a batch."""
        model = trials.network(s)
        few = min(s["batch_size"], 8)

        def run(n: int) -> float:
            images = trials.pictures_of(s["size"], n).to(best_device())
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
        step = one if masks == 1 else line(one, max(one, two - predict), 2, masks)
        return {"step": step, "predict": predict, "image": 0.0}

    def _once(self, work: Callable[[], object]) -> float:
        _synchronise()
        start = self._timer()
        work()
        _synchronise()
        return self._timer() - start

    def _corrupt(self, s: Mapping[str, Any]) -> float:
        """Of one image."""
        n = 16 if s["size"] > 100 else 64
        images = (trials.pictures_of(s["size"], n) * 255).to(torch.uint8)
        corruptions.corrupt(images, s["name"], s["severity"])
        times = [
            self._once(lambda: corruptions.corrupt(images, s["name"], s["severity"])) for _ in "12"
        ]
        return min(times) / len(images)

    def _decode(self, s: Mapping[str, Any]) -> float:
        """Of one JPEG; an original photograph of ImageNet is larger and resized."""
        from PIL import Image

        side = 420 if s["original"] else s["size"]
        pixels = (trials.pictures_of(side, 1)[0] * 255).to(torch.uint8).permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "jpeg", quality=90)

        def read() -> None:
            image = Image.open(io.BytesIO(file.getvalue())).convert("RGB")
            if s["original"]:
                image.resize((256, 256), Image.Resampling.BICUBIC)

        return statistics.median(self._once(read) for _ in range(10))

    def _load(self, s: Mapping[str, Any]) -> float:
        trials.forget_networks()
        return self._once(lambda: trials.network(s))

    def _few(self, one: Callable[[int], float], most: int) -> int:
        """The largest number of masks, doubled from 1 to `most`, with which a try is affordable.

        one  seconds with so many masks
        """
        few = 1
        while few < most and _TRIES * one(few) * (min(2 * few, most) / few) <= self.budget:
            few = min(2 * few, most)
        return max(few, min(2, most))


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
