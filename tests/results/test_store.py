"""Units are kept, read again and described."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tttlib import results

UNIT = {"experiment": "ttt", "domain": "zoom_blur", "severity": 5, "lr": 1e-3, "ids": [1, 2]}


@pytest.fixture
def store(tmp_path: Path) -> results.Store:
    return results.Store(tmp_path / "results")


def _rows(n: int = 6, shift: int = 0) -> pd.DataFrame:
    ids = np.arange(n) + shift
    return pd.DataFrame({"id": ids, "correct": ids % 2 == 0, "loss": np.float32(0.5) * ids})


def _must_not_run() -> pd.DataFrame:
    raise AssertionError("a finished unit was run again")


def test_a_finished_unit_is_read_not_run_again(store: results.Store) -> None:
    first = store.run(UNIT, _rows)
    again = store.run(dict(reversed(UNIT.items())), _must_not_run)
    pd.testing.assert_frame_equal(first, again)
    assert first["severity"].tolist() == [5] * 6
    assert "ids" not in first  # only scalars become columns
    assert [p.name for p in store.folder.iterdir()] == [f"ttt-{results.unit_key(UNIT)}.parquet"]
    forced = store.run(UNIT, lambda: _rows(3), force=True)
    assert len(forced) == 3
    assert len(store.run({**UNIT, "lr": 2e-3}, _rows)) == 6
    own = store.run({"experiment": "e", "step": 10}, lambda: _rows(4).assign(step=range(4)))
    assert own["step"].tolist() == [0, 1, 2, 3]  # not the unit's


def test_key_depends_on_content_alone() -> None:
    same = {"ids": (np.int64(1), 2), "lr": np.float64(1e-3), "severity": np.int32(5)}
    same |= {"domain": np.str_("zoom_blur"), "experiment": "ttt"}
    assert results.unit_key(same) == results.unit_key(UNIT) == "96abc1ff97c82757"
    assert results.unit_key({**UNIT, "severity": 4}) != results.unit_key(UNIT)
    assert results.unit_key({"a": 1}) != results.unit_key({"a": 1.0})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Path("/data"), "is a path"),
        (float("nan"), "is nan"),
        (np.ones(2), "ndarray"),
        ({1: 2}, "no string"),
        ({"deep": [object()]}, r"unit\.x\.deep\[0\] is a object"),
    ],
)
def test_what_is_no_json_is_refused_by_name(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        results.unit_key({"x": value})


@pytest.mark.parametrize("experiment", [None, 3, "", "a/b", "../x", "a b"])
def test_experiment_must_name_a_file(store: results.Store, experiment: Any) -> None:
    with pytest.raises(ValueError, match="'experiment'"):
        store.run({"experiment": experiment}, _rows)


def test_provenance_tells_how_the_rows_were_made(store: results.Store) -> None:
    protocol = {"reset": "image", "predict": "after", "weights": "ab12", "steps": np.int64(3)}
    store.run(UNIT, _rows, protocol=protocol)
    origin = results.provenance(store.path(UNIT))
    assert origin["unit"] == UNIT
    assert origin["protocol"] == {**protocol, "steps": 3}
    assert {"git_sha", "git_dirty", "device", "threads", "seconds", "utc", "python"} <= set(origin)
    assert {"torch", "numpy", "timm"} <= set(origin["versions"])
    assert origin["device"] and origin["threads"] >= 1
    assert json.dumps(origin)


def test_another_protocol_or_unit_is_not_served_silently(store: results.Store) -> None:
    store.run(UNIT, _rows, protocol={"weights": "old"})
    with pytest.raises(ValueError, match="another protocol: weights was 'old', is now 'new'"):
        store.run(UNIT, _must_not_run, protocol={"weights": "new"})
    other = {**UNIT, "severity": 1}
    store.path(UNIT).rename(store.path(other))
    with pytest.raises(ValueError, match="another unit: severity was 5, is now 1"):
        store.run(other, _must_not_run)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_broken_off_unit_leaves_nothing(
    store: results.Store, error: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> pd.DataFrame:
        raise error("stop")

    with pytest.raises(error):
        store.run(UNIT, fail)
    assert not store.folder.exists()
    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(os, "replace", fail)  # stopped between writing and renaming
        store.run(UNIT, _rows)
    assert list(store.folder.iterdir()) == []
    assert len(store.run(UNIT, _rows)) == 6


@pytest.mark.parametrize("keep", [0, 100, -10])
def test_a_damaged_file_is_named_with_the_remedy(store: results.Store, keep: int) -> None:
    store.run(UNIT, _rows)
    path = store.path(UNIT)
    path.write_bytes(path.read_bytes()[:keep])
    for call in (lambda: store.run(UNIT, _must_not_run), lambda: results.load(store.folder)):
        with pytest.raises(ValueError, match=rf"{path.name} is damaged .*delete it and run again"):
            call()


def test_load_joins_units_and_ignores_the_unfinished(store: results.Store) -> None:
    store.run(UNIT, _rows)
    other = {**UNIT, "domain": "contrast", "lr": None}
    store.run(other, lambda: _rows(4).drop(columns="loss"))
    (store.folder / ".ttt-0.parquet.17.tmp").write_bytes(b"half")
    rows = results.load(store.folder)
    assert len(rows) == 10
    assert rows.groupby("domain")["lr"].count().to_dict() == {"contrast": 0, "zoom_blur": 6}
    assert rows["loss"].notna().sum() == 6
    assert set(rows["unit"]) == {results.unit_key(UNIT), results.unit_key(other)}
    assert rows["device"].nunique() == 1 and "git_sha" in rows


def test_load_refuses_nothing_foreign_and_mismatched(store: results.Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no finished units"):
        results.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        results.provenance(tmp_path / "none.parquet")
    _rows().to_parquet(tmp_path / "foreign.parquet")
    with pytest.raises(ValueError, match="no provenance"):
        results.load(tmp_path)
    store.run(UNIT, _rows)
    store.run({**UNIT, "severity": "five"}, _rows)
    with pytest.raises(ValueError, match="different types"):
        results.load(store.folder)
