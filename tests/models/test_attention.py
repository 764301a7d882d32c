"""Attention: both implementations are the same function, and the device decides which one runs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.models import attention


def qkv(tokens: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    random = torch.Generator().manual_seed(tokens)
    shape = (3, 2, 5, tokens, 4)  # q,k,v; B=2, 5 heads, width 4
    return [2 * x for x in torch.randn(shape, generator=random, dtype=dtype)]


@pytest.mark.parametrize("tokens", [1, 2, 17, 65])
def test_plain_is_the_fused_formula(tokens: int) -> None:
    ours = [x.requires_grad_() for x in qkv(tokens)]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    a, b = attention.plain(*ours), F.scaled_dot_product_attention(*theirs)
    torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
    weight = torch.linspace(-1, 1, a.numel(), dtype=a.dtype).view_as(a)
    (a * weight).sum().backward()
    (b * weight).sum().backward()
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.grad, y.grad, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("tokens", "expected"), [(attention.PLAIN_UP_TO, "plain"), (attention.PLAIN_UP_TO + 1, "fused")]
)
def test_attend_picks_by_length(
    tokens: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def spy(name: str) -> object:
        return lambda q, k, v: called.append(name) or v

    monkeypatch.setattr(attention, "plain", spy("plain"))
    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", spy("fused"))
    attention.attend(*qkv(tokens, torch.float32))
    assert called == [expected]
