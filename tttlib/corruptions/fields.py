"""Where a corruption's random fields come from: the counter (default) or numpy's legacy streams.

A corruption asks for its fields in the reference's order and layout and does not know the source.
The batch axis is added in front: shape (H,W,3) gives [B,H,W,3].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tttlib.corruptions import poisson
from tttlib.corruptions.counter import words

_24_BITS = 2**24 - 1


class Fields(Protocol):
    """What a corruption may draw."""

    def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> Tensor: ...

    def normal(self, mean: float, std: float, shape: tuple[int, ...] = ()) -> Tensor: ...

    def integers(self, low: int, high: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor: ...

    def poisson(self, x: Tensor, scale: float) -> Tensor: ...


class CounterFields:
    """float32 fields that depend on key and id alone; see `tttlib.corruptions.counter`.

    key   signed 64-bit, one per (corruption, severity, seed)
    ids   int64 [B], on the device where the fields are wanted
    """

    def __init__(self, key: int, ids: Tensor) -> None:
        self._key, self._ids, self._position = key, ids, 0

    def _words(self, count: int) -> Tensor:
        start, self._position = self._position, self._position + count
        return words(self._key, self._ids, start, count)

    def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> Tensor:
        """24-bit uniforms, low + (high - low) * [0,1)."""
        unit = _unit(self._words(math.prod(shape)), 40)
        return (low + (high - low) * unit).view(len(self._ids), *shape)

    def normal(self, mean: float, std: float, shape: tuple[int, ...] = ()) -> Tensor:
        """Box-Muller on 24-bit uniforms, two normals per word; |z| <= 5.77."""
        count = math.prod(shape)
        pair = self._words((count + 1) // 2)  # [B,count/2]
        angle = _unit(pair, 16).mul_(2 * math.pi)
        radius = _unit(pair, 40).add_(2.0**-24).log_().mul_(-2).sqrt_().mul_(std)  # of (0,1]
        z = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :count]
        return z.add_(mean).view(len(self._ids), *shape)

    def integers(self, low: int, high: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        """int64 in low .. high - 1, high one number or [B]; uniform to (high - low) / 2^24."""
        word = (self._words(math.prod(shape)) >> 40) & _24_BITS
        span = high[:, None] - low if isinstance(high, Tensor) else high - low
        return ((word * span) >> 24).add_(low).view(len(self._ids), *shape)

    def poisson(self, x: Tensor, scale: float) -> Tensor:
        """Poisson(scale * x), x [B,...] in [0,1]: float32 counts of that shape."""
        word = self._words(x[0].numel() if len(x) else 0).view(x.shape)
        return poisson.counts(x, scale, _unit(word, 40), _unit(word, 16))


def _unit(words: Tensor, shift: int) -> Tensor:
    """24 of the bits as float32 in [0,1)."""
    return (words >> shift).bitwise_and_(_24_BITS).float().mul_(2.0**-24)


class ReferenceFields:
    """One legacy numpy stream per image, drawn in the reference's order (float64 by default)."""

    def __init__(
        self,
        states: Sequence[np.random.RandomState],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self._states, self._device, self._dtype = states, device, dtype

    def _stack(self, draws: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(draws)).to(self._device, self._dtype)

    def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> Tensor:
        return self._stack([np.asarray(s.uniform(low, high, shape)) for s in self._states])

    def normal(self, mean: float, std: float, shape: tuple[int, ...] = ()) -> Tensor:
        return self._stack([np.asarray(s.normal(mean, std, shape)) for s in self._states])

    def integers(self, low: int, high: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        highs = high.tolist() if isinstance(high, Tensor) else [high] * len(self._states)
        pairs = zip(self._states, highs, strict=True)
        draws = [np.asarray(s.randint(low, top, shape or None)) for s, top in pairs]
        return torch.from_numpy(np.stack(draws)).to(self._device)

    def poisson(self, x: Tensor, scale: float) -> Tensor:
        levels = x.double() * 255
        whole = levels.round()  # float32 cannot hold k/255, and the draws hang on the last bit
        rates = torch.where((levels - whole).abs() < 1e-4, whole, levels).cpu().numpy() / 255
        pairs = zip(self._states, rates, strict=True)
        return self._stack([np.asarray(s.poisson(rate * scale)) for s, rate in pairs])
