"""Rotation prediction as an adapter: of single images it is online test-time training."""

from __future__ import annotations

import pytest
import small_networks as small
import torch
from torch.nn import functional as F

from tttlib import adapt
from tttlib.ttt import rotation
from tttlib.ttt.rotation_views import draw_views, views_of


@pytest.mark.parametrize("finetune", ["all", "shared"])
def test_a_stream_of_single_images_is_online_test_time_training(finetune: str) -> None:
    x, how = small.images(4), {"finetune": finetune, "lr": 0.05, "seed": 3, "border": "mirror"}
    result = rotation.run(small.rotation_net(), x, steps=1, online=True, evaluate_at=[1], **how)
    adapter = adapt.create("rotation", small.rotation_net(), **how)
    for n, image in enumerate(x.split(1)):
        torch.testing.assert_close(adapter(image), result.logits[n], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(adapter.diagnostics["loss"], result.losses[n, 0])
    assert adapter.trained == rotation.trained_parameters(small.rotation_net(), finetune)


def test_a_batch_is_one_step_over_the_views_of_all_its_images() -> None:
    x = small.images(3)
    adapter = adapt.create("rotation", small.rotation_net(), lr=0.05, n_views=2)
    net = small.rotation_net()
    parts = []
    for n in range(3):
        views = draw_views(1, 2, 4, True, 0, n)
        parts.append((views_of(x[n : n + 1], views, 4, "black")[0], views.turns[0]))
    loss = torch.stack([F.cross_entropy(net.rotation_logits(v), t) for v, t in parts]).mean()
    names = rotation.trained_parameters(net)
    gradients = torch.autograd.grad(loss, [net.get_parameter(n) for n in names])
    with torch.no_grad():
        for name, gradient in zip(names, gradients, strict=True):
            net.get_parameter(name).sub_(0.05 * gradient)
        torch.testing.assert_close(adapter(x), net(x))
    first = adapt.create("rotation", small.rotation_net(), lr=0.05, predict_first=True)
    assert torch.equal(first(x), small.rotation_net()(x))


def test_views_make_up_the_papers_number() -> None:
    adapter = adapt.create("rotation", small.rotation_net())
    assert [len(adapter._draw(b).turns[0]) for b in (1, 5, 32, 50)] == [32, 7, 1, 1]
    assert adapter.memory["seen"] == 88


def test_what_cannot_be_turned() -> None:
    with pytest.raises(ValueError, match="needs a RotationNet, not WideResNet"):
        adapt.create("rotation", small.wide_resnet())
    adapter = adapt.create("rotation", small.rotation_net())
    for wrong in (small.images()[..., :12], small.images(size=4)):
        with pytest.raises(ValueError, match="must be square and larger than shift"):
            adapter(wrong)
    with pytest.raises(ValueError, match="border must be one of"):
        adapt.create("rotation", small.rotation_net(), border="white")
