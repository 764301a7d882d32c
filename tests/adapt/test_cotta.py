"""CoTTA: its equations in a plain loop, views with their own statistics, restoration."""

from __future__ import annotations

import copy

import pytest
import torch
from small_networks import Different, batch_statistics, convolutional, flip
from small_networks import exact_images as images
from small_networks import tiny_autoencoder as autoencoder
from torch import Tensor, nn

from tttlib import adapt


def plain_cotta(
    model: nn.Module, batches: list[Tensor], augment: Different, settings: dict[str, float]
) -> tuple[list[Tensor], nn.Module, nn.Module]:
    """Equations 1 to 6 and the moving average, one network call after the other."""
    student, teacher = batch_statistics(model), batch_statistics(model)
    anchor = batch_statistics(model)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    answers = []
    for x in batches:
        z = student(x)
        with torch.no_grad():
            if anchor(x).softmax(1).max(1).values.mean() < settings["confidence"]:
                each = [teacher(augment(x)) for _ in range(int(settings["n_augmentations"]))]
                target = torch.stack(each).mean(0)
            else:
                target = teacher(x)
        loss = -(target.softmax(1) * z.log_softmax(1)).sum(1).mean()
        if settings.get("symmetric"):
            loss = 0.5 * loss - 0.5 * (z.softmax(1) * target.log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        m = settings["teacher_momentum"]
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.copy_(m * slow + (1 - m) * fast)
        answers.append(target)
    return answers, student, teacher


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("confidence", [0.605, 2.0, 0.0])  # some batches, all, none
@pytest.mark.parametrize("views_at_once", [None, 2, 5])
def test_equals_the_loop(confidence: float, symmetric: bool, views_at_once: int | None) -> None:
    settings = {"confidence": confidence, "symmetric": symmetric, "n_augmentations": 5}
    settings["teacher_momentum"] = 0.9
    model, batches = convolutional(), [images(6, seed) for seed in range(4)]
    answers, student, teacher = plain_cotta(model, batches, Different(), settings)
    how = {"restore": 0, "augment": Different(), "views_at_once": views_at_once, **settings}
    adapter = adapt.create("cotta", model, **how)
    for x, theirs in zip(batches, answers, strict=True):  # Adam turns noise into steps
        torch.testing.assert_close(adapter(x), theirs, rtol=0, atol=1e-7)
    for ours, theirs in ((adapter.model, student), (adapter.networks["teacher"], teacher)):
        named = dict(theirs.named_parameters())
        for name, parameter in ours.named_parameters():
            if name != "conv2.bias":  # before BatchNorm: its gradient is noise
                torch.testing.assert_close(parameter.data, named[name].data, rtol=0, atol=1e-6)


def test_a_transformer_sees_its_views_apart_or_together() -> None:
    x, answers = images(3), []
    for at_once in (1, 2, 5):
        how = {"confidence": 2, "n_augmentations": 5, "views_at_once": at_once}
        adapter = adapt.create("cotta", autoencoder(), augment=Different(), **how)
        adapter(x)
        answers.append(adapter(x))
    torch.testing.assert_close(answers[1], answers[0])
    torch.testing.assert_close(answers[2], answers[0])


def test_restoration_takes_the_share_it_is_told() -> None:
    model = convolutional()
    source = copy.deepcopy(model.state_dict())
    whole = adapt.create("cotta", model, restore=1.0, lr=0.1, augment=flip)
    whole(images(6))
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, source[name])
    none = adapt.create("cotta", model, restore=0.0, lr=0.1, augment=flip)
    some = adapt.create("cotta", model, restore=0.3, lr=0.1, augment=flip)
    none(images(6))
    some(images(6))
    moved = dict(none.model.named_parameters())
    back = total = 0
    for name, parameter in some.model.named_parameters():
        restored = parameter == source[name]
        assert torch.equal(parameter[~restored], moved[name][~restored])
        back, total = back + int(restored.sum()), total + restored.numel()
    assert 0.2 < back / total < 0.4
    assert not torch.equal(some.networks["teacher"].fc.weight, source["fc.weight"])


def test_the_teacher_sees_the_student_before_restoration() -> None:
    adapter = adapt.create("cotta", convolutional(), restore=1.0, teacher_momentum=0.0, lr=0.1)
    adapter(images(6))
    teacher = dict(adapter.networks["teacher"].named_parameters())
    assert not torch.equal(teacher["fc.weight"], adapter.model.fc.weight)


def test_predict_is_the_next_answer() -> None:
    adapter = adapt.create("cotta", convolutional(), n_augmentations=3)
    for seed in range(3):
        x = images(5, seed)
        assert torch.equal(adapter.predict(x), adapter(x))
