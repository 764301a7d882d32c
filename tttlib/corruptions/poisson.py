"""Poisson counts from uniforms by inversion, exact and without a loop over values.

A rate is split at a whole grey level, because Poisson(a + b) = Poisson(a) + Poisson(b). The first
part has 256 possible rates: their distribution functions stand in one sorted table. The rest, less
than a level's worth and zero for images of whole grey levels, is inverted term by term.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy import stats
from torch import Tensor

_WHITE = 255


def counts(x: Tensor, scale: float, first: Tensor, second: Tensor) -> Tensor:
    """Poisson(scale * x) in the dtype of `first`.

    x              values in [0,1], any shape
    first, second  uniforms in [0,1) of that shape, one for each part of the rate
    """
    level = (x * _WHITE + 1e-3).floor()  # 1e-3 forgives the rounding of k/255
    table, columns = _distribution_functions(float(scale))
    row = level.long()
    place = torch.searchsorted(table.to(x.device), first.double() + level, right=True)
    count = (place - row * columns).to(first.dtype)
    rest = (x - level / _WHITE) * scale  # [0, scale/255)
    rest = torch.where(rest > 1e-6 * scale, rest, 0)
    return count + _invert(rest, second) if rest.any() else count


@lru_cache(maxsize=32)
def _distribution_functions(scale: float) -> tuple[Tensor, int]:
    """P(count <= k) + level for k = 0 .. K-1, level after level: float64 [256*K], ascending; K."""
    last = int(stats.poisson.isf(2.0**-26, scale)) + 2  # uniforms have 24 bits
    rates = np.arange(_WHITE + 1)[:, None] * (scale / _WHITE)  # [256,1]
    table = stats.poisson.cdf(np.arange(last), rates)  # [256,K]
    table[:, -1] = 1.0
    return torch.from_numpy((table + np.arange(_WHITE + 1)[:, None]).ravel()), last


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
