"""Weights per image or factors per image: one linear layer of test-time training, both ways.

With SGD the weights of an image differ from the source's by a sum of outer products, one for each
token it was trained on: after s steps of t tokens (masks * visible tokens), with momentum mu,

    W_s = W_0 - lr sum_k c_sk dY_k^T X_k,   c_sk = 1 + mu + … + mu^(s-k),

with X_k [t,in] and dY_k [t,out]. So images can share W_0 and carry X and dY alone (r = s t rows).
Multiply-adds of one layer, image and step, with e more tokens for the prediction:

    weights  3 t in out + e in out                        and 6 to 7 passes over in*out numbers
    factors  2 t in out + 2 t r (in + out) + e (in out + r (in + out)),   r = (s - 1) t or s t

Factors save the gradient's product and all traffic of weights, and pay for the rank. They need
less arithmetic while 2 t r (in + out) < t in out, that is r < in out / (2 (in + out)): 77 tokens
for the 192 -> 768 layer (5 steps of 1 mask, not one of 8), 410 for the 1024 -> 4096 layer of ViT-L
(8 steps of 1 mask of 50 tokens); predictions after every step take that back.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

_LR, _MU = 1e-3, 0.9
ROUNDS = 5


def bench_factors(
    inside: int = 192, outside: int = 768, steps: int = 10, images: int = 16, tokens: int = 17
) -> Iterator[dict[str, float]]:
    """Seconds of all steps, of both ways, for 1 and 8 masks, with predictions after all or none.

    tokens  visible ones of a mask, with the CLS token; predictions take 4 times as many
    """
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(outside, inside, generator=random) * 0.05
    for masks in (1, 8):
        rows = masks * tokens
        x = torch.randn(steps, images, rows, inside, generator=random)
        dy = torch.randn(steps, images, rows, outside, generator=random)
        for predicted in (4 * tokens, 0):
            whole = torch.randn(images, predicted, inside, generator=random)
            times: dict[str, list[float]] = {"weights": [], "factors": []}
            for number in range(ROUNDS + 1):
                for name, way in (("weights", own_weights), ("factors", factors)):
                    start = time.perf_counter()
                    way(weight, x, dy, whole)
                    if number:  # the first one warms up
                        times[name].append(time.perf_counter() - start)
            pairs = zip(times["weights"], times["factors"], strict=True)
            yield {
                "masks": masks,
                "predicted": predicted,
                "GFLOP weights": images * _flop(inside, outside, steps, rows, predicted, False),
                "GFLOP factors": images * _flop(inside, outside, steps, rows, predicted, True),
                "ratio": statistics.median(a / b for a, b in pairs),
            }


def own_weights(weight: Tensor, x: Tensor, dy: Tensor, whole: Tensor) -> list[Tensor]:
    """Outputs on `whole` after every step, by S weights of their own; x [steps,S,t,in]."""
    w = weight.t().expand(x.shape[1], -1, -1).clone()  # [S,in,out]
    momentum = torch.zeros_like(w)
    found = []
    for x_k, dy_k in zip(x, dy, strict=True):
        torch.bmm(x_k, w)  # forward
        torch.bmm(dy_k, w.transpose(1, 2))  # backward
        momentum.baddbmm_(x_k.transpose(1, 2), dy_k, beta=_MU)
        w.sub_(momentum, alpha=_LR)
        found.append(torch.bmm(whole, w))
    return found


def factors(weight: Tensor, x: Tensor, dy: Tensor, whole: Tensor) -> list[Tensor]:
    """The same by a shared weight [out,in] and the tokens of all steps before."""
    steps, images, t, _ = x.shape
    xs = x.new_empty(images, steps * t, x.shape[-1])  # [S,r,in]
    dys = dy.new_empty(images, steps * t, dy.shape[-1])  # [S,r,out]
    found, r = [], 0
    for k in range(steps):
        c = _coefficients(k, x).repeat_interleave(t)  # [r]
        F.linear(x[k], weight).baddbmm_(
            torch.bmm(x[k], xs[:, :r].transpose(1, 2)).mul_(c), dys[:, :r]
        )
        F.linear(dy[k], weight.t()).baddbmm_(
            torch.bmm(dy[k], dys[:, :r].transpose(1, 2)).mul_(c), xs[:, :r]
        )
        xs[:, r : r + t], dys[:, r : r + t] = x[k], dy[k]
        r += t
        c = _coefficients(k + 1, x).repeat_interleave(t)
        inner = torch.bmm(whole, xs[:, :r].transpose(1, 2)).mul_(c)  # [S,e,r]
        found.append(F.linear(whole, weight).baddbmm_(inner, dys[:, :r]))
    return found


def _coefficients(steps: int, like: Tensor) -> Tensor:
    """-lr (1 + mu + … ) of each of the steps so far, the latest last, [steps]."""
    powers = _MU ** torch.arange(steps, 0, -1, dtype=like.dtype)
    return -_LR * (1 - powers) / (1 - _MU)


def _flop(i: int, o: int, steps: int, t: int, e: int, by_factors: bool) -> float:
    """GFLOP of one image, as in the head of this file."""
    if not by_factors:
        return 2e-9 * steps * (3 * t + e) * i * o
    ranks = [(s - 1) * t for s in range(1, steps + 1)]
    train = sum(2 * t * i * o + 2 * t * r * (i + o) for r in ranks)
    return 2e-9 * (train + sum(e * (i * o + (r + t) * (i + o)) for r in ranks))
