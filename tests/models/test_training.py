"""Training: what each phase moves and minimises, and that a killed run resumes to the same bits."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_mae import SIZES
from torch import Tensor

from tttlib import data
from tttlib.data import ImageSet
from tttlib.models import MaskedAutoencoder, RotationNet, training, zoo
from tttlib.models.training import Phase, Recipe, losses, phases

CPU = torch.device("cpu")
SMALL = {
    **{name: size for name, size in SIZES.items() if name not in ("img_size", "num_classes")},
    **{"patch_size": 8, "depth": 1, "classifier_embed_dim": 8, "classifier_num_heads": 2},
}
THREE = (  # 54, 4 and 4 steps of 16 of 64 images
    Phase("mae", 13.5, 1e-2, 16),
    Phase("joint", 1, 1e-2, 16, class_mask_ratio=0.75),
    Phase("probe", 1, 1e-2, 16),
)


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same arithmetic on every machine."""
    monkeypatch.setattr(phases, "bf16_helps", lambda device: False)


def scenes(split: str = "train") -> ImageSet:
    return data.load("scenes", split, n=64)


def recipe(*phases: Phase, **changes: Any) -> Recipe:
    toy = Recipe("toy", "scenes", "scenes", phases, True, 0.8, architecture=SMALL)
    return replace(toy, **changes)


def train(folder: Path, what: Recipe, **settings: Any) -> Path:
    sets = {"train_set": scenes(), "valid_set": scenes("valid")}
    return training.train(what, folder, **sets, device=CPU, progress=False, **settings)


def fresh(seed: int = 0) -> MaskedAutoencoder:
    """The model that a run starts from."""
    torch.manual_seed(seed)
    return MaskedAutoencoder(**{**zoo.PRESETS["scenes"], **SMALL})


def batch(n: int = 5) -> tuple[Tensor, Tensor]:
    some = scenes().subset(range(n))
    return some.images.float() / 255, some.labels


@pytest.fixture
def final(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The float32 weights of each run that ends (the file holds fp16)."""
    states: list[dict[str, Tensor]] = []
    save = zoo.save

    def spy(model: MaskedAutoencoder, *rest: Any) -> Path:
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        return save(model, *rest)

    monkeypatch.setattr(zoo, "save", spy)
    return states


def count_steps(monkeypatch: pytest.MonkeyPatch, kill_at: int | None = None) -> list[str]:
    """The loss of every step from now on; KeyboardInterrupt instead of step `kill_at`."""
    steps: list[str] = []
    loss = losses.phase_loss

    def counting(model: MaskedAutoencoder, phase: Phase, *rest: Any) -> Tensor:
        if len(steps) == kill_at:
            raise KeyboardInterrupt
        steps.append(phase.loss)
        return loss(model, phase, *rest)

    monkeypatch.setattr(losses, "phase_loss", counting)
    return steps


def interrupted(
    folder: Path, what: Recipe, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> list[str]:
    """Train up to step `kill_at` with a checkpoint whenever one may be written."""
    with monkeypatch.context() as patch:
        steps = count_steps(patch, kill_at)
        with pytest.raises(KeyboardInterrupt):
            train(folder, what, checkpoint_seconds=0)
    return steps


# -- a whole run -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bf16", [False, True])
def test_the_loss_falls(tmp_path: Path, bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "bf16_helps", lambda device: bf16)
    phase = Phase("joint", 15, 1e-2, 16, class_mask_ratio=0.75)
    card = zoo.read_card(train(tmp_path, recipe(phase, crop_scale=1.0, flip=False)))
    (means,) = card["losses"]
    assert len(means) == 2 and means[1] < means[0] - 0.02  # means of steps 1-50 and 51-60


def test_weights_and_card(tmp_path: Path) -> None:
    what = recipe(Phase("joint", 1, 1e-3, 16), Phase("probe", 0.5, 1e-3, 16), seed=3)
    path = train(tmp_path / "new", what)
    assert sorted(p.name for p in path.parent.iterdir()) == ["toy.json", "toy.safetensors"]
    net = zoo.load(path)
    card = net.card
    assert (card["name"], card["seed"], card["data"]) == ("toy", 3, "scenes")
    assert card["epochs"] == [1, 0.5] and card["data_fingerprint"] == scenes().fingerprint
    assert card["recipe"]["phases"][1]["loss"] == "probe" and card["recipe"]["crop_scale"] == 0.8
    assert card["architecture"]["patch_size"] == 8 and "git_sha" in card
    assert net.classes == scenes().classes
    assert (net.mean == 0.5).all() and (net.std == 0.25).all()
    valid = scenes("valid")
    assert card["clean_accuracy"] == pytest.approx(training.clean_accuracy(net, valid), abs=0.05)
    assert card["clean_accuracy_on"] == "scenes valid, 64 images"


def test_a_run_is_a_function_of_its_seed(tmp_path: Path) -> None:
    phase, runs = Phase("joint", 1, 1e-3, 16), {"a": 0, "b": 0, "c": 1}
    paths = [train(tmp_path / name, recipe(phase, seed=seed)) for name, seed in runs.items()]
    a, b, c = (path.read_bytes() for path in paths)
    assert a == b != c


def test_clean_accuracy() -> None:
    net, valid = fresh(), scenes("valid")
    with torch.no_grad():
        predictions = net.classify(valid.images.float() / 255).argmax(1)
    share = (predictions == valid.labels).double().mean().item()
    assert training.clean_accuracy(net, valid) == pytest.approx(share)
    assert training.clean_accuracy(net, replace(valid, labels=predictions)) == 1


# -- resuming --------------------------------------------------------------------------------------


def test_a_killed_run_resumes_to_the_same_bits(
    tmp_path: Path, final: list[dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the first checkpoint, then once in each phase, then left to end."""
    what, folder = recipe(*THREE), tmp_path / "killed"
    expected = train(tmp_path / "whole", what)
    start = 0
    for kill_at, kept in ((20, 0), (52, 50), (56, 54), (61, 58)):
        steps = interrupted(folder, what, monkeypatch, kill_at - start)
        assert len(steps) == kill_at - start
        assert [p.name for p in folder.iterdir()] == ["toy.checkpoint.pt"] * (kept > 0)
        start = kept
    steps = count_steps(monkeypatch)
    path = train(folder, what, checkpoint_seconds=0)
    assert steps == ["probe"] * 4
    uninterrupted, resumed = final
    assert uninterrupted.keys() == resumed.keys()
    for name, value in uninterrupted.items():
        assert torch.equal(value, resumed[name]), name
    assert path.read_bytes() == expected.read_bytes()
    assert zoo.read_card(path) == zoo.read_card(expected)
    assert not list(folder.glob("*checkpoint*"))


def test_checkpoints_are_written_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a phase only when the time has come, and always at its end."""
    written: list[int] = []
    save = torch.save

    def spy(state: dict[str, Any], path: Path) -> None:
        written.append(state["step"])
        save(state, path)

    monkeypatch.setattr(torch, "save", spy)
    train(tmp_path, recipe(Phase("mae", 13.5, 1e-3, 16)), checkpoint_seconds=1e6)
    assert written == [54]
    written.clear()
    train(tmp_path, recipe(Phase("mae", 13.5, 1e-3, 16)), checkpoint_seconds=0)
    assert sorted(set(written)) == [50, 54]


def test_the_checkpoint_of_other_settings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path, recipe(*THREE), monkeypatch, 52)
    checkpoint = tmp_path / "toy.checkpoint.pt"
    before = checkpoint.read_bytes()
    with pytest.raises(ValueError, match=f"{checkpoint} belongs to a run with other settings"):
        train(tmp_path, recipe(*THREE, seed=1))
    assert checkpoint.read_bytes() == before
    steps = count_steps(monkeypatch)
    train(tmp_path, recipe(*THREE), resume=False)
    assert len(steps) == 62


def damage_field(**fields: Any) -> Any:
    def change(path: Path) -> None:
        state = {**torch.load(path, weights_only=True), **fields}
        torch.save({k: v for k, v in state.items() if v is not ...}, path)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.write_text("not a checkpoint"),
        lambda path: torch.save([1, 2], path),
        damage_field(model=...),
        damage_field(recipe=...),
        damage_field(losses=[]),
        damage_field(phase=7),
        damage_field(step="many"),
        damage_field(optimizer={}),
        damage_field(model={"cls_token": torch.zeros(1)}),
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_said_and_redone(
    tmp_path: Path, damage: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    what = recipe(*THREE[1:])
    interrupted(tmp_path, what, monkeypatch, 6)
    damage(tmp_path / "toy.checkpoint.pt")
    caplog.clear()
    expected = train(tmp_path / "whole", what).read_bytes()
    assert train(tmp_path, what).read_bytes() == expected
    (said,) = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert "toy.checkpoint.pt cannot be used" in said and "\n" not in said


KILLED = """
import sys
from tttlib import data
from tttlib.__main__ import main
from tttlib.models import training

training.phases.bf16_helps = lambda device: False
small = {small!r}
phases = (training.Phase("joint", 12, 1e-2, 16, class_mask_ratio=0.75),) * 5
training.RECIPES["toy"] = training.Recipe(
    "toy", "scenes", "scenes", phases, False, 0.8, architecture=small
)
load = data.load
data.load = lambda name, split, root=None: load(name, split, root, n=64)
main(["train", "toy", "--out", sys.argv[1]])
"""


@pytest.mark.slow
def test_kill_9_and_resume(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED.format(small=SMALL))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

    def finish(folder: Path) -> str:
        command = [sys.executable, str(script), str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert f"weights: {folder / 'toy.safetensors'}" in done.stdout
        return done.stderr

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, str(script), str(killed)], env=environment)
    checkpoint, deadline = killed / "toy.checkpoint.pt", time.monotonic() + 120
    while not checkpoint.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL and checkpoint.is_file()
    assert not list(killed.glob("*.safetensors")) and not list(killed.glob("*.json"))
    assert "resuming toy: phase" in finish(killed)
    assert "resuming" not in finish(whole)
    for name in ("toy.safetensors", "toy.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(p.name for p in whole.iterdir()) == ["toy.json", "toy.safetensors"]


# -- what each phase moves -------------------------------------------------------------------------

HEADS = ("classifier", "head.", "bn.")


@pytest.mark.parametrize("head_type", ["vit_head", "linear"])
@pytest.mark.parametrize("loss", ["mae", "probe", "joint"])
def test_what_a_phase_moves(
    tmp_path: Path, loss: str, head_type: str, final: list[dict[str, Tensor]]
) -> None:
    architecture = {**SMALL, "head_type": head_type}
    what = recipe(Phase(loss, 1, 1e-2, 16), architecture=architecture)  # type: ignore[arg-type]
    train(tmp_path, what)
    torch.manual_seed(0)
    start = MaskedAutoencoder(**{**zoo.PRESETS["scenes"], **architecture}).state_dict()
    moved = {name for name, value in final[0].items() if not torch.equal(value, start[name])}
    free = {name for name in start if not name.endswith("pos_embed")}
    heads = {name for name in free if name.startswith(HEADS)}
    expected = {"mae": free - heads, "probe": heads, "joint": free}[loss]
    assert moved == expected


# -- losses ----------------------------------------------------------------------------------------


def smoothed_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-sum_c q_c log p_c with q = 0.9 on the label plus 0.1 spread over all classes."""
    log_p = logits.log_softmax(-1)
    q = torch.full_like(log_p, 0.1 / logits.shape[1])
    q[torch.arange(len(labels)), labels] += 0.9
    return -(q * log_p).sum(1).mean()


def phase_loss(net: MaskedAutoencoder, phase: Phase, seed: int = 1) -> Tensor:
    return losses.phase_loss(net, phase, *batch(), torch.Generator().manual_seed(seed))


def order(net: MaskedAutoencoder, seed: int = 1) -> Tensor:
    return net.random_order(5, torch.Generator().manual_seed(seed))


def count_encodings(net: MaskedAutoencoder) -> list[int]:
    """Number of tokens of each pass through the encoder."""
    passes: list[int] = []
    net.blocks[0].register_forward_pre_hook(lambda _, inputs: passes.append(inputs[0].shape[1]))
    return passes


def test_mae_loss() -> None:
    net, (x, _) = fresh(), batch()
    expected = net.reconstruction_loss(x, mask_ratio=0.5, order=order(net))
    got = phase_loss(net, Phase("mae", 1, 1, mask_ratio=0.5))
    torch.testing.assert_close(got, expected)


def test_probe_loss() -> None:
    net, (x, y) = fresh(), batch()
    loss = phase_loss(net, Phase("probe", 1, 1))
    torch.testing.assert_close(loss, smoothed_cross_entropy(net.classify(x), y))
    loss.backward()
    touched = {name for name, p in net.named_parameters() if p.grad is not None}
    assert touched and all(name.startswith("classifier") for name in touched)


def test_joint_loss_on_whole_images() -> None:
    net, (x, y) = fresh(), batch()
    expected = net.reconstruction_loss(x, order=order(net))
    expected = expected + smoothed_cross_entropy(net.classify(x), y)
    passes = count_encodings(net)
    torch.testing.assert_close(phase_loss(net, Phase("joint", 1, 1)), expected)
    assert passes == [1 + 4, 1 + 16]


@pytest.mark.parametrize(("ratio", "visible"), [(0.75, 4), (0.5, 8)])
def test_joint_loss_sharing_one_encoder_pass(ratio: float, visible: int) -> None:
    net, (x, y) = fresh(), batch()
    shown = order(net)[:, :visible]
    expected = net.reconstruction_loss(x, mask_ratio=ratio, order=order(net))
    logits = net.classify_tokens(net.tokens(x, shown), shown)
    expected = expected + smoothed_cross_entropy(logits, y)
    parameters = [p for p in net.parameters() if p.requires_grad]
    wanted = torch.autograd.grad(expected, parameters)
    passes = count_encodings(net)
    got = phase_loss(net, Phase("joint", 1, 1, mask_ratio=ratio, class_mask_ratio=ratio))
    assert passes == [1 + visible]
    torch.testing.assert_close(got, expected)
    for p, a, b in zip(parameters, torch.autograd.grad(got, parameters), wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, msg=str(p.shape))


def rotation_net() -> RotationNet:
    torch.manual_seed(0)
    return zoo.create("rot-10-1")


def test_rotation_loss() -> None:
    """Class and turn on the same batch, one turn for each image, all four of them drawn."""
    net, (x, y) = rotation_net(), batch(40)
    got = losses.phase_loss(net, Phase("rotation", 1, 1), x, y, torch.Generator().manual_seed(1))
    turns = torch.randint(4, (40,), generator=torch.Generator().manual_seed(1))
    assert set(turns.tolist()) == {0, 1, 2, 3}
    turned = torch.stack([torch.rot90(a, int(k), (1, 2)) for a, k in zip(x, turns, strict=True)])
    expected = torch.nn.functional.cross_entropy(net.classify(x), y)
    expected = expected + torch.nn.functional.cross_entropy(net.rotation_logits(turned), turns)
    torch.testing.assert_close(got, expected)


def test_rotation_recipe(tmp_path: Path, final: list[dict[str, Tensor]]) -> None:
    """Everything moves, and the file loads as what it is."""
    what = recipe(Phase("rotation", 1, 1e-2, 16), preset="rot-10-1", architecture={})
    path = train(tmp_path, replace(what, shift=2))
    start = rotation_net().state_dict()
    assert all(not value.equal(start[name]) for name, value in final[0].items())
    net = zoo.load(path)
    assert isinstance(net, RotationNet) and net.card["recipe"]["phases"][0]["loss"] == "rotation"


# -- schedule and augmentation ---------------------------------------------------------------------


def test_cosine_lr() -> None:
    rates = [training.cosine_lr(step, 100, 2.0, 10) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * i for i in range(1, 11)])
    assert rates[10] == pytest.approx(2.0)
    assert rates[55] == pytest.approx(1.0, abs=1e-5)  # half way down
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    expected = 1e-6 + (2 - 1e-6) * 0.5 * (1 + math.cos(math.pi * 89 / 90))
    assert rates[99] == pytest.approx(expected, rel=1e-9)
    assert training.cosine_lr(100, 100, 2.0, 10) == pytest.approx(1e-6)
    assert training.cosine_lr(0, 5, 1.0, 0) == pytest.approx(1.0)
    assert training.cosine_lr(4, 5, 1.0, 10) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("loss", "betas", "decay"),
    [("mae", (0.9, 0.95), 0.05), ("probe", (0.9, 0.999), 0.2), ("joint", (0.9, 0.95), 0.05)],
)
def test_optimiser_and_schedule(
    tmp_path: Path, loss: Any, betas: Any, decay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW, *rest: Any) -> Any:
        (group,) = self.param_groups
        assert (group["betas"], group["weight_decay"]) == (betas, decay)
        rates.append(group["lr"])
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    train(tmp_path, recipe(Phase(loss, 3, 1e-3, 16, warmup_epochs=0.5)))  # 12 steps, 2 of warm-up
    expected = [training.cosine_lr(i, 12, 1e-3, 2) for i in range(12)]
    assert rates == pytest.approx(expected) and rates[:3] == pytest.approx([5e-4, 1e-3, 1e-3])


def augmented(x: Tensor, crop_scale: float, flip: bool, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return training.augment(x, random, crop_scale=crop_scale, flip=flip)


def test_flips_mirror_some_images() -> None:
    x, _ = batch(40)
    got = augmented(x, 1.0, True)
    mirrored = [torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(got, x, strict=True)]
    kept = [torch.allclose(a, b, atol=1e-5) for a, b in zip(got, x, strict=True)]
    assert 5 < sum(mirrored) < 35 and sum(mirrored) + sum(kept) == 40
    torch.testing.assert_close(augmented(x, 1.0, False), x, atol=1e-5, rtol=0)  # nothing to do
    assert torch.equal(augmented(x, 0.5, True), augmented(x, 0.5, True))
    assert not torch.equal(augmented(x, 0.5, True), augmented(x, 0.5, True, seed=1))


def test_crops_are_square_inside_the_image_and_of_the_asked_sizes() -> None:
    """Images whose red is x and whose green is y, both in pixels: a crop shows where it was."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    images = torch.stack([x, y, x * 0]).expand(200, -1, -1, -1)
    got = augmented(images, 0.5, False)[:, :, 4:-4, 4:-4]  # away from the border
    width, height = got[:, 0].diff(dim=2), got[:, 1].diff(dim=1)  # source pixels per pixel
    side = width.mean((1, 2))
    for length in (width, height):
        torch.testing.assert_close(length, side[:, None, None].expand_as(length), atol=1e-3, rtol=0)
    assert side.min() >= 0.5 - 1e-4 and side.max() <= 1 + 1e-4
    assert side.min() < 0.55 and side.max() > 0.95
    for channel in (0, 1):
        centre = got[:, channel].mean((1, 2))
        assert (centre - 15.5).abs().max() > 4
        assert ((centre - 15.5).abs() <= 16 * (1 - side) + 1e-3).all()


def test_an_epoch_shows_every_image_once() -> None:
    def epoch(number: int, phase: int = 0) -> list[int]:
        steps = range(4 * number, 4 * number + 4)
        return torch.cat([phases.batch_index(s, 4, 64, 16, 0, phase) for s in steps]).tolist()

    assert sorted(epoch(0)) == sorted(epoch(1)) == [*range(64)]
    assert epoch(0) != epoch(1) and epoch(0) != epoch(0, phase=1)


# -- recipes and bad input -------------------------------------------------------------------------


@pytest.mark.parametrize("name", training.RECIPES)
def test_recipes_fit_together(name: str) -> None:
    what = training.RECIPES[name]
    assert what.name == name and what.preset in zoo.PRESETS and what.dataset in data.NAMES
    assert any(phase.loss != "mae" for phase in what.phases)  # else its head knows nothing


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "ttt"}, "must be one of mae, probe, joint, supervised, rotation; not 'ttt'"),
        ({"mask_ratio": 0.0}, "mask_ratio must lie strictly between 0 and 1 .*not 0.0"),
        ({"mask_ratio": 1.0}, "mask_ratio must lie strictly between 0 and 1 .*not 1.0"),
        ({"mask_ratio": float("nan")}, "mask_ratio must .*not nan"),
        ({"batch_size": 0}, "batch_size must be 1 or more, not 0"),
        ({"epochs": 0}, "epochs and lr must be positive, not 0 and"),
        ({"lr": -1e-3}, "epochs and lr must be positive, not 1 and -0.001"),
        ({"lr": float("nan")}, "epochs and lr must be positive, not 1 and nan"),
        ({"loss": "joint", "class_mask_ratio": 0.5}, r"must be 0 or mask_ratio \(0.75\), not 0.5"),
    ],
)
def test_phases_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Phase(**{"loss": "mae", "epochs": 1, "lr": 1e-3, **settings})


def test_unknown_recipe(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown recipe 'mae'; known are mae-scenes, "):
        training.train("mae", tmp_path)
    with pytest.raises(ValueError, match="unknown dataset 'imagenette'; known are scenes"):
        training.train(recipe(Phase("mae", 1, 1e-3), dataset="imagenette"), tmp_path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run(
    tmp_path: Path, bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint before it stays; no weights are written."""
    loss, calls = losses.phase_loss, []

    def breaking(*arguments: Any) -> Tensor:
        calls.append(1)
        return loss(*arguments) * (bad if len(calls) == 52 else 1)

    monkeypatch.setattr(losses, "phase_loss", breaking)
    message = f"toy: the loss became (nan|{bad}) in phase 0; lower the lr"
    with pytest.raises(ValueError, match=message):
        train(tmp_path, recipe(Phase("mae", 13.5, 1e-3, 16)), checkpoint_seconds=0)
    assert [p.name for p in tmp_path.iterdir()] == ["toy.checkpoint.pt"]
    state = torch.load(tmp_path / "toy.checkpoint.pt", weights_only=True)
    assert state["step"] == 50
    assert all(value.isfinite().all() for value in state["model"].values())


def test_an_interrupted_run_leaves_complete_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it happens while the result is written: the checkpoint then still has it all."""
    what = recipe(Phase("mae", 1, 1e-3, 16))
    with monkeypatch.context() as patch:
        patch.setattr(zoo, "save_file", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, what)
    assert [p.name for p in tmp_path.iterdir()] == ["toy.checkpoint.pt"]
    steps = count_steps(monkeypatch)
    path = train(tmp_path, what)
    assert steps == [] and load_file(path) and json.loads(path.with_suffix(".json").read_text())
