"""Parity of the methods that work on the last layer with recorded outputs of the released ones."""

from __future__ import annotations

from pathlib import Path

import modern_oracle
import pytest
import torch


@pytest.mark.oracles
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(
    "case",
    ["lame", "lame_knn", "lame_linear", "t3a", "t3a_ln", "neo", "neo_continual", "neo_bn"],
)
def test_answers_and_memory_of_the_released_code(
    case: str, oracles_root: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # recorded in full float32
    print(case, modern_oracle.read(oracles_root).check(case, device))
