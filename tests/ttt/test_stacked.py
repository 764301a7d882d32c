"""The replica axis: S losses and gradients in one pass equal S separate ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny_mae import tiny_mae
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from tttlib import ttt
from tttlib.models import MaskedAutoencoder
from tttlib.ttt.stacked import StackedAutoencoder

S, B, L = 3, 4, 16


class Loss(nn.Module):
    """The one-image loss as a module's forward, which `functional_call` needs."""

    def __init__(self, net: MaskedAutoencoder) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, order: Tensor) -> Tensor:
        copies = image.expand(len(order), -1, -1, -1)
        return self.net.reconstruction_loss(copies, order=order)


def model(dtype: torch.dtype = torch.float64) -> MaskedAutoencoder:
    net = tiny_mae(dtype=dtype, decoder_depth=2)
    net.mean.fill_(0.4)
    net.std.fill_(0.3)
    return net


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    images = torch.rand(S, 3, 16, 16, generator=random, dtype=torch.float64).to(dtype)
    return images, torch.rand(S, B, L, generator=random).argsort(-1)


def stack(net: MaskedAutoencoder, finetune: str, *, perturbed: bool = True) -> StackedAutoencoder:
    """Replicas that already differ from each other, as in the middle of an adaptation."""
    stacked = StackedAutoencoder(net, ttt.trained_parameters(net, finetune), S)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in stacked.parameters.values():
            noise = torch.randn(value.shape, generator=random, dtype=torch.float64)
            value.add_(0.1 * perturbed * noise.to(value.dtype))
    return stacked


def losses(stacked: StackedAutoencoder, images: Tensor, order: Tensor) -> Tensor:
    return stacked.losses(images, stacked.model.target(images), order, L // 4)


def oracle(
    net: MaskedAutoencoder, parameters: dict[str, Tensor], images: Tensor, order: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Gradients and losses of every replica by `vmap(grad)` over the one-image code."""
    frozen = {f"net.{name}": value.detach() for name, value in net.state_dict().items()}
    module = Loss(net)

    def loss(trained: dict[str, Tensor], image: Tensor, order: Tensor) -> Tensor:
        named = {f"net.{name}": value for name, value in trained.items()}
        return functional_call(module, {**frozen, **named}, (image[None], order))

    detached = {name: value.detach() for name, value in parameters.items()}
    return vmap(grad_and_value(loss))(detached, images, order)


@pytest.mark.parametrize("finetune", ttt.FINETUNE)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_losses_and_gradients_equal_vmap_of_grad(
    finetune: str, dtype: torch.dtype, rtol: float
) -> None:
    net, (images, order) = model(dtype), inputs(dtype)
    stacked = stack(net, finetune)
    gradients, expected = oracle(net, stacked.parameters, images, order)
    got = losses(stacked, images, order)
    assert got.shape == (S,) and got.unique().numel() == S
    torch.testing.assert_close(got, expected, atol=0, rtol=rtol)
    got.sum().backward()
    for name, value in stacked.parameters.items():
        assert value.grad is not None and value.grad.abs().max() > 0, name
        scale = gradients[name].abs().max().item()
        torch.testing.assert_close(value.grad, gradients[name], atol=rtol * scale, rtol=0, msg=name)
    assert all(p.grad is None for p in net.parameters())


def test_a_replica_enters_its_own_loss_only() -> None:
    stacked = stack(model(), "all")
    losses(stacked, *inputs())[1].backward()
    for name, value in stacked.parameters.items():
        assert value.grad is not None
        assert (value.grad[[0, 2]] == 0).all() and (value.grad[1] != 0).any(), name


def test_tokens_of_a_replica_are_those_of_a_model_with_its_weights() -> None:
    net, (images, _) = model(), inputs()
    stacked = stack(net, "all")
    tokens = stacked.tokens(images)
    assert tokens.shape == (S, 1 + L, 16)
    for s in range(S):
        one = model()
        one.load_state_dict(
            {**net.state_dict(), **{name: value[s] for name, value in stacked.parameters.items()}}
        )
        torch.testing.assert_close(tokens[s], one.tokens(images[s : s + 1])[0], atol=1e-10, rtol=0)


@pytest.mark.parametrize("finetune", ttt.FINETUNE)
def test_reset_goes_back_to_the_model(finetune: str) -> None:
    net, (images, order) = model(), inputs()
    stacked = stack(net, finetune)
    losses(stacked, images, order).sum().backward()
    stacked.reset()
    source = dict(net.named_parameters())
    assert set(stacked.parameters) == set(ttt.trained_parameters(net, finetune))
    for name, value in stacked.parameters.items():
        assert value.is_leaf and value.requires_grad and value.grad is None
        assert torch.equal(value, source[name].expand_as(value))


def forwards(call: Callable[[], object], net: MaskedAutoencoder) -> int:
    """How many images enter the patch embedding of `net` or of a stack over it."""
    seen: list[int] = []
    normalize = net.normalize
    net.normalize = lambda x: seen.append(len(x)) or normalize(x)  # type: ignore[assignment]
    call()
    return sum(seen)


def test_the_copies_of_an_image_are_embedded_once() -> None:
    net, (images, order) = model(), inputs()
    stacked, target = stack(net, "encoder"), net.target(images)
    assert forwards(lambda: stacked.losses(images, target, order, 4), net) == S


def test_one_replica() -> None:
    net, (images, order) = model(), inputs()
    stacked = StackedAutoencoder(net, ttt.trained_parameters(net, "encoder"), 1)
    copies = images[:1].expand(B, -1, -1, -1)
    expected = net.reconstruction_loss(copies, order=order[0])
    got = losses(stacked, images[:1], order[:1])
    torch.testing.assert_close(got[0], expected, atol=1e-10, rtol=0)


def test_the_model_is_shared_and_untouched() -> None:
    net, (images, order) = model(), inputs()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    stacked = stack(net, "all", perturbed=False)
    optimizer = torch.optim.SGD(stacked.parameters.values(), lr=0.1)
    losses(stacked, images, order).sum().backward()
    optimizer.step()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    moved = {n for n, v in stacked.parameters.items() if not torch.equal(v[0], before[n])}
    assert moved == set(stacked.parameters)
