"""Random words as a pure function of key, image id and position, without state or drawing order.

The key and the id determine a stream of two 32-bit numbers (SplitMix64: Steele, Lea, Flood, Fast
splittable pseudorandom number generators, 2014). A stream and a position determine a word through
a 32-bit finaliser of two multiplications (shifts and factors of Wellons' lowbias32, 2018): the
first number enters before it and the second in its middle. There is only integer arithmetic, so
every device gives the same bits, and the words have 32 bits because processors multiply eight of
them at once. torch has no unsigned arithmetic, so products wrap and right shifts are masked.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def _signed(word: int, bits: int = 64) -> int:
    """Return the signed integer that has the same bits."""
    word &= 2**bits - 1
    return word - 2**bits if word >= 2 ** (bits - 1) else word


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_SPLITMIX = ((30, _signed(0xBF58476D1CE4E5B9)), (27, _signed(0x94D049BB133111EB)), (31, None))
_FIRST, _SECOND = _signed(0x7FEB352D, 32), _signed(0x846CA68B, 32)


def make_key(*parts: object) -> int:
    """Return a signed 64-bit key made from the text of `parts`, the same in every process."""
    text = "/".join(map(str, parts))
    return _signed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def words(key: int, ids: Tensor, start: int, count: int) -> Tensor:
    """Return 32 random bits per element, int32 [B,count].

    Parameters
    ----------
    key
        A signed 64-bit number.
    ids
        int64 [B]; equal ids give equal rows.
    start, count
        The positions, from `start` to `start + count - 1`.
    """
    streams = _split_mix(ids * _GOLDEN + key)[:, None]  # [B,1]
    low, high = streams.int(), (streams >> 32).int()  # wraps: the two halves
    positions = torch.arange(start, start + count, device=ids.device, dtype=torch.int32)
    z = positions + low  # [B,count]
    shifted = torch.empty_like(z)  # one buffer: fresh memory costs more than the arithmetic
    _fold(z, 16, shifted).mul_(_FIRST).add_(high)
    _fold(z, 15, shifted).mul_(_SECOND)
    return _fold(z, 16, shifted)


def _split_mix(z: Tensor) -> Tensor:
    """Apply the finaliser of SplitMix64 in place; it is a bijection of the 64-bit words."""
    for bits, factor in _SPLITMIX:
        _fold(z, bits, torch.empty_like(z))
        if factor is not None:
            z *= factor
    return z


def _fold(z: Tensor, bits: int, shifted: Tensor) -> Tensor:
    """Compute z ^= z >> bits in place, with an unsigned shift."""
    torch.bitwise_right_shift(z, bits, out=shifted)
    shifted &= 2 ** (8 * z.element_size() - bits) - 1  # the sign must not move in
    return z.bitwise_xor_(shifted)
