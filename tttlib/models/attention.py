"""Scaled dot-product attention, the implementation chosen per device by measurement.

On a CPU with short sequences two plain matrix products with a softmax between them make a training
step as fast as PyTorch's fused kernel (AVX2) or two to three times faster (AMX: there the fused
backward takes more time than the rest of the step). On a GPU, and on longer sequences, the fused
kernel wins. `measure` repeats the comparison; `attend` uses its outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

PLAIN_UP_TO = 200  # tokens; up to here `plain` was never slower in a whole training step


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, with q, k, v [B,heads,N,d]."""
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # [B,heads,N,N]
    return weights.softmax(-1) @ v


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention output [B,heads,N,d]."""
    if q.device.type == "cpu" and q.shape[-2] <= PLAIN_UP_TO:
        return plain(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


def measure(
    batch: int = 64, heads: int = 3, tokens: int = 65, dim: int = 64, device: str = "cpu"
) -> dict[str, float]:
    """Seconds of one forward and backward pass (minimum of 5) of both implementations."""
    candidates: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "plain": plain,
        "fused": F.scaled_dot_product_attention,
    }
    qkv = [torch.randn(batch, heads, tokens, dim, device=device) for _ in range(3)]
    seconds = {}
    for name, function in candidates.items():
        times = []
        for _ in range(6):
            inputs = [x.clone().requires_grad_() for x in qkv]
            if device != "cpu":
                torch.cuda.synchronize()
            start = time.perf_counter()
            function(*inputs).sum().backward()
            if device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        seconds[name] = min(times[1:])
    return seconds
