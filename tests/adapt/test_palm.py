"""PALM: its formulas, each switch alone, and what happens at the edges."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import small_networks as small
import torch
from small_networks import parameters as values
from small_networks import same
from torch import Tensor, nn

from tttlib import adapt
from tttlib.adapt import palm as palm_module
from tttlib.adapt.common import losses
from tttlib.adapt.common.palm_constants import VARIANTS, constants_of, one_changed
from tttlib.reference.palm import PlainPalm

ETA = 0.7  # of the golden run: conv2.weight is never selected, conv1.weight in some batches


def palm(**overrides: Any) -> adapt.Adapter:
    how = {"threshold": ETA, "augment": small.flip, **overrides}
    return adapt.create("palm", small.Golden(), **how)


def run(adapter: adapt.Adapter, batches: int = 1) -> dict[str, Tensor]:
    for t in range(batches):
        adapter(small.golden_batch(t))
    return adapter.diagnostics


@pytest.mark.parametrize(
    ("net", "batch", "settings"),
    [
        (small.Golden, small.golden_batch, {"threshold": ETA}),
        (small.Golden, small.golden_batch, {"threshold": ETA, "weight_decay": 5e-4}),
        (
            lambda: small.wide_resnet().double(),
            lambda t: small.images(seed=t).double(),
            {"threshold": 2e-3, "lr": 1e-3, "margin": 1.603},
        ),
    ],
)
def test_equals_the_plain_form(net: Any, batch: Any, settings: dict[str, float]) -> None:
    ours = adapt.create("palm", net(), augment=small.flip, **settings)
    plain = PlainPalm(net(), small.flip, **settings)
    for t in range(5):
        torch.testing.assert_close(ours(batch(t)), plain(batch(t)), atol=1e-9, rtol=0)
        rates = dict(zip(ours.trained, ours.diagnostics["lr"].tolist(), strict=True))
        assert rates == pytest.approx(plain.rates, rel=1e-6)
        selected = ours.diagnostics["selected"]
        assert selected.any() and not selected.all()
    for name, value in plain.model.named_parameters():
        torch.testing.assert_close(values(ours)[name], value.detach(), atol=1e-9, rtol=0)


def test_equals_the_plain_form_with_groups_and_overwritten_outputs() -> None:
    """Convolutions whose gradients cannot be had apart: in groups, and before an in-place ReLU."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, groups=4),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 16, 3, 2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    ).double()
    adapter = adapt.create("palm", net, augment=small.flip, threshold=1e9)
    adapter(small.images().double())
    scores = sorted(adapter.diagnostics["score"].tolist())
    for low, high in itertools.pairwise(scores):  # every number of selected tensors
        settings = {"threshold": (low + high) / 2, "lr": 1e-3}
        ours = adapt.create("palm", net, augment=small.flip, **settings)
        plain = PlainPalm(net, small.flip, **settings)
        for t in range(3):
            x = small.images(seed=t).double()
            torch.testing.assert_close(ours(x), plain(x), atol=1e-9, rtol=0)
            chosen = [n for n, s in plain.scores.items() if s <= settings["threshold"]]
            selected = zip(ours.trained, ours.diagnostics["selected"].tolist(), strict=True)
            assert [n for n, is_selected in selected if is_selected] == chosen


def test_kl_directions() -> None:
    """Each is a KL divergence, but for the constant log C in the first."""
    z = torch.randn(4, 5, dtype=torch.float64)
    p, u = z.softmax(1), torch.full((4, 5), 0.2, dtype=torch.float64)
    forward = (u * (u / p).log()).sum(1).mean()
    backward = (p * (p / u).log()).sum(1).mean()
    torch.testing.assert_close(losses.from_uniform(z) - math.log(5), forward)
    torch.testing.assert_close(losses.from_uniform(z, "p||u"), backward)


@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_first_selection_has_the_rate_of_alpha(alpha: float) -> None:
    found = run(palm(alpha=alpha))
    rates = found["importance"][found["selected"]]
    expected = torch.full_like(rates, (1 - alpha) / alpha)
    torch.testing.assert_close(rates, expected, rtol=1e-2, atol=0)


def test_released_keeps_the_rate_of_a_tensor_that_is_not_selected_any_more() -> None:
    released, frozen = palm(), palm(freeze_unselected=True)
    one, other = run(released, 2), run(frozen, 2)
    conv1 = released.trained.index("conv1.weight")
    assert not one["selected"][conv1] and one["lr"][conv1] == pytest.approx(5e-4, rel=1e-3)
    assert not other["selected"][conv1] and other["lr"][conv1] == 0
    assert torch.equal(one["score"], other["score"])
    for name in ("conv2.weight", "fc.weight"):  # never selected
        assert torch.equal(values(released)[name], values(palm())[name])
    assert one["share_moving"] > one["share_selected"] == other["share_moving"]


def test_target_scale_changes_scores_but_not_the_selection() -> None:
    ones, mean = run(palm(), 2), run(palm(target_scale="1/C"), 2)
    torch.testing.assert_close(mean["score"] * 5, ones["score"], rtol=1e-4, atol=0)
    assert torch.equal(ones["selected"], mean["selected"])
    torch.testing.assert_close(mean["lr"], ones["lr"], rtol=1e-2, atol=0)  # 1e-8 beside E


def test_selection_by_layer_judges_the_sum() -> None:
    tensors = run(palm())
    score = dict(zip(palm().trained, tensors["score"].tolist(), strict=True))
    eta = score["bn2.bias"] * 1.01  # both tensors of bn2 pass alone, not together
    by_layer = palm(selection_granularity="layer", threshold=eta)
    chosen = dict(zip(by_layer.trained, run(by_layer)["selected"].tolist(), strict=True))
    alone = palm(threshold=eta)
    assert run(alone)["selected"].tolist()[alone.trained.index("bn2.bias")]
    assert not chosen["bn2.weight"] and not chosen["bn2.bias"]
    assert chosen["bn1.weight"] and chosen["bn1.bias"]


def test_rates_by_element_average_to_those_by_tensor() -> None:
    tensor, element = palm(lr=0.0), palm(lr=0.0, lr_granularity="element")
    torch.testing.assert_close(run(tensor, 3)["importance"], run(element, 3)["importance"])
    moving = palm(lr_granularity="element")
    before = values(moving)
    run(moving, 2)
    steps = (values(moving)["bn1.weight"] - before["bn1.weight"]).abs()
    assert len({round(s, 8) for s in steps.tolist()}) == 4


def test_margin_and_who_is_reliable() -> None:
    """0.4 nats leave image 1 of batch 0, 0.4 ln 5 = 0.6438 also 0, 2, 3, 5 and 7."""
    assert run(palm())["reliable"] == 1
    assert run(palm(margin=None))["reliable"] == 6
    entropy = losses.entropy(palm().predict(small.golden_batch(0)))[1].item()
    assert run(palm(margin=entropy))["reliable"] == 0
    assert run(palm(margin=entropy, margin_inclusive=True))["reliable"] == 1


def test_terms_of_the_loss() -> None:
    adapter = palm(lr=0.0)
    x = small.golden_batch(0)
    z, other = adapter.predict(x), adapter.predict(x.flip(-1))
    h = losses.entropy(z)
    agreement = losses.cross_entropy(z, other)

    def loss(**switch: Any) -> float:
        return run(palm(**switch))["loss"].item()

    six = h < 0.4 * math.log(5)
    assert loss() == pytest.approx((h[1] + 0.05 * agreement).item())
    assert loss(consistency_times_C=False) == pytest.approx((h[1] + 0.01 * agreement).item())
    assert loss(consistency=0.0) == pytest.approx(h[1].item())
    sums = loss(margin=None, entropy_mean="batch", consistency=0.0)
    assert sums == pytest.approx(h[six].sum().item() / 8)
    assert loss(margin=None, consistency=0.0) == pytest.approx(h[six].mean().item())
    both, one = palm(), palm(detach_target=True)  # which changes the gradient only
    assert run(both)["loss"] == pytest.approx(run(one)["loss"].item())
    assert not same(values(both), values(one))


def test_persistent_adam_is_pytorchs() -> None:
    """With every tensor selected and rates by tensor, torch's Adam makes the same steps."""
    settings = {"threshold": 1e9, "persistent_adam": True, "weight_decay": 5e-4}
    ours = palm(**settings)
    work = palm(**settings).model
    named = dict(work.named_parameters())
    groups = [{"params": [named[n].requires_grad_()]} for n in ours.trained]
    adam = torch.optim.Adam(groups, weight_decay=5e-4)
    for t in range(4):
        x = small.golden_batch(t)
        z = work(x)
        ours(x)
        for group, lr in zip(adam.param_groups, ours.diagnostics["lr"].tolist(), strict=True):
            group["lr"] = lr
        loss, _ = losses.reliable_entropy(z, 0.4)
        (loss + 0.05 * losses.cross_entropy(z, work(x.flip(-1)))).backward()
        adam.step()
        adam.zero_grad()
        for name, value in values(ours).items():
            torch.testing.assert_close(value, named[name].detach(), atol=1e-12, rtol=0)


def test_persistent_adam_leaves_the_moments_of_frozen_tensors() -> None:
    adapter = palm(persistent_adam=True, freeze_unselected=True)
    run(adapter, 1)
    conv1 = adapter.trained.index("conv1.weight")
    state = adapter.state_dict()["optimizer"]
    adapter(small.golden_batch(1))  # conv1.weight is not selected
    now = adapter.state_dict()["optimizer"]
    assert torch.equal(now["means"][conv1], state["means"][conv1])
    assert now["counts"][conv1] == 1 and now["counts"][adapter.trained.index("bn1.weight")] == 2


def test_reset_can_keep_the_sensitivities() -> None:
    forgetful, released = palm(), palm(reset_sensitivity=False)
    for adapter in (forgetful, released):
        run(adapter, 2)
        adapter.reset()
        assert same(values(adapter), values(palm()))
    assert not any(e.any() for e in forgetful.memory["sensitivity"])
    assert any(e.any() for e in released.memory["sensitivity"])
    run(released)


def test_pseudo_labels_select_by_their_likelihood() -> None:
    adapter = palm(importance="pseudo-label", threshold=2.0)
    z = adapter.predict(small.golden_batch(0))
    found = run(adapter)
    expected = -z.log_softmax(1).max(1).values.mean()
    assert found["loss_importance"].item() == pytest.approx(expected.item())
    assert found["selected"].any() and not torch.equal(found["score"], run(palm())["score"])


@pytest.mark.parametrize("optimizer", ["lars", "prodigy", "adafactor"])
def test_plain_optimisers_follow_the_loss_with_everything(optimizer: str) -> None:
    adapter = palm(optimizer=optimizer)
    before = values(adapter)
    found = run(adapter, 3)
    assert set(found) == {"loss", "reliable"}
    moved = {n for n, v in values(adapter).items() if not torch.equal(v, before[n])}
    assert moved == set(adapter.trained)
    state = adapter.state_dict()
    adapter(small.golden_batch(3))
    after = values(adapter)
    again = palm(optimizer=optimizer)
    again.load_state_dict(state)
    again(small.golden_batch(3))
    assert same(values(again), after)
    adapter.reset()
    assert same(values(adapter), before)


def test_without_a_reliable_image_it_is_the_run_without_entropy() -> None:
    one, other = palm(margin=0.0), palm(margin=0.0, entropy_mean="batch")
    assert run(one)["reliable"] == 0
    run(other)
    assert all(v.isfinite().all() for v in values(one).values())
    assert same(values(one), values(other))


def test_the_paper_is_its_switches_and_alpha_zero_explodes_without_breaking() -> None:
    written = adapt.create("palm", small.Golden(), variant="paper", preset="cifar100-c").config
    constants = {**VARIANTS["paper"], "threshold": 0.5}
    assert {name: getattr(written, name) for name in constants} == constants
    own = adapt.create("palm", small.Golden(), variant="paper", margin=0.3).config
    assert own.margin == 0.3 and own.freeze_unselected
    assert run(palm(variant="paper"), 3)["lr"].isfinite().all()
    adapter = palm(alpha=0.0)  # E stays 0, so the rate is S / 1e-8
    assert run(adapter)["importance"].max() > 1e3
    run(adapter, 5)
    assert all(v.isfinite().all() for v in values(adapter).values())


@pytest.mark.parametrize("selected", [True, False])
def test_the_second_view_is_made_where_it_is_used(selected: bool) -> None:
    calls: list[int] = []
    adapter = palm(consistency=0.0) if selected else palm(threshold=0.0)
    adapter.model.register_forward_hook(lambda *_: calls.append(1))
    run(adapter, 2)
    assert len(calls) == 2


def test_nothing_selected_means_nothing_moves() -> None:
    adapter = palm(threshold=0.0)
    before = values(adapter)
    found = run(adapter, 3)
    assert not found["selected"].any() and not found["lr"].any()
    assert same(values(adapter), before)
    assert found["share_moving"] == 0 and found["loss"].isfinite()


def test_gradients_of_the_second_pass_go_to_moving_tensors_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    grad = torch.autograd.grad

    def spy(loss: Tensor, at: list[Tensor], **how: Any) -> Any:
        asked.append(len(at))
        return grad(loss, at, **how)

    monkeypatch.setattr(torch.autograd, "grad", spy)
    run(palm())
    assert asked == [6, 5]  # conv2.weight is not selected


def test_one_constant_is_changed_at_a_time() -> None:
    used = palm_module.Palm.presets["cifar10-c"]
    tried = {"temperature": [50, 1, 1000], "alpha": [0], "lambda": [0.1], "eta x": [1, 10]}
    assert one_changed(used, tried) == {
        "temperature 1": {"temperature": 1},
        "temperature 1000": {"temperature": 1000},
        "alpha 0": {"alpha": 0},
        "lambda 0.1": {"consistency": 0.1},
        "eta x 10": {"threshold": 10.0},
    }
    assert constants_of(used) == {"temperature": 50, "alpha": 0.5, "lambda": 0.01, "eta x": 1}
