"""ETA, EATA and RDumb against plain loops that branch; Fisher information; what stays as it is."""

from __future__ import annotations

from typing import Any

import pytest
import small_networks as small
import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib import adapt
from tttlib.adapt.common.losses import come, entropy
from tttlib.data import ImageSet

MARGIN, EPS = 0.55, 0.85  # of the batches below, some have no image that is selected
SOURCE = [small.exact_images(n, seed=n) for n in (6, 6, 3)]


def plain(
    batches: int,
    *,
    fisher_weight: float = 0.0,
    reset_every: int = 0,
    margin: float = MARGIN,
    loss: str = "entropy",
) -> tuple[list[Tensor], list[Tensor], list[int]]:
    """Answers, trained tensors and numbers of selected images, by autograd and torch.optim."""
    net = small.batch_statistics(small.Golden())
    trained = [p for n, p in net.named_parameters() if "bn" in n]
    source = [p.detach().clone() for p in trained]
    fisher = [torch.zeros_like(p) for p in trained]
    for x in SOURCE:
        z = net(x)
        g = torch.autograd.grad(F.cross_entropy(z, z.argmax(1)), trained)
        fisher = [f + d**2 / len(SOURCE) for f, d in zip(fisher, g, strict=True)]
    adam = torch.optim.Adam(trained, lr=0.01)
    m, answers, numbers = None, [], []
    for t in range(batches):
        z = net(small.golden_batch(t))
        answers.append(z.detach())
        h = entropy(z) if loss == "entropy" else come(z)
        p = z.detach().softmax(1)
        selected = [b for b in range(len(z)) if h[b] < margin]
        if m is not None:
            like = [F.cosine_similarity(m, row, dim=0).abs() for row in p]
            selected = [b for b in selected if like[b] < EPS]
        numbers.append(len(selected))
        if selected:
            mean = p[selected].mean(0)
            m = mean if m is None else 0.9 * m + 0.1 * mean
            weights = (margin - h[selected].detach()).exp()
            total = (weights * h[selected]).mean()
            moved = zip(fisher, trained, source, strict=True)
            total = total + fisher_weight * sum((f * (q - s) ** 2).sum() for f, q, s in moved)
            adam.zero_grad()
            total.backward()
            adam.step()
        if reset_every and (t + 1) % reset_every == 0:
            with torch.no_grad():
                for parameter, start in zip(trained, source, strict=True):
                    parameter.copy_(start)
            adam, m = torch.optim.Adam(trained, lr=0.01), None
    return answers, [p.detach() for p in trained], numbers


def create(name: str, **overrides: Any) -> adapt.Adapter:
    how = {"lr": 0.01, "margin": MARGIN, "redundancy": EPS, **overrides}
    return adapt.create(name, small.Golden(), **how)


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("eta", {}, {}),
        ("eata", {"fisher_weight": 30.0}, {}),
        ("eata", {"fisher_weight": 0.0, "source": SOURCE}, {}),
        ("eata", {"fisher_weight": 30.0, "source": SOURCE}, {"fisher_weight": 30.0}),
        ("rdumb", {"reset_every": 3}, {"reset_every": 3}),
        ("eta", {"loss": "come"}, {"loss": "come"}),
    ],
)
def test_equal_to_the_plain_form(name: str, ours: dict, theirs: dict) -> None:
    adapter = create(name, **ours)
    answers, trained, numbers = plain(8, **theirs)
    assert 0 in numbers and max(numbers) > 1
    for t, expected in enumerate(answers):
        got = adapter(small.golden_batch(t))
        torch.testing.assert_close(got, expected, atol=1e-11, rtol=0)
        assert adapter.diagnostics["selected"] == numbers[t]
    for got, expected in zip(adapter.parameters, trained, strict=True):
        torch.testing.assert_close(got.detach(), expected, atol=1e-11, rtol=0)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_batch_without_selected_images_leaves_everything_alone(optimizer: str) -> None:
    """Also the momentum of earlier batches does not move anything."""
    adapter = create("eata", optimizer=optimizer, source=SOURCE)
    adapter(small.golden_batch(0))
    before = adapter.state_dict()
    assert before["memory"]["known"]
    object.__setattr__(adapter.config, "margin", 0.0)
    adapter(small.golden_batch(1))
    after = adapter.state_dict()
    assert adapter.diagnostics["reliable"] == 0
    assert flat(before) == flat(after)


def flat(value: Any) -> Any:
    """Nested values with tensors as lists."""
    if isinstance(value, dict):
        return {k: flat(v) for k, v in value.items()}
    if isinstance(value, list):
        return [flat(v) for v in value]
    return value.tolist() if isinstance(value, Tensor) else value


def test_nothing_is_known_until_something_was_selected() -> None:
    adapter = create("eta", margin=0.0)
    adapter(small.golden_batch(0))
    assert not adapter.memory["known"]
    object.__setattr__(adapter.config, "margin", 9.0)
    adapter(small.golden_batch(1))  # all are selected, however alike
    assert adapter.diagnostics["selected"] == 8 and adapter.memory["known"]


def test_logits_that_are_not_finite_do_not_reach_the_mean() -> None:
    adapter = create("eta")
    adapter(small.golden_batch(0))
    mean = adapter.memory["mean"].clone()
    spoil = adapter.model.register_forward_hook(
        lambda net, x, z: z.index_fill(0, torch.tensor(7), torch.nan)
    )
    adapter(small.golden_batch(0))
    spoil.remove()
    assert torch.equal(adapter.memory["mean"], mean)


def test_fisher_information_of_an_image_set() -> None:
    """Images are drawn once; F is the mean of K squares, and the last batch may be smaller."""
    n = 10
    images = (torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 255).byte()
    labels = torch.zeros(n, dtype=torch.int64)
    clean = ImageSet("clean", "train", images, labels, ("a", "b"), torch.arange(n), "0")
    how = {"source_images": 7, "source_batch": 3}
    drawn = create("eata", source=clean, **how)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:7]
    batches = [images[rows] for rows in order.split(3)]
    assert [len(b) for b in batches] == [3, 3, 1]
    given = create("eata", source=batches)
    pairs = list(zip(drawn.memory["fisher"], given.memory["fisher"], strict=True))
    assert len(pairs) == len(drawn.trained) and all(torch.equal(a, b) for a, b in pairs)
    other = create("eata", source=clean, seed=1, **how)
    assert not torch.equal(other.memory["fisher"][0], drawn.memory["fisher"][0])


def test_without_batches_there_is_no_information() -> None:
    with pytest.raises(ValueError, match="source has no batches"):
        create("eata", source=[])


def test_a_state_brings_its_fisher_information() -> None:
    whole, resumed = (create("eata", source=s, fisher_weight=30.0) for s in (SOURCE, None))
    for t in range(3):
        whole(small.golden_batch(t))
    resumed.load_state_dict(whole.state_dict())
    answers = [(whole(small.golden_batch(t)), resumed(small.golden_batch(t))) for t in (0, 1, 2)]
    assert all(torch.equal(*pair) for pair in answers)
    resumed.reset()  # to the start without it
    eta = create("eta")
    assert all(torch.equal(resumed(x), eta(x)) for x in map(small.golden_batch, range(3)))


def test_rdumb_begins_anew() -> None:
    """After N batches, also ones without a step, everything is as at the start but the count."""
    adapter, fresh = create("rdumb", reset_every=3), create("rdumb", reset_every=3)
    start = small.weights(adapter)
    for t in range(3):
        assert adapter.diagnostics.get("resets", 0) == 0
        adapter(small.golden_batch(t))
    assert adapter.diagnostics["resets"] == 1 and not adapter.memory["known"]
    assert small.same(small.weights(adapter), start)
    for t in range(2):
        assert torch.equal(adapter(small.golden_batch(t)), fresh(small.golden_batch(t)))
    assert small.same(small.weights(adapter), small.weights(fresh))


def test_constants_of_the_collection() -> None:
    for name, eps in {
        "eata": [0.4, 0.1, 0.05],
        "eta": [0.4, 0.1, 0.05],
        "rdumb": [0.4, 0.4, 0.05],
    }.items():
        presets = [adapt.METHODS[name].presets[p] for p in adapt.PRESETS]
        assert [c.redundancy for c in presets] == eps and not any(c.margin for c in presets)
        assert [c.lr for c in presets] == [1e-3, 1e-3, 2.5e-4]
        assert [c.optimizer for c in presets] == ["adam", "adam", "sgd"]
    presets = [adapt.METHODS["eata"].presets[p] for p in adapt.PRESETS]
    assert [c.fisher_weight for c in presets] == [1, 1, 2000]
    assert [c.source_batch for c in presets] == [200, 200, 64]
