"""uint8 images in a file that is mapped into memory, with checksums of what was written.

The file holds the pixels, then a CRC-32 (little-endian uint32) of every 4 MiB of them. Opening
compares up to `VERIFIED` blocks, drawn anew each time, so that damage anywhere is found in time
and damage everywhere (zeros after a power cut) at once. What is damaged is made again.
"""

from __future__ import annotations

import logging
import math
import random
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tttlib.runtime.errors import DamagedDataError
from tttlib.runtime.files import atomic_write

log = logging.getLogger(__name__)

BLOCK = 4 << 20  # bytes
VERIFIED = 32  # blocks at each opening: a tenth of a second


def write(path: Path, parts: Iterable[bytes]) -> None:
    """Write pixels and their checksums; the file appears complete or not at all."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        sums, crc, filled = [], 0, 0
        for part in parts:
            stream.write(part)
            rest = memoryview(part)
            while rest:
                piece = rest[: BLOCK - filled]
                crc, filled, rest = zlib.crc32(piece, crc), filled + len(piece), rest[len(piece) :]
                if filled == BLOCK:
                    sums.append(crc)
                    crc = filled = 0
        if filled:
            sums.append(crc)
        stream.write(np.array(sums, "<u4").tobytes())


def read(path: Path, shape: tuple[int, ...], *, verify: int | None = VERIFIED) -> Tensor:
    """Map the pixels as uint8 of `shape`, copy on write, after comparing `verify` blocks.

    None compares all of them. Raises DamagedDataError naming the file, OSError if it is missing.
    """
    size = math.prod(shape)
    blocks = -(-size // BLOCK)
    length = path.stat().st_size
    if length != size + 4 * blocks:
        raise DamagedDataError(f"{path} has {length} bytes, not {size + 4 * blocks}")
    flat = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    sums, pixels = np.fromfile(path, "<u4", offset=size), flat.numpy()
    count = blocks if verify is None else min(verify, blocks)
    for i in random.Random().sample(range(blocks), count):
        if zlib.crc32(pixels[i * BLOCK : (i + 1) * BLOCK].data) != sums[i]:
            raise DamagedDataError(f"{path} was changed after it was written, at byte {i * BLOCK}")
    return flat.view(shape)


def kept(path: Path, shape: tuple[int, ...], make: Callable[[], Iterable[bytes]]) -> Tensor:
    """Return the images kept at `path`; those that are not there, or damaged, are made first."""
    if path.is_file():
        try:
            return read(path, shape)
        except DamagedDataError as error:
            log.warning("%s; it is made again", error)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, make())
    return read(path, shape)
