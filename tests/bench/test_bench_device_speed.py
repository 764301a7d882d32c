"""The benchmark of one accelerator, at a size for a CPU."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from tttlib import bench
from tttlib.bench import device_parts, device_speed

SMALL = device_speed.TINY._replace(
    networks=(("wrn-10-1", 32, 4),), sides=((32, 4),), products=(64,), rounds=1, steps=1, stack=1
)


@pytest.fixture
def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_parts, "METHODS", ("tent", "palm"))
    monkeypatch.setattr(device_parts.corruptions, "NAMES", ("fog", "glass_blur"))
    monkeypatch.setattr(device_parts.corruptions, "EXTRA_NAMES", ())
    monkeypatch.setattr(device_parts.roofline, "copy_bandwidth", lambda device: 1e9)
    monkeypatch.setattr(device_parts.roofline, "matrix_peak", lambda device, dtype: 1e12)
    monkeypatch.setattr(device_parts.roofline, "flop", lambda work: float)
    monkeypatch.setattr(device_parts.ttt_speed, "bf16_helps", lambda device: False)
    monkeypatch.setattr(device_parts, "time_one_image", lambda arrays, name: 0.5)


def test_all_parts(fewer: None, tmp_path: Path) -> None:
    before = torch.get_float32_matmul_precision()
    tables = device_speed.bench_device(tmp_path, size=SMALL)
    assert torch.get_float32_matmul_precision() == before
    assert list(tables) == list(device_speed.PARTS)
    assert all(table["device"].notna().all() for table in tables.values())
    names = {f"device_{name}.csv" for name in device_speed.PARTS}
    assert {path.name for path in (tmp_path / "tables").iterdir()} == names
    peaks, ttt, palm, made = (tables[name] for name in device_speed.PARTS)
    assert (peaks["TFLOP/s"].dropna() > 0).all() and peaks["TB/s"].iloc[-1] == 1e-3
    assert list(ttt["masks"]) == [1, 2] and set(ttt["network"]) == {"scenes"}
    assert (ttt["images at once"] == 1).all() and (ttt["ratio"] > 0).all()
    assert list(palm["method"]) == ["palm, plain", "tent", "palm"]
    assert palm["ratio"].iloc[-1] > 0 and palm["difference"].iloc[-1] < 1e-8
    assert list(made["corruption"]) == ["fog", "glass_blur"]
    assert (made["one core, images/s"] == 2).all()
    assert made["ratio"].to_numpy() == pytest.approx(made["images/s"].to_numpy() / 2)


def test_a_part_that_is_there_is_not_measured_again(
    fewer: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted part leaves its rows aside and is measured again."""

    def broken(*_: object) -> device_parts.Rows:
        yield {"what": 1}
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(device_speed.PARTS, "peaks", broken)
        with pytest.raises(KeyboardInterrupt):
            device_speed.bench_device(tmp_path, ["peaks"], SMALL)
    assert [p.name for p in (tmp_path / "tables").iterdir()] == ["device_peaks.part"]
    first = device_speed.bench_device(tmp_path, ["peaks"], SMALL)["peaks"]
    monkeypatch.setitem(device_speed.PARTS, "peaks", lambda *_: pytest.fail("done already"))
    again = device_speed.bench_device(tmp_path, ["peaks"], SMALL)["peaks"]
    pd.testing.assert_frame_equal(first, again)


def test_unknown_parts_and_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unknown parts x; known are peaks, ttt, palm, corrupt"):
        device_speed.bench_device(tmp_path, ["x"])
    asked: list[Path] = []
    monkeypatch.setattr(device_speed, "bench_device", asked.append)
    bench.main("device", tmp_path)
    assert asked == [tmp_path]
