"""NEO: the centre is the mean of all features, whatever the batches; traps."""

from __future__ import annotations

import torch
from small_networks import convolutional
from small_networks import exact_images as images

from tttlib import adapt


def test_the_centre_is_the_mean_of_all_features() -> None:
    net, x = convolutional(), images(12)
    for sizes in ([12], [5, 6, 1], [1] * 12):
        adapter = adapt.create("neo", net)
        answers = [adapter(part) for part in x.split(sizes)]
        centre = net.features(x).mean(0)
        torch.testing.assert_close(adapter.memory["centre"], centre)
        last = net.fc(net.features(x[-sizes[-1] :]) - centre)
        torch.testing.assert_close(answers[-1], last)
        assert int(adapter.memory["count"]) == 12


def test_the_continual_form() -> None:
    net, x = convolutional(), images(9)
    adapter = adapt.create("neo", net, rate=0.25)
    centre = torch.zeros(6, dtype=torch.float64)
    for part in x.split(3):
        centre = 0.75 * centre + 0.25 * net.features(part).mean(0)
        torch.testing.assert_close(adapter(part), net.fc(net.features(part) - centre))


def test_before_any_image_it_is_the_source_and_the_first_image_gets_the_bias() -> None:
    net, x = convolutional(), images(2)
    adapter = adapt.create("neo", net)
    assert torch.equal(adapter.predict(x), net(x))
    assert torch.equal(adapter(x[:1])[0], net.fc.bias)
    assert not torch.equal(adapter(x[1:])[0], net.fc.bias)


def test_features_that_are_not_finite_are_not_counted() -> None:
    net, x = convolutional(), images(3)
    adapter = adapt.create("neo", net)
    overflow = torch.tensor([1, 1.7e308, 1], dtype=torch.float64).view(3, 1, 1, 1)
    with adapter.model.register_forward_pre_hook(lambda module, inputs: inputs[0] * overflow):
        answer = adapter(x)
    assert answer[::2].isfinite().all() and not answer[1].isfinite().all()
    torch.testing.assert_close(adapter.memory["centre"], net.features(x[::2]).mean(0))
    for rate in (None, 0.1):
        adapter = adapt.create("neo", net, rate=rate)
        with adapter.model.register_forward_pre_hook(lambda module, inputs: inputs[0] * 1.7e308):
            adapter(x)
        assert torch.equal(adapter.memory["centre"], torch.zeros(6, dtype=torch.float64))
