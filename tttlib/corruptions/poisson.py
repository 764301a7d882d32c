"""Poisson counts from uniforms by inversion, exact and without a loop over values.

A rate is split at a whole grey level, because Poisson(a + b) = Poisson(a) + Poisson(b). The first
part has 256 possible rates: their distribution functions stand in one table, with a second one
that says where to begin (Chen and Asau's guide table, 1974). The rest, less than a level's worth
and zero for images of whole grey levels, is inverted term by term.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy import stats
from torch import Tensor

_WHITE, _BINS = 255, 256


def counts(x: Tensor, scale: float, first: Tensor, second: Tensor) -> Tensor:
    """Poisson(scale * x) in the dtype of `first`.

    x              values in [0,1], any shape
    first, second  uniforms in [0,1) of that shape, one for each part of the rate
    """
    level = (x * _WHITE + 1e-3).floor()  # 1e-3 forgives the rounding of k/255
    count = _invert_table(level.long(), first, float(scale))
    rest = (x - level / _WHITE) * scale  # [0, scale/255)
    rest = torch.where(rest > 1e-6 * scale, rest, 0)
    return count + _invert(rest, second) if rest.any() else count


def _invert_table(level: Tensor, uniform: Tensor, scale: float) -> Tensor:
    """Smallest k with P(count <= k) > uniform at the rate of a whole grey level."""
    table, guide, columns = (part.to(level.device) for part in _tables(scale))
    place = guide[level * _BINS + (uniform * _BINS).long()]  # index into the table
    more = (uniform >= table[place]).flatten()
    place, uniform = (place + more.view_as(place)).flatten(), uniform.flatten()
    left = more.nonzero().squeeze(1)
    while len(left):
        left = left[uniform[left] >= table[place[left]]]
        place[left] += 1
    return (place.view_as(level) - level * columns).to(uniform.dtype)


@lru_cache(maxsize=32)
def _tables(scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """P(count <= k) for k = 0 .. K-1, level after level, float32 [256*K]; guide [256*bins]; K.

    guide  int64, the place in the table of the smallest k with P(count <= k) > bin / bins
    """
    columns = int(stats.poisson.isf(2.0**-26, scale)) + 2  # uniforms have 24 bits
    rates = np.arange(_WHITE + 1)[:, None] * (scale / _WHITE)  # [256,1]
    table = stats.poisson.cdf(np.arange(columns), rates)  # [256,K]
    table[:, -1] = 2.0
    edges = np.arange(_BINS) / _BINS
    guide = np.stack([np.searchsorted(row, edges, side="right") for row in table])
    guide += np.arange(_WHITE + 1)[:, None] * columns
    return (
        torch.from_numpy(table.ravel()).float(),
        torch.from_numpy(guide.ravel()),
        torch.tensor(columns),
    )


def _invert(rate: Tensor, uniform: Tensor) -> Tensor:
    """Smallest k with P(count <= k) > uniform, for small rates."""
    term = torch.exp(-rate)  # P(count = k)
    below, count, k = term.clone(), torch.zeros_like(uniform), 0
    more = uniform >= below
    while more.any():
        count += more
        k += 1
        term = term * rate / k
        below += term
        more &= (uniform >= below) & (term > 0)
    return count
