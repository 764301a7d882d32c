"""Test-time training: parity with the released implementation, and what must hold for any model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tttlib import ttt
from tttlib.models import MaskedAutoencoder

SMALL = {
    "img_size": 16,
    "patch_size": 4,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "decoder_embed_dim": 8,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
    "num_classes": 3,
    "classifier_embed_dim": 8,
    "classifier_depth": 1,
    "classifier_num_heads": 2,
}
RUN = {"steps": 3, "batch_size": 4, "lr": 0.05}


def model(**overrides: object) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(**{**SMALL, **overrides}).double().eval()


def images(n: int = 5) -> Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()


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
def test_parity_with_the_released_implementation(
    oracles_root: Path, name: str, parallel: int | None
) -> None:
    net, config, arrays = oracle(oracles_root, name)
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
            got = net.state_dict()[key.removeprefix("final/")]
            torch.testing.assert_close(got, arrays[key], atol=1e-5, rtol=0)
