from __future__ import annotations

import pytest
import torch

from tttlib.runtime import devices

CPU = torch.device("cpu")


def test_the_environment_decides_about_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_bf16_is_faster", lambda device: pytest.fail("measured"))
    for setting, helps in (("1", True), ("0", False)):
        monkeypatch.setenv("TTTLIB_BF16", setting)
        assert devices.bf16_helps(CPU) is helps
    monkeypatch.setenv("TTTLIB_BF16", "yes")
    with pytest.raises(ValueError, match="TTTLIB_BF16 must be 0 or 1"):
        devices.bf16_helps(CPU)


@pytest.mark.parametrize("seconds", [0.5, 0.9])
def test_else_it_is_measured(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {torch.float32: 1.0, torch.bfloat16: seconds}
    monkeypatch.delenv("TTTLIB_BF16", raising=False)
    monkeypatch.setattr(devices, "_seconds", lambda dtype, rows, device: times[dtype])
    devices._bf16_is_faster.cache_clear()
    assert devices.bf16_helps(CPU) is (seconds < 0.7)
    devices._bf16_is_faster.cache_clear()
