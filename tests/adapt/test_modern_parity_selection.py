"""ETA, EATA, RDumb, SAR, DeYO and COME answer as the released classes do."""

from __future__ import annotations

from pathlib import Path

import modern_oracle
import pytest
import torch

CASES = ["eata", "eta", "eata_ln", "rdumb", "sar", "sar_ln", "deyo", "deyo_occ"]
CASES += ["come_tent", "come_eata", "come_sar"]


@pytest.mark.oracles
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_answers_and_tensors_of_the_released_classes(
    case: str, device: str, oracles_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # recorded in full float32
    modern_oracle.read(oracles_root).check(case, device)


@pytest.mark.oracles
def test_eta_is_eata_without_source_images(oracles_root: Path) -> None:
    oracle = modern_oracle.read(oracles_root)
    given = oracle.overrides("eta")
    constants = {k: v for k, v in given.items() if k not in ("fisher_weight", "source")}
    eta = modern_oracle.adapt.create("eta", oracle.network("bn"), **constants)
    answers = torch.cat([eta(x) for x in oracle.batches("eta")])
    torch.testing.assert_close(answers, oracle.arrays["eta/logits"], atol=1e-4, rtol=0)
