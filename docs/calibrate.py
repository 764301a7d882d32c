"""Calibration of a bundled network for streams that change all the time.

    python docs/calibrate.py wrn-scenes --severities 1 2 3 4 5
    python docs/calibrate.py wrn-cifar10-jpeg --root DATA      (or $TTTLIB_DATA)

It writes tttlib/streams/calibrated/NETWORK.csv. What is stored was made by these two lines, with 60
images; each takes some minutes on one core. A finer table, in an hour or two:

    python docs/calibrate.py wrn-cifar10-jpeg --images 300 --severities 1 2 3 4 5
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

import tttlib
from tttlib import adapt, data, evaluate, streams
from tttlib.models import zoo
from tttlib.results.export import write_csv

FOLDER = Path(tttlib.__file__).parent / "streams" / "calibrated"
DATASETS = {"wrn-scenes": "scenes", "wrn-cifar10-jpeg": "cifar10-jpeg"}
LOOKED_AT = ("clean", "gaussian_noise", "glass_blur", "contrast")
IMAGES, SEVERITIES = 60, (1.0, 3.0, 5.0)


def images_of(network: str, n: int, root: str | None = None) -> data.ImageSet:
    """Return `n` test images of a network's dataset that together are about as hard as all.

    Of 2,000 images drawn at random, ranked by their mean negative log-likelihood under `LOOKED_AT`,
    every 2,000/n-th one: this says more than as many random ones.
    """
    images = data.load(DATASETS[network], "test", **({"root": root} if root else {}))
    some = np.sort(np.random.default_rng(0).permutation(len(images))[:2000])
    images = images.subset(some.tolist())
    looked_at = streams.continual(images, LOOKED_AT, severity=3, batch_size=250, order="as stored")
    unadapted = adapt.create("source", network_of(network))
    losses = [
        nn.functional.cross_entropy(unadapted(batch.images).cpu(), batch.labels, reduction="none")
        for batch in looked_at
    ]
    rank = torch.cat(losses).view(len(LOOKED_AT), -1).mean(0).argsort()
    kept = rank[((torch.arange(n) + 0.5) * len(images) / n).long()]
    return images.subset(kept.sort().values.tolist())


def network_of(name: str) -> nn.Module:
    """Return a bundled network in the memory format that is faster for it."""
    return zoo.load(name).to(memory_format=torch.channels_last)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", choices=DATASETS)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--severities", type=float, nargs="+", default=SEVERITIES)
    parser.add_argument("--root", help="folder of the real images")
    given = parser.parse_args()
    table = evaluate.calibrate(
        network_of(given.network),
        images_of(given.network, given.images, given.root),
        severities=given.severities,
    )
    write_csv(FOLDER / f"{given.network}.csv", table)
