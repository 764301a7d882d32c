"""The data benchmark: the first pass really decodes, the second really finds the cache."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from skimage.data import astronaut

from tttlib.bench import decoding_speed
from tttlib.data import decoded


def test_first_pass_decodes_and_second_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = BytesIO()
    Image.fromarray(astronaut()[:32, :32]).save(stream, "JPEG")
    rows = [{"bytes": stream.getvalue(), "path": ""}] * 12
    table = pa.table({"img": rows, "label": [3] * 12})
    pq.write_table(table, tmp_path / "cifar10-jpeg-test.parquet")
    decodings, folders = [], []
    decode = decoded._decode

    def spy(source: decoded.Source, folder: Path, n_classes: int) -> None:
        decodings.append(folder)
        folders.append(os.environ["TTTLIB_CACHE"])
        decode(source, folder, n_classes)

    monkeypatch.setattr(decoded, "_decode", spy)
    monkeypatch.setenv("TTTLIB_CACHE", str(tmp_path / "mine"))
    row = decoding_speed.bench_data("cifar10-jpeg", "test", tmp_path, rounds=2)
    assert len(decodings) == 2 and len(set(folders)) == 2
    assert os.environ["TTTLIB_CACHE"] == str(tmp_path / "mine")
    assert not (tmp_path / "mine").exists() and not any(Path(f).exists() for f in folders)
    assert row["images"] == 12 and row["set"] == "cifar10-jpeg test"
    assert row["low"] <= row["ratio"] <= row["high"]
    assert all(float(row[key]) > 0 for key in ("first", "cached"))
