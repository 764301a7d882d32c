"""Calibration of a bundled network for streams that change all the time.

    python docs/calibrate.py wrn-scenes
    python docs/calibrate.py wrn-cifar10-jpeg --root DATA      (or $TTTLIB_DATA)

It writes tttlib/streams/calibrated/NETWORK.csv. What is stored was made like this, with 60 images
and severities 1, 3 and 5: some minutes on one core. A finer table, in hours:

    python docs/calibrate.py wrn-scenes --images 500 --severities 1 2 3 4 5
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import tttlib
from tttlib import data, evaluate
from tttlib.models import zoo
from tttlib.results.export import write_csv

FOLDER = Path(tttlib.__file__).parent / "streams" / "calibrated"
DATASETS = {"wrn-scenes": "scenes", "wrn-cifar10-jpeg": "cifar10-jpeg"}
IMAGES, SEVERITIES = 60, (1.0, 3.0, 5.0)


def images_of(network: str, n: int, root: str | None = None) -> data.ImageSet:
    """Return `n` test images of a network's dataset, drawn at random with seed 0."""
    images = data.load(DATASETS[network], "test", **({"root": root} if root else {}))
    return images.subset(np.sort(np.random.default_rng(0).permutation(len(images))[:n]).tolist())


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
        zoo.load(given.network).to(memory_format=torch.channels_last),  # faster
        images_of(given.network, given.images, given.root),
        severities=given.severities,
    )
    write_csv(FOLDER / f"{given.network}.csv", table)
