"""The brakes of online test-time training, against what their equations say."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_mae import tiny_images as images
from tiny_mae import tiny_mae as model
from torch import Tensor

from tttlib import ttt
from tttlib.models import MaskedAutoencoder

RUN = {"steps": 1, "batch_size": 2, "lr": 0.05, "online": True}


def weights(net: MaskedAutoencoder) -> Tensor:
    return torch.cat(
        [net.get_parameter(n).flatten() for n in ttt.trained_parameters(net, "encoder")]
    )


@pytest.mark.parametrize("name", ["pull", "restore"])
def test_the_full_brake_is_the_source(name: str) -> None:
    net, x = model(), images()
    source, expected = weights(net).detach().clone(), net.classify(x).float()
    result = ttt.run(net, x, calm={name: 1.0}, **RUN)
    torch.testing.assert_close(result.logits[:, 0], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(result.logits[:, 1], expected, atol=1e-6, rtol=0)
    assert torch.equal(weights(net), source)


def test_pull_moves_that_share_of_the_way_back() -> None:
    free, pulled, x = model(), model(), images(1)
    source = weights(free).detach().clone()
    ttt.run(free, x, **RUN)
    ttt.run(pulled, x, calm={"pull": 0.25}, **RUN)
    expected = weights(free) + 0.25 * (source - weights(free))
    torch.testing.assert_close(weights(pulled), expected, atol=1e-12, rtol=0)


def test_restore_sets_that_share_of_the_weights_back() -> None:
    free, restored, x = model(), model(), images(1)
    source = weights(free).detach().clone()
    ttt.run(free, x, **RUN)
    ttt.run(restored, x, calm={"restore": 0.3}, **RUN)
    moved, back = weights(free) != source, weights(restored) == source
    share = (moved & back).sum() / moved.sum()
    assert 0.25 < share < 0.35
    assert torch.equal(weights(restored)[~back], weights(free)[~back])
    again = model()
    ttt.run(again, x, calm={"restore": 0.3}, **RUN)
    assert torch.equal(weights(again), weights(restored))  # same seed


def test_the_average_of_the_weights_predicts_and_is_what_stays() -> None:
    net, x, decay = model(), images(3), 0.8
    shadow = copy.deepcopy(net)
    expected = []
    for n in range(1, 4):
        trained = model()
        ttt.run(trained, x[:n], **RUN)
        with torch.no_grad():
            for name in ttt.trained_parameters(net, "encoder"):
                value = shadow.get_parameter(name)
                value.copy_(decay * value + (1 - decay) * trained.get_parameter(name))
        expected.append(shadow.classify(x[n - 1 : n])[0].float())
    result = ttt.run(net, x, calm={"average": decay}, heldout=x, evaluate_every=1, **RUN)
    torch.testing.assert_close(result.logits[:, 1], torch.stack(expected), atol=1e-6, rtol=0)
    torch.testing.assert_close(weights(net), weights(shadow), atol=1e-10, rtol=0)
    assert result.heldout_logits is not None
    final = shadow.classify(x).float()
    torch.testing.assert_close(result.heldout_logits[-1], final, atol=1e-6, rtol=0)


def test_no_brakes_change_nothing() -> None:
    a, b, x = model(), model(), images()
    first, second = ttt.run(a, x, **RUN), ttt.run(b, x, calm={"average": 0.0}, **RUN)
    assert torch.equal(first.logits, second.logits) and torch.equal(weights(a), weights(b))


@pytest.mark.parametrize("calm", [{"average": 0.5}, {"pull": 0.1}, {"restore": 0.1}])
def test_an_exploding_stream_recovers(calm: dict[str, float]) -> None:
    net, x = model(), images()
    result = ttt.run(net, x, calm=calm, **{**RUN, "lr": 1e300})
    assert result.failed.any() and torch.isfinite(result.logits).all()
    assert torch.isfinite(weights(net)).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calm": {"brake": 1}}, "unknown brake 'brake' in calm; known are average, pull, restore"),
        ({"calm": {"average": 1.0}}, "average must be in"),
        ({"calm": {"pull": -0.1}}, "pull must be a share"),
        ({"calm": {"pull": 0.1}, "online": False}, "calm needs online=True"),
    ],
)
def test_wrong_brakes_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ttt.run(model(), images(), **{**RUN, **settings})
