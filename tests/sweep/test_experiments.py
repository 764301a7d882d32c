"""The experiments write the rows of `evaluate`, and chunks of standard TTT add up exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tttlib import results
from tttlib.sweep import experiments, fingerprints

SMALL = {"options": {"n": 40}}


def _run(name: str, folder: Path, **parameters: Any) -> pd.DataFrame:
    """All rows that an experiment has written into the folder until now."""
    experiments.find(name).function(folder, **parameters)
    return results.load(folder / "results")


def _numbers(folder: Path) -> pd.DataFrame:
    """All rows, less what names the selection of images they were computed with."""
    rows = results.load(folder / "results").drop(columns=["selection", "images", "unit"])
    return rows.sort_values(["id", "step"]).reset_index(drop=True)


def test_chunks_of_standard_ttt_equal_the_whole_bit_for_bit(tmp_path: Path) -> None:
    given: dict[str, Any] = {"n_images": 5, "steps": 2, "batch_size": 2, "corruption": "fog"}
    given |= {"parallel": 2, **SMALL}
    _run("standard", tmp_path / "whole", chunk=None, **given)
    for part in range(3):
        _run("standard", tmp_path / "parts", chunk=2, part=part, **given)
    whole, parts = _numbers(tmp_path / "whole"), _numbers(tmp_path / "parts")
    assert len(whole) == 5 * 3 and whole["loss"].notna().any()
    pd.testing.assert_frame_equal(whole, parts, check_exact=True)
    assert len(list((tmp_path / "parts" / "results").iterdir())) == 3


def test_seed_and_settings_reach_the_rows(tmp_path: Path) -> None:
    given: dict[str, Any] = {"n_images": 2, "steps": 1, "batch_size": 2, "chunk": None, **SMALL}
    given |= {"lr": 0.5, "optimizer": "adamw", "evaluate_at": [1], "seed": 3}
    rows = _run("standard", tmp_path, **given)
    assert rows["lr"].unique() == 0.5 and rows["seed"].unique() == 3
    assert rows["optimizer"].unique() == "adamw" and rows["step"].unique() == 1


def test_the_other_experiments_give_their_rows(tmp_path: Path) -> None:
    assert len(_run("source", tmp_path / "source", n_images=3, **SMALL)) == 3
    tiny: dict[str, Any] = {"n_images": 4, "corruptions": ["fog", "snow"], "batch_size": 2, **SMALL}
    rows = _run("online", tmp_path / "online", n_heldout=2, evaluate_every=2, **tiny)
    assert rows["part"].value_counts().to_dict() == {"held-out": 6, "stream": 4}
    rows = _run("online", tmp_path / "levels", order="levels", **{**tiny, "n_images": 5})
    assert sorted(rows["severity"]) == [1, 2, 3, 4, 5]
    rows = _run("adaptation", tmp_path / "adapted", constants={"lr": 1e-4}, **tiny)
    assert (rows["experiment"] == "adaptation").sum() == 8
    for name, known in (("adaptation", "continual, gradual"), ("online", "consecutive, mixed")):
        with pytest.raises(ValueError, match=f"unknown order 'upward'; known are {known}"):
            _run(name, tmp_path, order="upward", **tiny)


def test_images_are_loaded_once() -> None:
    first, again = (fingerprints.images("scenes", "test", "", {"n": 5}) for _ in range(2))
    assert first is again
