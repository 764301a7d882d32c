"""ROID, CMF, RoTTA, MEMO and SHOT-IM answer as the released classes do."""

from __future__ import annotations

from pathlib import Path

import modern_oracle
import pytest
import torch


@pytest.mark.oracles
@pytest.mark.parametrize("case", ["roid", "roid_ln", "cmf", "rotta", "memo", "shot"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_answers_and_tensors_of_the_released_classes(
    case: str, device: str, oracles_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # recorded in full float32
    worst = modern_oracle.read(oracles_root).check(case, device)
    print(f"{case}: answers {worst.answers:.1e}, tensors {worst.tensors:.1e}")
