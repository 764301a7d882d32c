"""FLOPs of a task, counted and carried over to its own batch size along a line."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tttlib.cost import trials
from tttlib.cost.work import Task
from tttlib.runtime import flops
from tttlib.runtime.devices import best_device


def flop(task: Task) -> dict[Task, float]:
    """FLOPs of a task and of those that are counted with it."""
    s = trials.native(task.values)
    if task.kind == "batch":
        adapter, b = trials.adapter_of(s), 4
        adapter(trials.images_like(s, b)[0])
        found = flops.count(lambda: adapter(trials.images_like(s, b)[1]))
        return {task: found * s["batch_size"] / b}
    model = trials.network(s)
    if task.kind == "forward":
        image = trials.pictures_of(s["size"], 1).to(best_device())
        with torch.no_grad():
            return {task: flops.count(lambda: model.classify(image))}

    def counted(masks: int, steps: int, at: Sequence[int]) -> int:
        return flops.count(lambda: trials.adapted(model, s, masks, 1, steps, at))

    one, two = (counted(b, 2, (2,)) - counted(b, 1, (1,)) for b in (1, 2))
    predict = counted(1, 1, (0, 1)) - counted(1, 1, (1,))
    step = line(one, two, 2, s["batch_size"])
    if task.kind == "arrival":
        return {task: s["steps"] * step + s["predictions"] * predict}
    kinds = {"step": step, "predict": float(predict), "image": 0.0}
    return {Task(kind, task.settings): value for kind, value in kinds.items()}


def line(one: float, few: float, at: int, wanted: int) -> float:
    """The value at `wanted`, from those at 1 and `at`."""
    return max(few, one + (wanted - 1) * (few - one) / (at - 1)) if at > 1 else few
