"""AdaContrast against its equations in a plain loop; ring, bank and statistics."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from small_networks import Different, convolutional, flip
from small_networks import exact_images as images
from torch import Tensor, nn
from torch.nn import functional as F

from tttlib import adapt

SIZE, NEIGHBOURS, REFINE, B = 20, 3, 12, 6


def both(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    features = model.features(x)
    return features, model.fc(features)


def test_equals_the_loop() -> None:
    source = convolutional()
    sizes = {"memory_size": SIZE, "neighbours": NEIGHBOURS, "refine_after": REFINE}
    how = {"lr": 0.05, "encoder_momentum": 0.9, "weak": flip, "augment": Different()}
    adapter = adapt.create("adacontrast", source, **sizes, **how)
    model, momentum, strong = copy.deepcopy(source), copy.deepcopy(source), Different()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    ring, labels = adapter.memory["keys"].clone(), adapter.memory["labels"].clone()
    at = seen = refined = 0
    bank: list[tuple[Tensor, Tensor]] = []
    for seed in range(6):
        x = images(B, seed)
        query, key = strong(x), strong(x)
        model.train()
        momentum.train()
        with torch.no_grad():
            f, z = both(model, flip(x))
            if seen < REFINE:
                y, seen = z.argmax(1), seen + B
            else:
                refined += 1
                rows = []
                for b in range(B):
                    held = torch.stack([F.cosine_similarity(f[b], g, dim=0) for g, _ in bank])
                    near = held.argsort(descending=True)[:NEIGHBOURS]
                    rows.append(torch.stack([bank[int(n)][1] for n in near]).mean(0))
                y = torch.stack(rows).argmax(1)
        f_q, z_q = both(model, query)
        with torch.no_grad():
            for slow, fast in zip(momentum.parameters(), model.parameters(), strict=True):
                slow.copy_(0.9 * slow + 0.1 * fast)
            k = F.normalize(both(momentum, key)[0], dim=1)
        q = F.normalize(f_q, dim=1)
        before = ring.clone()
        for b in range(B):
            ring[at], labels[at] = k[b], y[b]
            at = (at + 1) % SIZE
        instance = torch.zeros(())
        for b in range(B):
            near = [q[b] @ before[m] / 0.07 for m in range(SIZE) if labels[m] != y[b]]
            scores = torch.stack([q[b] @ k[b] / 0.07, *near])
            instance = instance - scores.log_softmax(0)[0] / B
        mean = z_q.softmax(1).mean(0)
        diversity = (mean * (mean + 1e-8).log()).sum()
        loss = F.cross_entropy(z_q, y) + instance + diversity
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            f_m, z_m = both(momentum, flip(x))
            bank += list(zip(f_m, z_m.softmax(1), strict=True))
            bank = bank[-SIZE:]
            model.eval()
            expected = both(model, x)[1]
        torch.testing.assert_close(adapter(x), expected, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(adapter.diagnostics["loss"], loss.detach())
        torch.testing.assert_close(adapter.memory["keys"], ring)
        assert torch.equal(adapter.memory["labels"], labels)
    assert refined == 4
    for ours, theirs in ((adapter.model, model), (adapter.networks["momentum"], momentum)):
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=1e-9, msg=name)


def test_without_a_rate_only_running_statistics_move() -> None:
    model = convolutional()
    adapter = adapt.create("adacontrast", model, lr=0, memory_size=SIZE)
    x = images(B)
    before = adapter.predict(x)
    answer = adapter(x)
    assert torch.equal(answer, adapter.predict(x)) and not torch.equal(answer, before)
    state = model.state_dict()
    changed = {n for n, v in adapter.model.state_dict().items() if not torch.equal(v, state[n])}
    assert changed and all("running" in n or "num_batches" in n for n in changed)


def test_a_batch_larger_than_the_ring_leaves_its_last_images() -> None:
    adapter = adapt.create("adacontrast", convolutional(), memory_size=4, weak=flip)
    adapter(images(7))
    assert adapter.memory["key_at"] == 7 and adapter.memory["features"].shape == (4, 6)
    adapter(images(3))
    assert adapter.memory["probabilities"].sum(1).allclose(torch.ones(4, dtype=torch.float64))


def test_what_is_not_finite_enters_nothing() -> None:
    adapter = adapt.create("adacontrast", convolutional(), memory_size=SIZE, weak=flip)
    adapter(images(B))
    before = {n: v.clone() for n, v in adapter.model.state_dict().items() if "num_b" not in n}
    features = adapter.memory["features"].clone()
    with contextlib.ExitStack() as stack:
        for net in adapter.networks.values():
            hook = net.register_forward_pre_hook(lambda module, inputs: inputs[0] * 1.7e308)
            stack.enter_context(hook)
        adapter(images(B))
    after = adapter.model.state_dict()
    assert all(torch.equal(after[n], v) for n, v in before.items())
    assert adapter.memory["keys"].isfinite().all()
    assert torch.equal(adapter.memory["features"], features)
    assert adapter(images(B, 1)).isfinite().all()


def test_networks_without_a_linear_classifier_are_refused() -> None:
    with pytest.raises(ValueError, match="no linear layer"):
        adapt.create("adacontrast", nn.Conv2d(3, 4, 1))
    model = nn.Sequential(nn.Linear(8, 8), nn.Flatten())
    with pytest.raises(ValueError, match="last linear layer"):
        adapt.create("adacontrast", model.double())(images(2))
