"""Test-time training by rotation, held against the obvious loop."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib import ttt
from tttlib.models import MaskedAutoencoder, RotationNet
from tttlib.ttt import rotation

RUN = {"steps": 3, "batch_size": 6, "lr": 0.05, "shift": 2}


def model(**sizes: int) -> RotationNet:
    torch.manual_seed(0)
    net = RotationNet(**{"num_classes": 3, "norm_groups": 4, **sizes}).double().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.GroupNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    return net


def images(n: int = 4) -> Tensor:
    return torch.rand(n, 3, 12, 12, generator=torch.Generator().manual_seed(1)).double()


def run(net: RotationNet, x: Tensor, **settings: object) -> ttt.TTTResult:
    return rotation.run(net, x, **{**RUN, **settings})  # type: ignore[arg-type]


def state(net: RotationNet) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def obvious(
    net: RotationNet,
    x: Tensor,
    *,
    online: bool = False,
    flip: bool = True,
    border: str = "black",
    finetune: str = "all",
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """One image, one view, one PyTorch optimiser at a time; ends with `net` adapted if online."""
    steps, batch, lr, shift = RUN["steps"], RUN["batch_size"], RUN["lr"], RUN["shift"]
    work, losses, logits = net if online else copy.deepcopy(net), [], []
    for i, image in enumerate(x):
        if not online:
            work = copy.deepcopy(net)
        trunk = [m for k in range(1, net.split + 1) for m in [work.get_submodule(f"block{k}")]]
        moving = [p for m in [work.conv1, *trunk] for p in m.parameters()]
        if net.split == 3:
            moving += list(work.norm.parameters())
        if finetune == "all":
            moving += [p for name, p in work.named_parameters() if name.startswith("rotation")]
        sgd = torch.optim.SGD(moving, lr=lr)
        views = rotation.draw_views(steps, batch, shift, flip, seed, i)
        logits.append([work.classify(image[None])[0].detach()])
        losses.append([])
        for s in range(steps):
            copies = []
            for j in range(batch):
                top, left = int(views.top[s, j]), int(views.left[s, j])
                mode = {"black": "constant", "mirror": "reflect"}[border]
                view = F.pad(image[None], (shift,) * 4, mode=mode)[0]
                view = view[:, top : top + 12, left : left + 12]
                if views.mirror[s, j]:
                    view = view.flip(2)
                copies.append(torch.rot90(view, int(views.turns[s, j]), (1, 2)))
            loss = F.cross_entropy(work.rotation_logits(torch.stack(copies)), views.turns[s])
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            losses[-1].append(loss.detach())
            logits[-1].append(work.classify(image[None])[0].detach())
    stacked = [torch.stack([torch.stack(one) for one in all_]) for all_ in (losses, logits)]
    return stacked[0].float(), stacked[1].float()


@pytest.mark.parametrize("split", [1, 2, 3])
@pytest.mark.parametrize("parallel", [1, 3, 4])
@pytest.mark.parametrize("finetune", rotation.FINETUNE)
def test_standard_is_the_obvious_loop(split: int, parallel: int, finetune: str) -> None:
    net, x = model(split=split, depth=16 if split == 2 else 10), images()
    losses, logits = obvious(net, x, finetune=finetune)
    before = state(net)
    result = run(net, x, parallel=parallel, finetune=finetune)
    torch.testing.assert_close(result.losses, losses, atol=1e-5, rtol=0)
    torch.testing.assert_close(result.logits, logits, atol=1e-5, rtol=0)
    assert not result.failed.any() and result.evaluated_at == (0, 1, 2, 3)
    assert same(state(net), before)
    assert (result.logits[:, 0] - result.logits[:, 3]).abs().max() > 0.01  # it moved


@pytest.mark.parametrize("border", list(rotation.BORDERS))
@pytest.mark.parametrize("flip", [False, True])
def test_online_is_the_obvious_loop_without_reset(border: str, flip: bool) -> None:
    net, other, x = model(stem_stride=2), model(stem_stride=2), images()
    losses, logits = obvious(net, x, online=True, border=border, flip=flip)
    result = run(other, x, online=True, border=border, flip=flip)
    torch.testing.assert_close(result.losses, losses, atol=1e-5, rtol=0)
    torch.testing.assert_close(result.logits, logits, atol=1e-5, rtol=0)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, atol=1e-9, rtol=0)


def test_online_evaluates_on_held_out_images() -> None:
    net, x, heldout = model(), images(), images(7)[4:]
    result = run(net, x, online=True, heldout=heldout, evaluate_every=2)
    assert result.heldout_at == [0, 2, 4] and result.heldout_logits is not None
    after_two, at_end = model(), net.classify(heldout).detach().float()
    first = run(after_two, x[:2], online=True)
    torch.testing.assert_close(first.losses, result.losses[:2])
    for at, expected in enumerate((model(), after_two)):
        found = expected.classify(heldout).detach().float()
        torch.testing.assert_close(result.heldout_logits[at], found, atol=1e-6, rtol=0)
    torch.testing.assert_close(result.heldout_logits[2], at_end)
    assert not torch.allclose(result.heldout_logits[0], at_end, atol=1e-3)


def test_only_the_declared_parameters_move() -> None:
    for finetune in rotation.FINETUNE:
        net = model()
        before = state(net)
        run(net, images(1), online=True, finetune=finetune)
        moved = {name for name, value in net.state_dict().items() if not value.equal(before[name])}
        assert moved == set(rotation.trained_parameters(net, finetune))
        assert not any(name.startswith(("fc", "norm", "block3")) for name in moved)
        assert any(name.startswith("rotation") for name in moved) == (finetune == "all")


def test_the_defaults_are_the_released_ones() -> None:
    net, x = model(), images(2)
    result = rotation.run(net, x)
    assert result.losses.shape == (2, 10) and result.logits.shape == (2, 11, 3)
    wanted = {"steps": 10, "batch_size": 32, "lr": 1e-3, "shift": 4, "flip": True}
    again = rotation.run(net, x, border="black", finetune="all", threshold=None, **wanted)
    assert torch.equal(again.losses, result.losses)


@pytest.mark.parametrize("mode", [{"parallel": 2}, {"online": True, "heldout": images(2)}])
def test_all_number_formats_of_images_give_the_same(mode: dict[str, object]) -> None:
    grey = (images() * 255).round()
    expected = run(model(), grey / 255, **mode)
    result = run(model(), grey.byte(), **mode)
    torch.testing.assert_close(result.losses, expected.losses, atol=1e-6, rtol=0)
    torch.testing.assert_close(result.logits, expected.logits, atol=1e-6, rtol=0)
    assert run(model().float(), grey / 255, **mode).logits.isfinite().all()


def test_views() -> None:
    views = rotation.draw_views(200, 8, 4, True, 0, 3)
    for offsets in (views.top, views.left):
        assert set(offsets.unique().tolist()) == set(range(9))
    assert set(views.turns.unique().tolist()) == {0, 1, 2, 3}
    assert 0.4 < views.mirror.double().mean() < 0.6
    assert not rotation.draw_views(200, 8, 4, False, 0, 3).mirror.any()
    for other in (
        rotation.draw_views(200, 8, 4, True, 1, 3),
        rotation.draw_views(200, 8, 4, True, 0, 4),
    ):
        assert not torch.equal(other.turns, views.turns)


def test_views_depend_on_id_and_seed_alone() -> None:
    net, x = model(), images()
    ids = torch.tensor([7, 1, 30, 2])
    expected = run(net, x, ids=ids)
    some = run(net, x[[2, 0]], ids=ids[[2, 0]], parallel=2)
    torch.testing.assert_close(some.losses, expected.losses[[2, 0]], atol=1e-6, rtol=0)
    assert not torch.isclose(run(net, x, ids=ids, seed=1).losses, expected.losses).any()


def test_predictions_only_where_asked_for() -> None:
    net, x = model(), images()
    everywhere, some = run(net, x), run(net, x, evaluate_at=(3, 0), parallel=4)
    assert some.evaluated_at == (0, 3)
    torch.testing.assert_close(some.logits, everywhere.logits[:, [0, 3]], atol=1e-5, rtol=0)


def test_a_zero_learning_rate_changes_nothing() -> None:
    net, x = model(), images()
    result = run(net, x, lr=0, online=True)
    expected = net.classify(x).detach().float()[:, None].expand(-1, 4, -1)
    torch.testing.assert_close(result.logits, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", [{"parallel": 4}, {"online": True}])
def test_threshold(mode: dict[str, object]) -> None:
    """Images that look upright are left alone; with the rule at 1 all are adapted to."""
    net, x = model(), images()
    confidence = net.rotation_logits(x).detach().softmax(1)[:, 0]
    threshold = float(confidence.sort().values[1:3].mean())
    skipped = confidence >= threshold
    assert skipped.sum() == 2
    everything = run(model(), x, **mode)
    assert torch.equal(run(model(), x, threshold=1.0, **mode).losses, everything.losses)
    if mode == {"online": True}:
        return  # the weights move on, so do the confidences
    result = run(model(), x, threshold=threshold, **mode)
    assert torch.equal(result.losses.isnan().all(1), skipped) and not result.failed.any()
    torch.testing.assert_close(result.losses[~skipped], everything.losses[~skipped])
    source = result.logits[skipped, :1]
    torch.testing.assert_close(result.logits[skipped], source.expand(-1, 4, -1))


@pytest.mark.parametrize("mode", [{"parallel": 4}, {"online": True}])
def test_a_broken_image_is_flagged_and_the_others_are_unaffected(mode: dict[str, object]) -> None:
    x = images()
    x[1, 0, 3, 3] = float("nan")
    result = run(model(), x, **mode)
    assert result.failed.tolist() == [False, True, False, False]
    assert result.losses[1].isnan().all() and result.losses[[0, 2, 3]].isfinite().all()
    rest, ids = [0, 2, 3], torch.tensor([0, 2, 3])
    alone = run(model(), x[rest], ids=ids, **mode)
    torch.testing.assert_close(result.logits[rest], alone.logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", [{"parallel": 4}, {"online": True}])
@pytest.mark.parametrize("at", [None, (0,)])
def test_an_exploding_learning_rate_is_flagged(
    mode: dict[str, object], at: tuple[int, ...] | None
) -> None:
    net, x = model(), images()
    source = net.classify(x).detach().float()
    before = state(net)
    result = run(net, x, lr=1e300, evaluate_at=at, **mode)
    assert result.failed.all() and result.logits.isfinite().all()
    torch.testing.assert_close(result.logits[:, -1], source, atol=1e-6, rtol=0)
    assert same(state(net), before)  # also online: its own updates are void


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps and batch_size must be 1 or more, not 0 and 6"),
        ({"batch_size": 0}, "steps and batch_size must be 1 or more, not 3 and 0"),
        ({"lr": -1.0}, "lr must be 0 or more, not -1.0"),
        ({"shift": 12}, "shift must be 0 … 11 pixels, not 12"),
        ({"border": "white"}, "unknown border 'white'; known are black, mirror"),
        ({"threshold": 0.0}, r"threshold must be a probability in \(0,1\] or None, not 0.0"),
        ({"parallel": 0}, "parallel must be 1 or more, or None, not 0"),
        ({"finetune": "encoder"}, "unknown finetune 'encoder'; known are all, shared"),
        ({"evaluate_at": (9,)}, "evaluate_at must be"),
        ({"heldout": images(1)}, "heldout needs online=True"),
        ({"ids": torch.arange(3)}, "4 images but 3 ids"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(model(), images(), **settings)


def test_bad_images_and_networks() -> None:
    with pytest.raises(ValueError, match="images must be uint8"):
        run(model(), torch.zeros(1, 3, 12, 12, dtype=torch.int32))
    with pytest.raises(ValueError, match="too coarse"):
        run(model().half(), images().half())
    with pytest.raises(ValueError, match=r"rotated images must be square, not \[12, 10\]"):
        run(model(), images()[..., :10])
    with pytest.raises(ValueError, match="needs a RotationNet, not MaskedAutoencoder"):
        with torch.device("meta"):
            net = MaskedAutoencoder.__new__(MaskedAutoencoder)
        run(net, images())  # type: ignore[arg-type]
