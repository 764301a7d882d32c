"""Poisson counts without a loop over values, from one random word each.

A rate is split at a whole grey level, because Poisson(a + b) = Poisson(a) + Poisson(b). The first
part has 256 possible rates with one alias table each (Walker 1977): a column is chosen evenly, and
either it or its alias is the count, so that one look-up decides. The rest is less than one level,
and zero for images of whole grey levels; its distribution is inverted term by term.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

_WHITE = 255
_ALIAS_BITS, _SHARE_BITS = 11, 20  # of a table's entry: the alias and the column's own share


def whole_levels(x: Tensor, scale: float, words: Tensor) -> tuple[Tensor, Tensor | None]:
    """Draw from Poisson(scale * floor(255 x) / 255), and return what is left of the rates.

    Parameters
    ----------
    x
        Values in [0,1] of any shape.
    scale
        The rate at x = 1.
    words
        int32 of the shape of x, 32 random bits each.

    Returns
    -------
    counts
        float32 of the shape of x.
    rest
        Rates in [0, scale/255), or None if x holds whole grey levels.
    """
    levels = x * _WHITE
    level = (levels + 1e-3).int()  # 1e-3 forgives the rounding of k/255
    rest = F.threshold(levels.sub_(level), 2e-3, 0)
    fractional = bool(rest.any())
    entries, bits = _table(float(scale))
    column = (words >> (32 - bits)).bitwise_and_(2**bits - 1)
    place = (level << bits).add_(column).flatten()
    entry = entries.to(x.device).index_select(0, place).view_as(words)
    alias = entry & (2**_ALIAS_BITS - 1)
    own = (words >> (32 - bits - _SHARE_BITS)).bitwise_and_(2**_SHARE_BITS - 1)
    own = own.sub_(entry >> _ALIAS_BITS).bitwise_right_shift_(31)  # -1: the column itself
    count = column.sub_(alias).bitwise_and_(own).add_(alias).float()
    return count, rest.mul_(scale / _WHITE) if fractional else None


@lru_cache(maxsize=32)
def _table(scale: float) -> tuple[Tensor, int]:
    """Return the entries share << 11 | alias, int32 [256 * 2^bits], level after level, and bits.

    Their probabilities are those of the distribution to 2^-20 of a column.
    """
    most = int(stats.poisson.isf(2.0**-32, scale)) + 1
    bits = most.bit_length()
    columns = 2**bits
    if bits > _ALIAS_BITS:
        raise ValueError(f"a rate of {scale} photons is beyond the tables; at most about 1,700")
    rates = np.arange(_WHITE + 1)[:, None] * (scale / _WHITE)  # [256,1]
    low = stats.poisson.pmf(np.arange(columns), rates)
    low *= columns / low.sum(1, keepdims=True)  # mean 1
    high, level = low.copy(), np.arange(_WHITE + 1)
    share, alias = np.ones_like(low), np.tile(np.arange(columns), (_WHITE + 1, 1))
    for _ in range(columns):  # fill the emptiest column from the fullest; both leave or shrink
        empty, full = low.argmin(1), high.argmax(1)
        rest = low[level, empty]
        used = rest < 1
        share[level, empty] = np.where(used, rest, 1)
        alias[level, empty] = np.where(used, full, empty)
        low[level, full] = high[level, full] = high[level, full] - np.where(used, 1 - rest, 0)
        low[level, empty], high[level, empty] = np.inf, -np.inf
    parts = np.minimum(np.rint(share * 2**_SHARE_BITS), 2**_SHARE_BITS - 1).astype(np.int64)
    return torch.from_numpy((parts << _ALIAS_BITS | alias).astype(np.int32).ravel()), bits


def fractions(rate: Tensor, uniform: Tensor) -> Tensor:
    """Return the smallest k with P(count <= k) > uniform, for small rates of any shape."""
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
