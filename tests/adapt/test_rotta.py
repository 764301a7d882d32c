"""RoTTA: the bank by hand, the robust layers by their formula, and when it updates."""

from __future__ import annotations

import math
from typing import Any

import pytest
import small_networks as small
import torch
from torch import Tensor, nn

from tttlib import adapt
from tttlib.adapt.common import category_bank
from tttlib.adapt.common.category_bank import Bank
from tttlib.adapt.common.mixed_batch_norm import Robust, use_mixed_statistics

# -- the bank --------------------------------------------------------------------------------------


class Filled:
    """A bank whose images tell when they came: 1, 2, ..."""

    def __init__(self, classes: int, capacity: int, **weights: float) -> None:
        self.bank: Bank = [[] for _ in range(classes)]
        self.how: dict[str, Any] = {"capacity": capacity, "lambda_t": 1.0, "lambda_u": 1.0}
        self.how |= weights
        self.count = 0

    def add(self, label: int, uncertainty: float) -> None:
        self.count += 1
        image = torch.full((3, 1, 1), float(self.count))
        category_bank.add(self.bank, image, label, uncertainty, **self.how)

    @property
    def held(self) -> list[list[int]]:
        return [[int(item["image"][0]) for item in of_class] for of_class in self.bank]

    @property
    def ages(self) -> list[list[int]]:
        return [[item["age"] for item in of_class] for of_class in self.bank]


def test_images_are_appended_while_there_is_room_and_all_age() -> None:
    filled = Filled(classes=2, capacity=4)
    for label in (1, 0, 1):
        filled.add(label, 0.1)
    assert filled.held == [[2], [1, 3]] and filled.ages == [[2], [3, 1]]
    order = [int(item["image"][0]) for item in category_bank.items(filled.bank)]
    assert order == [2, 1, 3]


def test_a_full_class_gives_up_its_worst_although_the_bank_has_room() -> None:
    filled = Filled(classes=2, capacity=4)
    filled.add(0, 0.1)
    filled.add(0, 0.6)
    filled.add(0, 0.2)  # of a list of N/C = 2: the second is younger, but less certain
    assert filled.held == [[1, 3], []] and filled.ages == [[3, 1], []]


def test_a_rare_class_takes_the_place_of_the_worst_of_all_longest_lists() -> None:
    """N/C = 1.67: two items make a class full, and five make the bank full."""
    filled = Filled(classes=3, capacity=5)
    for label, u in ((0, 0.3), (0, 0.1), (1, 0.2), (1, 0.9), (2, 1.0)):
        filled.add(label, u)
    assert filled.held == [[1, 2], [3, 4], [5]]
    filled.add(2, 0.1)  # not image 5, which has the highest score, but whose list is not longest
    assert filled.held == [[1, 2], [3], [5, 6]]


def test_an_image_that_is_no_better_is_not_stored_but_time_passes() -> None:
    filled = Filled(classes=2, capacity=2)
    filled.add(0, 0.1)
    filled.add(0, 0.6)
    assert filled.held == [[1], []] and filled.ages == [[2], []]
    filled.add(0, 0.1)  # as certain, and younger
    assert filled.held == [[3], []] and filled.ages == [[1], []]


def test_the_score_weighs_age_and_uncertainty() -> None:
    """Capacity 2: the score of age a and uncertainty u is 1 / (1 + exp(-a/2)) + u / ln 2."""
    aged = 1 / (1 + math.exp(-0.5))  # after one other image
    limit = (aged - 0.5) * math.log(2)  # what a new image may be less certain by
    for excess, expected in ((-1e-6, [[2], []]), (1e-6, [[1], []])):
        filled = Filled(classes=2, capacity=2)
        filled.add(0, 0.0)
        filled.add(0, limit + excess)
        assert filled.held == expected
    blind = Filled(classes=2, capacity=2, lambda_t=0.0)
    blind.add(0, 0.0)
    blind.add(0, 1e-6)
    assert blind.held == [[1], []]


def test_of_equal_scores_the_last_one_goes() -> None:
    filled = Filled(classes=3, capacity=5, lambda_t=0.0)  # age does not count
    for label in (0, 0, 1, 1, 2):
        filled.add(label, 0.5)
    filled.add(2, 0.4)
    assert filled.held == [[1, 2], [3], [5, 6]]
    equal = Filled(classes=1, capacity=2, lambda_t=0.0, lambda_u=0.0)
    equal.bank.append([])  # ln C of one class would divide by 0
    for _ in range(3):
        equal.add(0, 0.5)
    assert equal.held == [[1], []]  # none is above the new one's


def test_more_classes_than_places_and_what_is_not_finite() -> None:
    filled = Filled(classes=4, capacity=2)
    for label in (0, 1, 0, 2):
        filled.add(label, 0.1)
    assert sorted(map(len, filled.held)) == [0, 0, 1, 1] and filled.held[2] == [4]
    filled.add(3, math.nan)
    assert filled.held[3] == [] and max(map(max, filter(None, filled.ages))) >= 2


def test_images_are_copied() -> None:
    bank: Bank = [[], []]
    batch = torch.ones(2, 3, 1, 1)
    category_bank.add(bank, batch[0], 0, 0.1, capacity=2, lambda_t=1, lambda_u=1)
    batch.zero_()
    assert bank[0][0]["image"].sum() == 3 and bank[0][0]["image"]._base is None


# -- the layers ------------------------------------------------------------------------------------


def layer(kind: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    torch.manual_seed(3)
    made: Any = kind(4).double().eval()
    made.running_mean.normal_()
    made.running_var.uniform_(0.5, 2)
    nn.init.normal_(made.weight)
    nn.init.normal_(made.bias)
    return made


def test_robust_layers_by_their_formula_with_gradients() -> None:
    a, source = 0.2, layer()
    robust: Any = layer()
    use_mixed_statistics(robust, a, Robust)
    x = torch.randn(6, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(robust(x), source(x))  # eval mode
    mean = (1 - a) * source.running_mean + a * x.mean((0, 2, 3))
    var = (1 - a) * source.running_var + a * x.var((0, 2, 3), correction=0)

    def by_hand(mean: Tensor, var: Tensor) -> Tensor:
        centred = (x - mean.view(1, 4, 1, 1)) / (var.view(1, 4, 1, 1) + source.eps).sqrt()
        return centred * source.weight.view(1, 4, 1, 1) + source.bias.view(1, 4, 1, 1)

    expected = by_hand(mean, var)
    found = robust.train()(x)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    (g,) = torch.autograd.grad((found**3).sum(), x)
    (wanted,) = torch.autograd.grad((expected**3).sum(), x, retain_graph=True)
    torch.testing.assert_close(g, wanted, atol=1e-9, rtol=1e-9)
    (other,) = torch.autograd.grad((by_hand(mean.detach(), var.detach()) ** 3).sum(), x)
    assert (other - wanted).abs().max() > 1e-3  # gradients do go through the statistics
    torch.testing.assert_close(robust.running_mean, mean.detach())
    torch.testing.assert_close(robust.running_var, var.detach())
    assert robust.training and robust.num_batches_tracked == 0
    torch.testing.assert_close(robust.eval()(x), found)


def test_robust_layers_keep_what_else_a_layer_does() -> None:
    from timm.layers import BatchNormAct2d

    robust: Any = layer(BatchNormAct2d)
    plain: Any = layer()
    for each in (robust, plain):
        use_mixed_statistics(each, 0.3, Robust)
    x = torch.randn(5, 4, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(robust.train()(x), plain.train()(x).relu())
    assert repr(type(robust)).count("BatchNormAct2d")
    flat = nn.BatchNorm1d(4).eval()
    use_mixed_statistics(flat, 0.5, Robust)
    one = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    flat.train()
    assert flat(one).isfinite().all()
    assert flat.running_mean.tolist() == [0.5, 1.0, 1.5, 2.0]
    assert flat.running_var.tolist() == [0.5] * 4


# -- the method ------------------------------------------------------------------------------------


def made(net: nn.Module | None = None, **overrides: Any) -> adapt.Adapter:
    net = small.convolutional() if net is None else net
    how = {"lr": 0.01, "augment": small.flip, "capacity": 6, "update_every": 4, **overrides}
    return adapt.create("rotta", net, **how)


def test_updates_are_counted_over_batches_and_come_after_the_answers() -> None:
    adapter = made()
    source = small.convolutional()
    updates = []
    for seed, n in enumerate((3, 3, 1, 9, 4)):
        expected = adapter.predict(x := small.exact_images(n, seed))
        if not updates:
            torch.testing.assert_close(expected, source(x))  # running statistics
        assert torch.equal(adapter(x), expected)
        updates.append(int(adapter.diagnostics["updates"]))
        assert ("loss" in adapter.diagnostics) == bool(updates[-1])
    assert updates == [0, 1, 0, 3, 1]  # after images 4, 8, 12, 16 and 20


def test_one_update_by_hand() -> None:
    nu, a = 0.25, 0.1
    adapter = made(teacher_rate=nu, bn_momentum=a, optimizer="sgd", momentum=0.0, nesterov=False)
    x = small.exact_images(4)
    adapter(x)
    items = list(category_bank.items(adapter.memory["bank"]))
    bank = torch.stack([item["image"] for item in items])
    ages = torch.tensor([item["age"] for item in items], dtype=torch.float64) / 6
    student, teacher = small.convolutional(), small.convolutional()
    for net in (student, teacher):
        use_mixed_statistics(net, a, Robust)
        net.train()
    t, s = teacher(bank).detach(), student(bank.flip(-1))
    loss = (torch.sigmoid(-ages) * -(t.softmax(1) * s.log_softmax(1)).sum(1)).mean()
    assert adapter.diagnostics["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    grads = torch.autograd.grad(loss, [student.get_parameter(n) for n in adapter.trained])
    for name, g in zip(adapter.trained, grads, strict=True):
        before = student.get_parameter(name).detach()
        after = before - 0.01 * g
        got = adapter.model.get_parameter(name)
        torch.testing.assert_close(got.detach(), after, atol=1e-12, rtol=0)
        follower = adapter.networks["teacher"].get_parameter(name)
        expected = (1 - nu) * before + nu * after
        torch.testing.assert_close(follower.detach(), expected, atol=1e-12, rtol=0)
    for part, net in (("model", student), ("teacher", teacher)):
        for name, value in net.named_buffers():
            torch.testing.assert_close(adapter.networks[part].get_buffer(name), value)
    means = [n.get_buffer("bn1.running_mean") for n in adapter.networks.values()]
    assert not torch.equal(*means)  # the two networks keep their own


def test_the_bank_is_in_the_state() -> None:
    adapter = made()
    adapter(small.exact_images(5))
    state = adapter.state_dict()
    held = sum(map(len, state["memory"]["bank"]))
    assert held == adapter.diagnostics["bank"] > 0
    adapter.reset()
    assert adapter.memory == {"bank": [], "seen": 0}
    adapter.load_state_dict(state)
    assert sum(map(len, adapter.memory["bank"])) == held


def test_a_network_without_batch_norm_trains_its_other_norms() -> None:
    adapter = made(small.autoencoder())
    before = small.parameters(adapter)
    adapter(small.images())
    moved = {n for n, p in small.parameters(adapter).items() if not torch.equal(p, before[n])}
    assert moved and moved <= set(adapter.trained)
    with pytest.raises(ValueError, match="rotta trains"):
        made(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)))


def test_constants() -> None:
    presets = adapt.METHODS["rotta"].presets
    assert len({id(config) for config in presets.values()}) == 1
    config = presets["imagenet-c"]
    assert (config.capacity, config.update_every, config.teacher_rate) == (64, 64, 1e-3)
    assert (config.bn_momentum, config.lr, config.optimizer) == (0.05, 1e-3, "adam")
    for wrong in ({"capacity": 0}, {"update_every": 0}, {"bn_momentum": 2}, {"lambda_u": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            made(**wrong)
