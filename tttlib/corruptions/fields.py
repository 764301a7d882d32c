"""The random fields of a corruption: from the counter (default) or from numpy's legacy streams.

A corruption asks for its fields in the order of the reference and does not know their source. The
batch axis is added in front: fields are [B,*shape], those of `poisson` have the shape of x. A shape
of three axes is (C,H,W), the planes of an image; the reference draws those interleaved, (H,W,C).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from tttlib.corruptions import poisson
from tttlib.corruptions.counter import words

_24_BITS = 2**24 - 1


class CounterFields:
    """Fields in float32 that depend on key and id alone; see `tttlib.corruptions.counter`.

    Parameters
    ----------
    key
        A signed 64-bit number, one per corruption, severity and seed.
    ids
        int64 [B], on the device where the fields are wanted.
    """

    def __init__(self, key: int, ids: Tensor) -> None:
        self._key, self._ids, self._position = key, ids, 0

    def _words(self, shape: tuple[int, ...]) -> Tensor:
        """Return the next words, int32 [B,*shape]."""
        count = math.prod(shape)
        start, self._position = self._position, self._position + count
        return words(self._key, self._ids, start, count).view(len(self._ids), *shape)

    def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw uniform numbers of 24 bits on [low, high)."""
        return _uniform(self._words(shape), low, high)

    def normal(self, mean: float, std: float, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw by inverting the distribution function at uniforms of 24 bits, so |z| <= 5.42."""
        symmetric = (self._words(shape) >> 8).float().add_(0.5).mul_(2.0**-23)  # in (-1,1)
        return symmetric.erfinv_().mul_(math.sqrt(2) * std).add_(mean)

    def integers(self, low: int, high: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw int64 from low to high - 1, uniform within (high - low) / 2^24."""
        word = (self._words(shape).long() >> 8) & _24_BITS
        span = (high - low).view(-1, *(1,) * len(shape)) if isinstance(high, Tensor) else high - low
        return ((word * span) >> 24).add_(low)

    def impulses(self, share: float, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Draw two independent fields of 0 and 1, with P(1) = `share` and with P(1) = 1/2."""
        word = self._words(shape)
        rare = (word & _24_BITS).sub_(math.ceil(share * 2**24)).bitwise_right_shift_(31)
        return rare.float().neg_(), word.bitwise_right_shift_(31).float().neg_()

    def poisson(self, x: Tensor, scale: float) -> Tensor:
        """Draw float32 counts of the rates scale * x, for x [B,...] in [0,1]."""
        shape = tuple(x.shape[1:])
        count, rest = poisson.whole_levels(x, scale, self._words(shape))
        if rest is None:
            return count
        return count + poisson.fractions(rest, _uniform(self._words(shape), 0.0, 1.0))


def _uniform(words: Tensor, low: float, high: float) -> Tensor:
    """Spread 24 bits of the words, as signed numbers, over the interval."""
    return (words >> 8).float().mul_((high - low) * 2.0**-24).add_((low + high) / 2)


class ReferenceFields:
    """Fields of one legacy numpy stream per image, drawn in the order of the reference.

    They are float64 unless another `dtype` is given.
    """

    def __init__(
        self,
        states: Sequence[np.random.RandomState],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self._states, self._device, self._dtype = states, device, dtype

    def _stack(self, draws: Iterable[np.ndarray | float]) -> Tensor:
        fields = torch.from_numpy(np.stack(list(draws))).to(self._device, self._dtype)
        return fields.movedim(-1, 1) if fields.ndim == 4 else fields  # [B,H,W,C] -> [B,C,H,W]

    def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw by RandomState.uniform."""
        return self._stack(s.uniform(low, high, _interleaved(shape)) for s in self._states)

    def normal(self, mean: float, std: float, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw by RandomState.normal."""
        return self._stack(s.normal(mean, std, _interleaved(shape)) for s in self._states)

    def integers(self, low: int, high: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw by RandomState.randint."""
        highs = high.tolist() if isinstance(high, Tensor) else [high] * len(self._states)
        pairs = zip(self._states, highs, strict=True)
        draws = [np.asarray(s.randint(low, top, shape or None)) for s, top in pairs]
        return torch.from_numpy(np.stack(draws)).to(self._device)

    def impulses(self, share: float, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Draw two uniform fields and compare them with `share` and with 1/2."""
        rare, even = self.uniform(0.0, 1.0, shape) < share, self.uniform(0.0, 1.0, shape) < 0.5
        return rare.to(self._dtype), even.to(self._dtype)

    def poisson(self, x: Tensor, scale: float) -> Tensor:
        """Draw by RandomState.poisson, at rates of whole grey levels where x is near to them."""
        levels = x.double() * 255
        whole = levels.round()  # float32 cannot hold k/255, and draws depend on the last bit
        rates = torch.where((levels - whole).abs() < 1e-4, whole, levels).movedim(1, -1) / 255
        pairs = zip(self._states, rates.cpu().numpy(), strict=True)
        return self._stack(s.poisson(rate * scale) for s, rate in pairs)


def _interleaved(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return (H,W,C) for (C,H,W), the layout in which the reference draws."""
    return (*shape[1:], shape[0]) if len(shape) == 3 else shape


Fields = CounterFields | ReferenceFields
"""What a corruption may draw from."""
