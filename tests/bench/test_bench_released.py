"""Released programs beside ours, with stand-ins of their files, classes and call surfaces."""

from __future__ import annotations

import ast
import logging
import math
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from tttlib import bench
from tttlib.bench import released, released_process
from tttlib.bench.released import Case
from tttlib.models import zoo

ARCHITECTURES = "classification/robustbench/model_zoo/architectures"
PALM = {
    "classification/conf.py": """
from types import SimpleNamespace as Node
cfg = Node(CORRUPTION=Node(), OPTIM=Node(METHOD="Adam", BETA=0.9), OURS=Node())
""",
    "classification/methods/ours.py": """
import torch
from tttlib.reference.palm import PlainPalm, plain_view

class OURS(torch.nn.Module):
    def __init__(self, cfg, model, num_classes):
        super().__init__()
        assert cfg.CORRUPTION.DATASET == "cifar10_c" and cfg.OPTIM.METHOD == "Adam"
        self.pointer = torch.tensor([0]).cuda()
        random = torch.Generator().manual_seed(7)
        self.transforms = lambda x: plain_view(x, random)
        how = dict(temperature=cfg.OURS.TEMP, threshold=cfg.OURS.THRESH, alpha=1 - cfg.OURS.BETA3)
        how |= dict(lr=cfg.OPTIM.LR, weight_decay=cfg.OPTIM.WD, consistency=cfg.OURS.LAMBDA)
        self.plain = PlainPalm(model, lambda x: self.transforms(x), **how)

    def forward(self, x):
        print("the program talks")
        assert not torch.is_grad_enabled()
        with torch.enable_grad():
            return self.plain(x[0])
""",
    f"{ARCHITECTURES}/wide_resnet.py": """
from tttlib.models import wide_resnet

class WideResNet(wide_resnet.WideResNet):
    def __init__(self, depth=28, num_classes=10, widen_factor=10):
        super().__init__(depth=depth, num_classes=num_classes, width=widen_factor)
""",
    f"{ARCHITECTURES}/utils_architectures.py": """
import torch

class Normalize(torch.nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, x):
        return (x - self.mean) / self.std

def normalize_model(model, mean, std):
    return torch.nn.Sequential(Normalize(mean, std), model)
""",
}
MAE = {
    "models_mae_shared.py": """
import torch
from tttlib.models import zoo
from tttlib.models.mae import MaskedAutoencoder

class MaskedAutoencoderViT(MaskedAutoencoder):
    def random_masking(self, x, mask_ratio):
        order = self.random_order(len(x))
        return x, None, order.argsort(1)

    def forward(self, imgs, target=None, mask_ratio=0.75, input_mask=None, reconstruct=True):
        if target is not None:
            return {}, None, None, self.classify(imgs)
        order = self.random_masking(imgs, mask_ratio)[2].argsort(1)
        loss = self.reconstruction_loss(imgs, mask_ratio=mask_ratio, order=order)
        return {"mae": loss}, None, None, None

def mae_vit_scenes_patch4(rotation_prediction=False, **kwargs):
    sizes = {**zoo.PRESETS["scenes"], **kwargs}
    return MaskedAutoencoderViT(**sizes)
""",
    "engine_test_time.py": """
import copy
import numpy as np
import torch
from torch.utils.data import DataLoader

def train_on_test(base_model, base_optimizer, base_scalar, dataset_train, dataset_val, device,
                  log_writer=None, args=None, num_classes=1000, iter_start=0):
    assert args.finetune_mode == "encoder" and args.optimizer_type == "sgd"
    train, val = (iter(DataLoader(d, num_workers=args.num_workers)) for d in (dataset_train,
                                                                              dataset_val))
    for i in range(iter_start, len(dataset_val)):
        model = copy.deepcopy(base_model).to(device)
        for name, p in model.named_parameters():
            p.requires_grad_(p.requires_grad and not name.startswith("decoder"))
        moving = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(moving, lr=args.lr, momentum=args.optimizer_momentum)
        images, labels = next(val)
        for _ in range(args.steps_per_example):
            losses = model(next(train)[0].to(device)[0], None, mask_ratio=args.mask_ratio)[0]
            optimizer.zero_grad()
            losses["mae"].backward()
            optimizer.step()
            with torch.no_grad():
                model(images.to(device)[0], labels.to(device), mask_ratio=0, reconstruct=False)
    np.save(f"{args.output_dir}/results_{i}.npy", np.zeros(1))
    save_accuracy_results(args)

def save_accuracy_results(args):
    raise AssertionError("not 50,000 images")
""",
}


def write(folder: Path, files: dict[str, str], change: tuple[str, str] = ("", "")) -> Path:
    """Write a stand-in with one passage changed."""
    text = "".join(files.values())
    assert change[0] in text
    for name, code in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code.replace(*change) if change[0] else code)
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of little work on every device."""
    for device in ("cpu", "cuda"):
        monkeypatch.setitem(released.CASES, ("palm", device), (Case("wrn-scenes", 4),))
        case = Case("scenes", 2, masks=3, steps=2)
        monkeypatch.setitem(released.CASES, ("ttt-mae", device), (case,))
    monkeypatch.setattr(released, "ROUNDS", 2)


@pytest.mark.parametrize(
    ("name", "files", "network", "most"),
    [("palm", PALM, "wrn-scenes", 1e-9), ("ttt_mae", MAE, "scenes", 1e-4)],
)
def test_both_do_the_same_work(
    tmp_path: Path,
    name: str,
    files: dict[str, str],
    network: str,
    most: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    checkout = write(tmp_path / "code", files)
    with caplog.at_level(logging.INFO):
        bench.main("released", tmp_path, **{name: checkout, "python": None})
    left = {p.name for p in checkout.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert left == {Path(file).name for file in files}
    assert f"{network}, " in caplog.text and "as fast as the released code" in caplog.text
    assert "NOT the same work" not in caplog.text
    (row,) = pd.read_csv(tmp_path / "tables" / f"bench_released_{name}.csv").to_dict("records")
    assert row["network"] == network and row["same work"] and 0 <= row["difference"] < most
    assert 0 < row["low"] <= row["ratio"] <= row["high"]
    assert min(row["released, s"], row["ours, s"]) > 0
    assert row["released"].startswith(f"Python {sys.version.split()[0]}, PyTorch 2")


def test_other_work_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkout = write(tmp_path, PALM, ("consistency=cfg.OURS.LAMBDA", "consistency=0.5"))
    with caplog.at_level(logging.INFO):
        bench.main("released", tmp_path, palm=checkout)
    assert "NOT the same work" in caplog.text
    table = pd.read_csv(tmp_path / "tables" / "bench_released_palm.csv")
    assert not table["same work"].any() and (table["difference"] > 1e-6).all()


@pytest.mark.parametrize(
    ("passage", "other", "message"),
    [
        (
            "import copy",
            "raise ImportError('no timm here')",
            r"failed to import .* \(Python 3.*PyTorch 2.*\): ImportError: no timm here\. --python",
        ),
        ('losses["mae"]', 'losses["rec"]', r"TTT-MAE failed in a round .*: KeyError: 'rec'"),
    ],
)
def test_a_program_that_fails(tmp_path: Path, passage: str, other: str, message: str) -> None:
    checkout = write(tmp_path, MAE, (passage, other))
    with pytest.raises(ValueError, match=message):
        bench.main("released", tmp_path, ttt_mae=checkout)
    assert not (tmp_path / "tables").exists()


def test_answers_of_another_shape() -> None:
    logits = torch.zeros(2, 3, 5)
    with pytest.raises(ValueError, match=r"answers with logits \[2, 5\] instead of \[2, 3, 5\]"):
        released._difference(logits, logits[:, 0])
    assert math.isnan(released._difference(logits, logits * math.nan))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a checkout of released code: --palm DIR or"):
        bench.main("released", tmp_path)
    with pytest.raises(ValueError, match="--python belong to bench released, not to ttt"):
        bench.main("ttt", tmp_path, palm=tmp_path)
    with pytest.raises(ValueError, match=r"classification has no conf.py, .*: --palm takes a che"):
        bench.main("released", tmp_path, palm=tmp_path)
    checkout = write(tmp_path, MAE)
    with pytest.raises(ValueError, match="--python nowhere/python is not a program"):
        bench.main("released", tmp_path, ttt_mae=checkout, python="nowhere/python")
    with pytest.raises(ValueError, match=r"at its start .*PyTorch not imported\): no message"):
        bench.main("released", tmp_path, ttt_mae=checkout, python="true")


def test_every_case_has_a_preset_that_the_released_code_has() -> None:
    names = {case.network for cases in released.CASES.values() for case in cases}
    assert names <= {*zoo.PRESETS, *zoo.bundled()}


def test_the_driver_is_for_older_pythons() -> None:
    code = released_process.DRIVER.read_text(encoding="utf-8")
    ast.parse(code, feature_version=(3, 8))
    assert "import tttlib" not in code and "from tttlib" not in code
