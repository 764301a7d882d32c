"""Pickles are read without looking up any name that they ask for."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import official
import pytest

from tttlib.data import DamagedDataError, restricted_pickle


def test_column_major_and_new_pickles(tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for content in (official.python2({b"data": array}), pickle.dumps({b"data": array[:, 0]}, 4)):
        (tmp_path / "file").write_bytes(content)
        found = restricted_pickle.read(tmp_path / "file", "fetch it")[b"data"]
        assert np.array_equal(found, array if found.ndim == 2 else array[:, 0])


@pytest.mark.parametrize(
    "value",
    [np.zeros(2, np.int64), np.dtype("u1").newbyteorder, print, Path("x"), {1: np.float32(2)}],
    ids=["int64", "method", "builtin", "class", "nested"],
)
def test_only_plain_content(tmp_path: Path, value: object) -> None:
    (tmp_path / "file").write_bytes(pickle.dumps({b"data": value}))
    with pytest.raises(DamagedDataError, match=r"file (asks for|holds an array).*; fetch it"):
        restricted_pickle.read(tmp_path / "file", "fetch it")


def test_any_cut_is_told(tmp_path: Path) -> None:
    content = official.python2(official.cifar_batch(official.pixels(1, 0), [3]))
    for length in [*range(0, 200, 3), len(content) // 2, len(content) - 1]:
        (tmp_path / "file").write_bytes(content[:length])
        with pytest.raises(DamagedDataError, match=r"file is truncated or no pickle .*; fetch it"):
            restricted_pickle.read(tmp_path / "file", "fetch it")


def test_random_damage_never_escapes(tmp_path: Path) -> None:
    content = official.python2(official.cifar_batch(official.pixels(1, 0), [3]))
    random = np.random.default_rng(0)
    outside = [*range(200), *range(len(content) - 150, len(content))]  # of the pixels
    refused = 0
    for _ in range(300):
        bad = bytearray(content)
        bad[random.choice(outside)] = int(random.integers(256))
        (tmp_path / "file").write_bytes(bad)
        try:
            restricted_pickle.read(tmp_path / "file", "fetch it")
        except DamagedDataError as error:
            refused += 1
            assert str(tmp_path / "file") in str(error) and str(error).endswith("fetch it")
    assert 100 < refused < 300
