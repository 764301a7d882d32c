"""Random words as a pure function of (key, image id, position): no state, no order of drawing.

SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014), nested twice:
the key and the id give a stream, the stream and the position give a word. Integer arithmetic only,
hence the same bits on every device. torch has no uint64 arithmetic: int64 wraps modulo 2^64 and
the right shifts are masked.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def _signed(word: int) -> int:
    """The int64 with the same 64 bits."""
    word &= 2**64 - 1
    return word - 2**64 if word >= 2**63 else word


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def make_key(*parts: object) -> int:
    """A signed 64-bit key from the text of `parts`; the same in every process."""
    text = "/".join(map(str, parts))
    return _signed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def words(key: int, ids: Tensor, start: int, count: int) -> Tensor:
    """64 random bits per element: int64 [B, count], positions start .. start + count - 1.

    key   signed 64-bit
    ids   int64 [B]; equal ids give equal rows
    """
    streams = _mix(ids * _GOLDEN + key)  # [B]
    positions = torch.arange(start + 1, start + count + 1, device=ids.device) * _GOLDEN
    return _mix(streams[:, None] + positions)  # [B,count]


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser, in place; a bijection of the 64-bit words."""
    shifted = torch.empty_like(z)  # one buffer: fresh memory costs more than the arithmetic
    for bits, factor in ((30, _FIRST), (27, _SECOND), (31, None)):
        torch.bitwise_right_shift(z, bits, out=shifted)
        shifted &= 2 ** (64 - bits) - 1  # the sign must not move in
        z ^= shifted
        if factor is not None:
            z *= factor
    return z
