"""Timing against the obvious implementation, both in one run on one machine.

The released test-time training adapts one image at a time; `ttt.run(parallel=1)` is that loop. The
ratio of the two is what these machines can say; seconds belong to the device named beside them.
"""

from __future__ import annotations

import logging
import statistics
import time

import torch
from tqdm.auto import tqdm

from tttlib import bench_corruptions, bench_data, data, environment, ttt
from tttlib.devices import best_device
from tttlib.models import zoo

log = logging.getLogger(__name__)

TARGETS = ("ttt", "corruptions", "data")


def main(what: str = "ttt") -> None:
    """Log one line per setting; ValueError for an unknown target."""
    if what not in TARGETS:
        raise ValueError(f"unknown benchmark {what!r}; known are {', '.join(TARGETS)}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    origin = environment.describe()
    log.info("device: %s, %d threads", origin["device"], origin["threads"])
    if what == "corruptions":
        bench_corruptions.report(bench_corruptions.bench_corruptions())
        return
    if what == "data":
        log.info(
            "%(set)s, %(images)d images: first epoch %(first).0f images/s, from the cache "
            "%(cached).0f, ratio %(ratio).1f (%(low).1f to %(high).1f)",
            bench_data.bench_data(),
        )
        return
    for row in bench_ttt():
        log.info(
            "masks %(batch_size)2d: loop %(loop).3f s/image, stacked %(stacked).3f s/image, "
            "ratio %(ratio).2f (%(low).2f to %(high).2f over %(rounds)d rounds)",
            row,
        )


def bench_ttt(
    model_name: str = "mae-scenes", steps: int = 5, images: int = 32, rounds: int = 5
) -> list[dict[str, float]]:
    """Seconds per image of the loop and of the stack, and their ratio, for 1, 8 and 32 masks.

    Loop and stack alternate, so that a disturbance of the machine meets both; the ratio is the
    median over rounds, with the extremes.
    """
    device = best_device()
    model = zoo.load(model_name, device=device)
    pictures = data.load("scenes", "valid", n=images).images.to(device).float() / 255
    rows = []
    for batch_size in tqdm((1, 8, 32), desc="bench"):
        lr = ttt.scaled_lr(1e-2, batch_size)
        times: dict[str, list[float]] = {"loop": [], "stacked": []}
        for round_number in range(rounds + 1):
            for name, parallel, n in (("loop", 1, 4), ("stacked", None, images)):
                start = time.perf_counter()
                ttt.run(
                    model,
                    pictures[:n],
                    steps=steps,
                    batch_size=batch_size,
                    lr=lr,
                    parallel=parallel,
                )
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if round_number:  # the first one warms up
                    times[name].append((time.perf_counter() - start) / n)
        ratios = [a / b for a, b in zip(times["loop"], times["stacked"], strict=True)]
        rows.append(
            {
                "batch_size": batch_size,
                "rounds": rounds,
                "loop": statistics.median(times["loop"]),
                "stacked": statistics.median(times["stacked"]),
                "ratio": statistics.median(ratios),
                "low": min(ratios),
                "high": max(ratios),
            }
        )
    return rows
