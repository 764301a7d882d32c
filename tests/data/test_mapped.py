"""Mapped pixels: damage is found, and what is damaged is made again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tttlib.data import DamagedDataError, mapped

SHAPE = (50, 3, 8, 8)
SIZE = 50 * 3 * 64


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "BLOCK", 1000)  # ten of them, the last one shorter


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, SHAPE, dtype=torch.uint8)


def parts(pixels: torch.Tensor, at_once: int = 7) -> Iterator[bytes]:
    return (part.numpy().tobytes() for part in pixels.split(at_once))


def change(path: Path, at: int, content: bytes) -> None:
    raw = bytearray(path.read_bytes())
    raw[at : at + len(content)] = content
    path.unlink()
    path.write_bytes(raw)


@pytest.mark.parametrize("at_once", [1, 7, 50])
def test_round_trip(pixels: torch.Tensor, tmp_path: Path, at_once: int) -> None:
    mapped.write(tmp_path / "a.u8", parts(pixels, at_once))
    assert torch.equal(mapped.read(tmp_path / "a.u8", SHAPE, verify=None), pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["a.u8"]


def test_a_changed_byte_is_found_in_every_block(pixels: torch.Tensor, tmp_path: Path) -> None:
    for block in range(10):
        path = tmp_path / f"{block}.u8"
        mapped.write(path, parts(pixels))
        at = min(block * 1000 + 500, SIZE - 1)
        change(path, at, bytes([path.read_bytes()[at] ^ 4]))
        with pytest.raises(DamagedDataError, match=f"{path} was changed .* byte {block * 1000}$"):
            mapped.read(path, SHAPE)


def test_sampling_reaches_every_block_in_time(pixels: torch.Tensor, tmp_path: Path) -> None:
    path = tmp_path / "a.u8"
    mapped.write(path, parts(pixels))
    change(path, 4500, bytes([path.read_bytes()[4500] ^ 4]))
    seen = 0
    for _ in range(500):
        try:
            mapped.read(path, SHAPE, verify=2)
        except DamagedDataError:
            seen += 1
    assert 0 < seen < 500


DAMAGES = {
    "zeros after a power cut": lambda path: change(path, 0, bytes(path.stat().st_size)),
    "zeros in its second half": lambda path: change(path, 5000, bytes(SIZE - 5000)),
    "cut": lambda path: change_length(path, -1),
    "longer": lambda path: change_length(path, 1),
    "empty": lambda path: (path.unlink(), path.touch()),
    "without checksums": lambda path: change_length(path, -40),
}


def change_length(path: Path, by: int) -> None:
    raw = path.read_bytes()
    path.unlink()
    path.write_bytes(raw[:by] if by < 0 else raw + bytes(by))


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_again(
    damage: str, pixels: torch.Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, made = tmp_path / "new" / "a.u8", []

    def make() -> Iterator[bytes]:
        made.append(1)
        return parts(pixels)

    assert torch.equal(mapped.kept(path, SHAPE, make), pixels)
    DAMAGES[damage](path)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(mapped.kept(path, SHAPE, make), pixels)
    assert f"{path} " in caplog.text and "made again" in caplog.text
    assert torch.equal(mapped.kept(path, SHAPE, make), pixels) and len(made) == 2
