"""Test-time training: parity with the released implementation, and what must hold for any model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_mae import tiny_images as images
from tiny_mae import tiny_mae as model
from torch import Tensor

from tttlib import ttt
from tttlib.models import MaskedAutoencoder, zoo
from tttlib.reference import ttt as plain_ttt
from tttlib.ttt import loop
from tttlib.ttt.settings import Settings
from tttlib.ttt.sgd import Rule

RUN = {"steps": 3, "batch_size": 4, "lr": 0.05}


def run(net: MaskedAutoencoder, x: Tensor, **settings: object) -> ttt.TTTResult:
    return ttt.run(net, x, **{**RUN, **settings})


def plain(net: MaskedAutoencoder, x: Tensor, **settings: object) -> ttt.TTTResult:
    """The same by the plain loop, with the masks that `ttt.run` draws."""
    how = {**RUN, "optimizer": "sgd", "momentum": 0.9, "finetune": "encoder", **settings}
    orders = torch.stack(
        [ttt.mask_orders(net, how["steps"], how["batch_size"], 0, i) for i in range(len(x))]
    )
    losses, logits = plain_ttt.run(
        net,
        x,
        orders,
        ttt.trained_parameters(net, how["finetune"]),
        Rule(how["optimizer"], how["lr"], how["momentum"]),
        how.get("mask_ratio", 0.75),
    )
    return ttt.TTTResult(losses, logits, torch.zeros(len(x), dtype=torch.bool))


def state(net: MaskedAutoencoder) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def assert_equal(a: ttt.TTTResult, b: ttt.TTTResult, atol: float) -> None:
    torch.testing.assert_close(a.losses, b.losses, atol=atol, rtol=0, equal_nan=True)
    torch.testing.assert_close(a.logits, b.logits, atol=atol, rtol=0, equal_nan=True)
    assert torch.equal(a.failed, b.failed)


def rows(result: ttt.TTTResult, index: list[int]) -> ttt.TTTResult:
    return ttt.TTTResult(result.losses[index], result.logits[index], result.failed[index])


def oracle(folder: Path, name: str) -> tuple[MaskedAutoencoder, dict, dict[str, Tensor]]:
    file = np.load(folder / f"ttt_mae_{name}_vit_head.npz")
    config = json.loads(str(file["config"]))
    arrays = {key: torch.from_numpy(file[key]) for key in file.files if key != "config"}
    sizes = {k: v for k, v in config["model"].items() if k != "norm_layer"}
    net = MaskedAutoencoder(**sizes)
    net.load_state_dict(
        {k.removeprefix("init/"): v for k, v in arrays.items() if k.startswith("init/")}
    )
    return net.eval(), config, arrays


@pytest.mark.oracles
@pytest.mark.parametrize("name", ["sgd", "online"])
@pytest.mark.parametrize("parallel", [1, None])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_parity_with_the_released_implementation(
    oracles_root: Path, name: str, parallel: int | None, device: str
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    net, config, arrays = oracle(oracles_root, name)
    net.to(device)
    result = ttt.run(
        net,
        arrays["images"],
        steps=config["steps"],
        batch_size=config["batch_size"],
        lr=config["lr"],
        optimizer=config["optimizer"],
        mask_ratio=config["mask_ratio"],
        finetune=config["finetune_mode"],
        online=config["online"],
        orders=arrays["mask_order"],
        parallel=parallel,
    )
    torch.testing.assert_close(result.losses, arrays["losses"].float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.logits, arrays["logits"].float(), atol=1e-4, rtol=0)
    assert not result.failed.any()
    if config["online"]:
        for key in [k for k in arrays if k.startswith("final/")]:
            got = net.state_dict()[key.removeprefix("final/")].cpu()
            torch.testing.assert_close(got, arrays[key], atol=1e-5, rtol=0)


# -- standard mode ---------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", [1, 3, None])
@pytest.mark.parametrize("finetune", ttt.FINETUNE)
def test_standard_mode_leaves_the_model_bit_identical(parallel: int | None, finetune: str) -> None:
    net = model()
    net.blocks[0].requires_grad_(False)  # whatever the caller has set
    before = state(net)
    wanted = {name: p.requires_grad for name, p in net.named_parameters()}
    result = run(net, images(), finetune=finetune, parallel=parallel)
    assert same(state(net), before)
    assert {name: p.requires_grad for name, p in net.named_parameters()} == wanted
    assert all(p.grad is None for p in net.parameters())
    assert result.losses.shape == (5, 3) and result.logits.shape == (5, 4, 3)
    assert result.latents is None and result.heldout_logits is None
    assert not result.logits.requires_grad and not result.losses.requires_grad


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("online", [False, True])
def test_the_head_is_always_in_evaluation_mode(parallel: int, online: bool) -> None:
    """Batch norm of the linear head: no batch statistics, no new running averages."""
    net = model(head_type="linear")
    source = state(net)
    expected = run(net, images(), parallel=parallel, online=online)
    net.load_state_dict(source)
    net.train()
    result = run(net, images(), parallel=parallel, online=online)
    assert_equal(result, expected, atol=0)
    assert torch.equal(net.state_dict()["bn.running_mean"], source["bn.running_mean"])
    assert net.training


def test_what_the_numbers_mean() -> None:
    """losses[s] before update s+1; logits[0] of the unadapted model; the mean over masks."""
    net, x = model(), images()
    orders = torch.rand(5, 3, 4, 16, generator=torch.manual_seed(3)).argsort(-1)
    result = run(net, x, orders=orders)
    with torch.no_grad():
        torch.testing.assert_close(result.logits[:, 0], net.classify(x).float(), atol=1e-6, rtol=0)
        for i in range(5):
            copies = x[i : i + 1].expand(4, -1, -1, -1)
            loss = net.reconstruction_loss(copies, order=orders[i, 0])
            assert result.losses[i, 0].item() == pytest.approx(loss.item(), abs=1e-10)


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.05), ("adamw", 0.01), ("adam", 0.01)])
def test_steps_by_hand(optimizer: str, lr: float) -> None:
    """SGD momentum 0.9 without decay; Adam betas (0.9,0.95), with decoupled decay 0.01 or none."""
    net, x = model(), images(1)
    orders = torch.rand(1, 3, 4, 16, generator=torch.manual_seed(3)).argsort(-1)
    result = run(net, x, optimizer=optimizer, lr=lr, orders=orders)
    names = ttt.trained_parameters(net, "encoder")
    parameters = [dict(net.named_parameters())[name] for name in names]
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    for step in range(3):
        loss = net.reconstruction_loss(x.expand(4, -1, -1, -1), order=orders[0, step])
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, m, v, g in zip(parameters, first, second, gradients, strict=True):
                if optimizer == "sgd":
                    m.mul_(0.9).add_(g)
                    p.sub_(lr * m)
                    continue
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.95).add_(0.05 * g**2)
                p.mul_(1 - lr * 0.01 * (optimizer == "adamw"))
                t = step + 1
                p.sub_(lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-8))
            logits = net.classify(x).float()
        torch.testing.assert_close(result.logits[:, step + 1], logits, atol=2e-6, rtol=0)
    assert (result.logits[:, 1:] - result.logits[:, :1]).abs().max() > 1e-3  # it did adapt


@pytest.mark.parametrize("optimizer", ttt.OPTIMIZERS)
@pytest.mark.parametrize("finetune", ttt.FINETUNE)
def test_stack_equals_loop(optimizer: str, finetune: str) -> None:
    net, x = model(), images()
    loop = plain(net, x, optimizer=optimizer, finetune=finetune)
    latents = []
    for parallel in (1, 2, 5, "auto"):  # 2: the last chunk is partial
        settings = {"optimizer": optimizer, "finetune": finetune, "record_latents": True}
        stack = run(net, x, parallel=parallel, **settings)
        assert_equal(stack, loop, atol=1e-10)
        assert stack.latents is not None
        latents.append(stack.latents)
        torch.testing.assert_close(latents[-1], latents[0], atol=1e-10, rtol=0)
    torch.testing.assert_close(latents[0][:, 0], net.encode(x).float(), atol=1e-6, rtol=0)
    assert not stack.failed.any()


@pytest.mark.parametrize("overrides", [{"head_type": "linear"}, {"norm_pix_loss": False}])
def test_stack_equals_loop_for_other_networks(overrides: dict[str, object]) -> None:
    net, x = model(**overrides), images()
    net.mean.fill_(0.4)
    net.std.fill_(0.2)
    settings = {"mask_ratio": 0.5, "momentum": 0.5, "batch_size": 1}
    assert_equal(run(net, x, parallel=3, **settings), plain(net, x, **settings), 1e-10)


def test_stack_equals_loop_in_float32() -> None:
    net, x = model().float(), images().float()
    assert_equal(run(net, x, parallel=5), plain(net, x), atol=1e-4)


@pytest.mark.parametrize("optimizer", ttt.OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [1, 8])
def test_the_number_of_images_at_once_changes_no_bit(optimizer: str, batch_size: int) -> None:
    """On the CPU in float32, for networks and masks of the study (tiny products may sum in another
    order when they get other numbers of rows: within 1e-5 then)."""
    net = zoo.load("mae-scenes")
    x = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    settings = {"optimizer": optimizer, "batch_size": batch_size, "lr": 1e-3, "steps": 2}
    expected = run(net, x, parallel=5, **settings)
    for parallel in (1, 2, "auto"):  # 2: the last stack is smaller
        assert_equal(run(net, x, parallel=parallel, **settings), expected, atol=0)


@pytest.mark.parametrize("mode", [{"parallel": 2}, {"online": True}])
@pytest.mark.parametrize("at", [(0, 2), (3,), (1, 0)])
def test_predictions_only_where_asked_for(mode: dict[str, object], at: tuple[int, ...]) -> None:
    x = images()
    everywhere = run(model(), x, record_latents=True, **mode)
    result = run(model(), x, record_latents=True, evaluate_at=at, **mode)
    assert everywhere.evaluated_at == (0, 1, 2, 3) and result.evaluated_at == tuple(sorted(at))
    where = list(result.evaluated_at)
    assert result.logits.shape == (5, len(at), 3)
    torch.testing.assert_close(result.logits, everywhere.logits[:, where], atol=1e-6, rtol=0)
    assert result.latents is not None and everywhere.latents is not None
    torch.testing.assert_close(result.latents, everywhere.latents[:, where], atol=1e-6, rtol=0)
    assert torch.equal(result.losses, everywhere.losses)
    labels = torch.arange(5) % 3
    torch.testing.assert_close(result.accuracy(labels), everywhere.accuracy(labels)[where])


@pytest.mark.parametrize("mode", [{"parallel": 3}, {"online": True}])
def test_bfloat16_is_near_and_leaves_float32_weights(mode: dict[str, object]) -> None:
    net, x = model().float(), images().float()
    full, half = run(net, x, **mode), run(model().float(), x, autocast="bfloat16", **mode)
    assert half.logits.dtype == half.losses.dtype == torch.float32
    difference = (half.losses - full.losses).abs().max()
    assert 0 < difference < 0.05
    assert all(p.dtype == torch.float32 for p in net.parameters())


@pytest.mark.parametrize("optimizer", ttt.OPTIMIZERS)
def test_masks_in_groups_are_the_same_step(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = model(), images()
    expected = plain(net, x, optimizer=optimizer)
    for mode in ({"parallel": 2}, {"parallel": 5}):
        monkeypatch.setattr(loop, "masks_at_once", lambda *_: 3)  # groups of 3 and 1
        assert_equal(run(net, x, optimizer=optimizer, **mode), expected, atol=1e-10)


class _Torch:
    """PyTorch's own optimiser with its own arguments, in the place of a `Rule`."""

    def __init__(self, kind: type[torch.optim.Optimizer], **arguments: object) -> None:
        self.kind, self.arguments = kind, arguments

    def make(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        return self.kind(parameters, **self.arguments)


@pytest.mark.parametrize("groups", [False, True], ids=["", "masks in groups"])
@pytest.mark.parametrize(
    ("optimizer", "weight_decay", "same_as"),
    [
        ("adamw", None, _Torch(torch.optim.AdamW, lr=0.05, betas=(0.9, 0.95), weight_decay=0.01)),
        ("adamw", 0.3, _Torch(torch.optim.AdamW, lr=0.05, betas=(0.9, 0.95), weight_decay=0.3)),
        ("adamw", 0, _Torch(torch.optim.Adam, lr=0.05, betas=(0.9, 0.95))),
        ("adam", 0.3, _Torch(torch.optim.Adam, lr=0.05, betas=(0.9, 0.95), weight_decay=0.3)),
        ("adam", None, _Torch(torch.optim.Adam, lr=0.05, betas=(0.9, 0.95))),
        ("sgd", 0.3, _Torch(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.3)),
        ("sgd", None, _Torch(torch.optim.SGD, lr=0.05, momentum=0.9)),
    ],
)
def test_weight_decay_is_pytorchs(
    optimizer: str,
    weight_decay: float | None,
    same_as: _Torch,
    groups: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, x = model(), images(3)
    orders = torch.stack([ttt.mask_orders(net, 3, 4, 0, i) for i in range(3)])
    names = ttt.trained_parameters(net, "encoder")
    losses, logits = plain_ttt.run(net, x, orders, names, same_as)  # type: ignore[arg-type]
    if groups:
        monkeypatch.setattr(loop, "masks_at_once", lambda *_: 3)
    result = run(net, x, optimizer=optimizer, weight_decay=weight_decay)
    torch.testing.assert_close(result.losses, losses, atol=1e-9, rtol=0)
    torch.testing.assert_close(result.logits, logits, atol=1e-5, rtol=0)
    if weight_decay:  # and it matters
        without = run(net, x, optimizer=optimizer, weight_decay=0)
        assert not torch.allclose(without.losses[:, -1], result.losses[:, -1], atol=1e-6)


# -- how many images at once -----------------------------------------------------------------------


def test_out_of_memory_halves_the_stack_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    net, x, made = model(), images(), []
    make = loop.StackedAutoencoder

    def small(model: MaskedAutoencoder, names: tuple[str, ...], replicas: int) -> object:
        made.append(replicas)
        if replicas > 1:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return make(model, names, replicas)

    expected = run(net, x, parallel=1)
    monkeypatch.setattr(loop, "StackedAutoencoder", small)
    assert_equal(run(net, x, parallel=4), expected, atol=0)
    assert made == [4, 2, 1]
    assert [r.message for r in caplog.records] == [
        "out of memory with 4 images at once; going on with 2"
    ]


def test_other_errors_and_no_memory_for_one_image_are_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for text in ("some bug", "CUDA out of memory"):

        def fail(*_: object, text: str = text) -> object:
            raise RuntimeError(text)

        monkeypatch.setattr(loop, "StackedAutoencoder", fail)
        with pytest.raises(RuntimeError, match=text):
            run(model(), images(), parallel=1 if "memory" in text else 4)


@pytest.mark.parametrize("parallel", [1, 2, "auto"])
def test_results_depend_on_image_id_and_seed_alone(parallel: int | str) -> None:
    net, x = model(), images()
    ids = torch.tensor([7, 1, 30, 2, 9])
    expected = run(net, x, ids=ids, parallel=1)
    index = [3, 0, 2]
    got = run(net, x[index], ids=ids[index], parallel=parallel)
    assert_equal(got, rows(expected, index), atol=1e-10)
    other = run(net, x, ids=ids + 1)
    assert not torch.isclose(other.losses, expected.losses).any()
    assert not torch.isclose(run(net, x, ids=ids, seed=1).losses, expected.losses).any()
    assert_equal(run(net, x), run(net, x, ids=torch.arange(5)), atol=0)


@pytest.mark.parametrize("optimizer", ttt.OPTIMIZERS)
@pytest.mark.parametrize("online", [False, True])
def test_a_zero_learning_rate_changes_nothing(optimizer: str, online: bool) -> None:
    net, x = model(), images()
    before = state(net)
    result = run(net, x, lr=0.0, optimizer=optimizer, online=online)
    assert torch.equal(result.logits, result.logits[:, :1].expand_as(result.logits))
    assert same(state(net), before)


def test_latents_start_at_the_unadapted_model() -> None:
    net, x = model(), images()
    result = run(net, x, record_latents=True)
    assert result.latents is not None and result.latents.shape == (5, 4, 16)
    torch.testing.assert_close(result.latents[:, 0], net.encode(x).float(), atol=1e-6, rtol=0)
    assert (result.latents[:, 1:] != result.latents[:, :1]).any()


def test_accuracy_per_step() -> None:
    logits = torch.eye(3)[torch.tensor([[0, 1], [2, 2]])]  # predictions of 2 images, 2 steps
    result = ttt.TTTResult(torch.zeros(2, 1), logits, torch.zeros(2, dtype=torch.bool))
    assert result.accuracy(torch.tensor([1, 2])).tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("batch_size", "lr"),
    [(128, 5e-3), (64, 2.5e-3), (32, 1.25e-3), (8, 3.125e-4), (1, 3.90625e-5)],
)
def test_the_released_learning_rates(batch_size: int, lr: float) -> None:
    assert ttt.scaled_lr(1e-2, batch_size) == pytest.approx(lr, rel=1e-12)


# -- what moves ------------------------------------------------------------------------------------


def test_released_count_of_moving_parameters() -> None:
    with torch.device("meta"):
        net = zoo.create("large")
    parameters = dict(net.named_parameters())
    moving = sum(parameters[name].numel() for name in ttt.trained_parameters(net, "encoder"))
    assert moving == 303_099_904 + 512


@pytest.mark.parametrize("head_type", ["vit_head", "linear"])
@pytest.mark.parametrize(
    ("finetune", "prefixes"),
    [
        ("encoder", ("patch_embed", "blocks", "norm", "cls_token", "mask_token")),
        ("encoder_no_cls_no_msk", ("patch_embed", "blocks", "norm")),
        ("all", ("patch_embed", "blocks", "norm", "cls_token", "mask_token", "decoder")),
    ],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_only_the_declared_parameters_move(
    head_type: str, finetune: str, prefixes: tuple[str, ...], optimizer: str
) -> None:
    net = model(head_type=head_type)
    before = state(net)
    run(net, images(2), online=True, finetune=finetune, optimizer=optimizer)
    moved = {name for name, value in net.state_dict().items() if not value.equal(before[name])}
    declared = {
        name for name in before if name.startswith(prefixes) and not name.endswith("pos_embed")
    }
    assert moved == declared == set(ttt.trained_parameters(net, finetune))


# -- online mode -----------------------------------------------------------------------------------


def test_online_goes_on_from_image_to_image() -> None:
    net, x, other = model(), images(), model()
    result = run(net, x, online=True)
    torch.testing.assert_close(result.logits[0], run(other, x[:1]).logits[0], atol=1e-6, rtol=0)
    assert not torch.allclose(result.logits[1:, 0], other.classify(x[1:]).float(), atol=1e-4)
    torch.testing.assert_close(
        result.logits[-1, -1], net.classify(x[-1:])[0].float(), atol=1e-6, rtol=0
    )
    assert result.losses.shape == (5, 3) and result.logits.shape == (5, 4, 3)
    assert all(p.grad is None for p in net.parameters())
    fixed = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert fixed == {"pos_embed", "decoder_pos_embed", "classifier_pos_embed"}


@pytest.mark.parametrize("reset_optimizer", [False, True])
def test_momentum_crosses_images_unless_reset(reset_optimizer: bool) -> None:
    """Two calls start with a fresh optimiser each; one call with both images need not."""
    once, twice, x = model(), model(), images(2)
    whole = run(once, x, online=True, reset_optimizer=reset_optimizer)
    first = run(twice, x[:1], online=True)
    second = run(twice, x[1:], online=True, ids=torch.tensor([1]))
    torch.testing.assert_close(whole.logits[:1], first.logits, atol=1e-10, rtol=0)
    equal = torch.allclose(whole.logits[1:], second.logits, atol=1e-6, rtol=0)
    assert equal == reset_optimizer == same(state(once), state(twice))


def test_online_evaluates_on_held_out_images() -> None:
    net, x, heldout = model(), images(), torch.rand(7, 3, 16, 16).double()
    source = net.classify(heldout).float()
    result = run(net, x, online=True, heldout=heldout, evaluate_every=2)
    assert result.heldout_at == [0, 2, 4, 5] and result.heldout_logits is not None
    assert result.heldout_logits.shape == (4, 7, 3) and not result.heldout_logits.requires_grad
    torch.testing.assert_close(result.heldout_logits[0], source, atol=1e-6, rtol=0)
    final = net.classify(heldout).float()
    torch.testing.assert_close(result.heldout_logits[-1], final, atol=1e-6, rtol=0)
    assert not torch.allclose(final, source, atol=1e-4)
    unwatched = model()
    assert_equal(run(unwatched, x, online=True), result, atol=0)  # looking changes nothing
    assert same(state(unwatched), state(net))


def test_held_out_after_two_images_is_the_model_after_two_images() -> None:
    net, x, heldout = model(), images(), images(3)
    result = run(net, x, online=True, heldout=heldout, evaluate_every=2)
    shorter = model()
    run(shorter, x[:2], online=True)
    assert result.heldout_logits is not None
    expected = shorter.classify(heldout).float()
    torch.testing.assert_close(result.heldout_logits[1], expected, atol=1e-6, rtol=0)


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("parallel", [1, 2, 5])
def test_a_broken_image_is_flagged_and_the_others_are_unaffected(
    parallel: int, value: float
) -> None:
    net, x = model(), images()
    expected = run(net, x, parallel=1)
    x[2, 1, 3, 3] = value
    result = run(net, x, parallel=parallel)
    assert result.failed.tolist() == [False, False, True, False, False]
    good = [0, 1, 3, 4]
    assert_equal(rows(result, good), rows(expected, good), atol=1e-10)
    assert result.losses[2].isnan().all()


def test_a_broken_image_makes_no_online_update() -> None:
    net, without, x = model(), model(), images()
    x[2] = float("nan")
    result = run(net, x, online=True)
    good = [0, 1, 3, 4]
    expected = run(without, x[good], online=True, ids=torch.tensor(good))
    assert result.failed.tolist() == [False, False, True, False, False]
    assert_equal(rows(result, good), expected, atol=0)
    assert same(state(net), state(without))


@pytest.mark.parametrize("optimizer", ttt.OPTIMIZERS)
@pytest.mark.parametrize("mode", [{"parallel": 1}, {"parallel": 3}, {"online": True}])
def test_an_exploding_learning_rate_is_flagged(optimizer: str, mode: dict[str, object]) -> None:
    """Predictions fall back to those of the unadapted model: they stay finite, in every mode."""
    net, x = model().float(), images().float()
    source = net.classify(x).detach()
    result = run(net, x, lr=1e12, optimizer=optimizer, **mode)
    assert result.failed.all() and result.logits.isfinite().all()
    torch.testing.assert_close(result.logits[:, -1], source, atol=1e-5, rtol=0)
    assert all(p.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("at", [None, (2, 3)])
def test_a_failed_image_keeps_the_predictions_of_before(at: tuple[int, ...] | None) -> None:
    net, x = model().float(), images().float()
    source = net.classify(x).detach()
    settings = {"lr": 1e6, "optimizer": "adam", "record_latents": True, "evaluate_at": at}
    results = [run(net, x, parallel=parallel, **settings) for parallel in (1, 5)]
    assert results[0].failed.any()
    for result in results:
        assert torch.equal(result.failed, results[0].failed)
        assert torch.equal(result.losses.isnan(), results[0].losses.isnan())
        assert result.latents is not None and result.latents.isfinite().all()
        for column, k in enumerate(result.evaluated_at):
            lost = result.losses[:, k - 1].isnan() if k else torch.zeros(5, dtype=torch.bool)
            torch.testing.assert_close(result.logits[lost, column], source[lost], atol=1e-5, rtol=0)


def test_a_failure_voids_all_that_follows() -> None:
    """Also when later values happen to be finite again."""
    losses = torch.tensor([[1.0, float("nan"), 3.0], [1.0, 2.0, 3.0]])
    logits, latents = torch.randn(2, 4, 3), torch.randn(2, 4, 5)
    settings = Settings(steps=3, batch_size=4, lr=0.1, record_latents=True)
    part = loop._void_failures(losses, logits, latents, settings, lambda: pytest.fail("unneeded"))
    assert part[2].tolist() == [True, False]
    assert part[0].isnan().tolist() == [[False, True, True], [False] * 3]
    for after, before in ((part[1], logits), (part[3], latents)):
        assert torch.equal(after[0], before[0, [0, 1, 0, 0]]) and torch.equal(after[1], before[1])


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 2.5}, "steps and batch_size must be 1 or more, not 2.5 and 4"),
        ({"steps": 0}, "steps and batch_size must be 1 or more, not 0 and 4"),
        ({"batch_size": 0}, "steps and batch_size must be 1 or more, not 3 and 0"),
        ({"lr": -0.1}, "lr must be 0 or more, not -0.1"),
        ({"lr": float("nan")}, "lr must be 0 or more, not nan"),
        ({"weight_decay": -0.1}, "weight_decay must be 0 or more, or None, not -0.1"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion'; known are sgd, adamw, adam"),
        ({"finetune": "decoder"}, "unknown finetune 'decoder'; known are encoder, all"),
        ({"parallel": 0}, "parallel must be 1 or more, or 'auto', not 0"),
        ({"parallel": "all"}, "parallel must be 1 or more, or 'auto', not 'all'"),
        ({"autocast": "float16"}, "autocast must be None or 'bfloat16', not 'float16'"),
        ({"evaluate_at": ()}, r"different whole numbers from 0 to steps \(3\), not \(\)"),
        ({"evaluate_at": [4]}, r"evaluate_at must be .*not \[4\]"),
        ({"evaluate_at": [1, 1]}, r"evaluate_at must be .*not \[1, 1\]"),
        ({"mask_ratio": 0}, "mask_ratio .*got 0"),
        ({"mask_ratio": 1.0}, "mask_ratio .*got 1.0"),
        ({"mask_ratio": 0.99}, "mask_ratio .*got 0.99"),
        ({"ids": torch.arange(4)}, "5 images but 4 ids"),
        ({"heldout": torch.zeros(1, 3, 16, 16)}, "heldout needs online=True"),
        (
            {"heldout": torch.zeros(1, 3, 16, 16), "online": True, "evaluate_every": 0},
            "evaluate_every of 1 or more",
        ),
        ({"orders": torch.zeros(5, 3, 4, 15)}, r"orders must be \[5, 3, 4, 16\], got"),
        ({"orders": torch.zeros(5, 2, 4, 16)}, r"got \[5, 2, 4, 16\]"),
    ],
)
@pytest.mark.parametrize("online", [False, True])
def test_bad_settings(settings: dict[str, object], message: str, online: bool) -> None:
    net = model()
    before = state(net)
    with pytest.raises(ValueError, match=message):
        run(net, images(), **{"online": online and "heldout" not in settings, **settings})
    assert same(state(net), before)


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        (torch.zeros(2, 3, 16, 16, dtype=torch.int64), "torch.int64"),
        (torch.zeros(3, 16, 16), "[3, 16, 16]"),
        (torch.zeros(2, 16, 16, 3), "channels first"),
        (torch.zeros(2, 4, 16, 16), "alpha"),
        (np.zeros((2, 3, 16, 16)), "NumPy array"),
        ([torch.zeros(3, 16, 16)], "torch.stack"),
        (torch.zeros(0, 3, 16, 16), "[0, 3, 16, 16]"),
        (torch.zeros(2, 3, 20, 20, dtype=torch.float64), "3, 20, 20]; resize"),
    ],
)
@pytest.mark.parametrize("mode", [{"parallel": 1}, {"parallel": 2}, {"online": True}])
def test_bad_images(bad: Tensor, shown: str, mode: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=re.escape(shown)):
        run(model(), bad, **mode)


@pytest.mark.parametrize("mode", [{"parallel": 2}, {"online": True, "heldout": images(2)}])
def test_all_number_formats_of_images_give_the_same(mode: dict[str, object]) -> None:
    grey = (images() * 255).round()
    expected = run(model(), grey / 255, **mode)
    assert_equal(run(model(), grey.byte(), **mode), expected, atol=1e-10)
    single = run(model(dtype=torch.float32), (grey / 255).float(), **mode)
    assert_equal(run(model(dtype=torch.float32), grey / 255, **mode), single, atol=0)
    assert_equal(run(model(), (grey / 255).float(), **mode), expected, atol=1e-5)


def test_a_network_that_normalises_takes_pixels_alone() -> None:
    net = model()
    run(net, 4 * images() - 2)  # it has no mean and deviation: images on its own scale
    net.mean.fill_(0.5)
    for wrong in (4 * images() - 2, 255 * images()):
        with pytest.raises(ValueError, match=r"images of floating point must lie in \[0,1\]"):
            run(net, wrong)
        with pytest.raises(ValueError, match="heldout of floating point"):
            run(net, images(), online=True, heldout=wrong)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"{dtype} is too coarse.*model.float"):
        run(model(dtype=dtype), images().to(dtype))


def test_numpy_numbers_are_taken() -> None:
    orders = torch.rand(5, 3, 4, 16, generator=torch.manual_seed(3)).argsort(-1)
    expected = run(model(), images(), orders=orders, evaluate_at=(1, 3), ids=torch.arange(5))
    result = run(
        *(model(), images()),
        orders=orders.numpy(),
        ids=np.arange(5),
        evaluate_at=np.array([1, 3]),
        steps=np.int64(3),
        batch_size=np.int32(4),
    )
    assert_equal(result, expected, atol=0)
    labels = np.array([0, 1, 2, 0, 1])
    assert torch.equal(result.accuracy(labels), expected.accuracy(torch.from_numpy(labels)))


@pytest.mark.parametrize("labels", [[0, 1, 3], [-1, 0, 1], [1, 2, 3]])
def test_labels_that_are_no_outputs(labels: list[int]) -> None:
    result = run(model(), images(3))
    with pytest.raises(ValueError, match="labels must be 0 … 2"):
        result.accuracy(torch.tensor(labels))


def test_trained_parameters_of_an_unknown_mode() -> None:
    with pytest.raises(ValueError, match="unknown finetune 'none'"):
        ttt.trained_parameters(model(), "none")


def test_a_classifier_cannot_be_trained_so() -> None:
    with pytest.raises(ValueError, match="needs a MaskedAutoencoder, not WideResNet"):
        ttt.run(zoo.create("wrn-10-1"), torch.rand(1, 3, 32, 32), steps=1, batch_size=1, lr=0.1)
