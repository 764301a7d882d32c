"""How much the libraries of 2018 change a classifier's accuracy. Prints a Markdown table.

    PYTHONPATH=. python tests/corruptions/released_2018.py MODEL DATASET SPLIT [IMAGES]

The released files of elastic_transform and jpeg_compression were probably made with SciPy 1.0,
OpenCV 3 and a Pillow on IJG's libjpeg 9. `elastic_transform_2018` is part of the package. libjpeg 9
halves and doubles chroma inside the DCT, which is done here in float64: 3 to 9 % of values still
differ from its integers, by 0.1 grey levels on average, where today's library differs in half of
them, by 1.5.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor

from tttlib import data
from tttlib.corruptions import corrupt, jpeg
from tttlib.data import ImageSet
from tttlib.models import zoo


def jpeg_2018(images: Tensor, quality: int) -> Tensor:
    """uint8 [B,3,H,W] through libjpeg 9, nearly; sides multiples of 16."""
    red, green, blue = images.int().unbind(1)
    half = 2**15
    luma = (19595 * red + 38470 * green + 7471 * blue + half) >> 16
    cb = (-11059 * red - 21709 * green + half * blue + 128 * 2**16 + half - 1) >> 16
    cr = (half * red - 27439 * green - 5329 * blue + 128 * 2**16 + half - 1) >> 16
    luma = jpeg._through_dct(luma[:, None], jpeg._table(quality, jpeg._LUMA))[:, 0]
    chroma = _through_half_dct(torch.stack([cb, cr], 1), jpeg._table(quality, jpeg._CHROMA))
    cb, cr = chroma.sub(128).unbind(1)
    red = luma + ((91881 * cr + half) >> 16)
    green = luma + ((-22554 * cb - 46802 * cr + half) >> 16)
    blue = luma + ((116130 * cb + half) >> 16)
    return torch.stack([red, green, blue], 1).clamp(0, 255).to(torch.uint8)


def _through_half_dct(planes: Tensor, table: Tensor) -> Tensor:
    """Blocks of 16x16, of whose DCT the 8x8 lowest frequencies are kept and quantised."""
    k = torch.arange(16, dtype=torch.float64)
    low = torch.cos((2 * k + 1) * k[:8, None] * math.pi / 32) / math.sqrt(8)  # [8,16]
    low[0] /= math.sqrt(2)
    x = (planes - 128).double().unflatten(3, (-1, 16)).unflatten(2, (-1, 16)).transpose(3, 4)
    x = low @ x @ low.T / 2  # [B,2,H/16,W/16,8,8]
    x = x.sign() * (x.abs() / table + 0.5).floor() * table
    x = (2 * low.T @ x @ low + 128.5).floor().clamp(0, 255)
    return x.transpose(3, 4).flatten(4).flatten(2, 3).int()


def both_ways(images: Tensor, ids: Tensor, name: str, severity: int) -> tuple[Tensor, Tensor]:
    """The corruption as today's libraries and as those of 2018 do it."""
    now = corrupt(images, name, severity, ids=ids)
    if name == "elastic_transform":
        return now, corrupt(images, "elastic_transform_2018", severity, ids=ids)
    side = min(jpeg.JPEG_COMPRESSION, key=lambda size: abs(size - images.shape[-1]))
    return now, jpeg_2018(images, jpeg.JPEG_COMPRESSION[side][severity - 1])


@torch.no_grad()
def right(model: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return model.classify(images.float() / 255).argmax(1) == labels  # type: ignore[operator]


def table(model: torch.nn.Module, dataset: ImageSet) -> None:
    print("| corruption | severity | today, % | 2018 - today, points | changed predictions, % |")
    print("|---|---|---|---|---|")
    n = len(dataset)
    for name in ("elastic_transform", "jpeg_compression"):
        for severity in range(1, 6):
            pairs = []
            for start in range(0, n, 250):
                part = dataset.subset(range(start, min(start + 250, n)))
                ways = both_ways(part.images, part.ids, name, severity)
                pairs.append([right(model, way, part.labels) for way in ways])
            now, then = (torch.cat(column).double() for column in zip(*pairs, strict=True))
            gain = then - now
            error = 1.96 * gain.std().item() / math.sqrt(n)
            print(
                f"| {name} | {severity} | {100 * now.mean():.1f} | {100 * gain.mean():+.2f} "
                f"± {100 * error:.2f} | {100 * gain.abs().mean():.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    name, dataset, split = sys.argv[1:4]
    images = data.load(dataset, split)
    count = int(sys.argv[4]) if len(sys.argv) > 4 else len(images)
    table(zoo.load(name), images.sample(count))
