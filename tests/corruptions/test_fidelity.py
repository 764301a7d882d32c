"""The committed table of differences from the released scripts, enforced."""

from __future__ import annotations

from pathlib import Path

import fidelity
import numpy as np
import pandas as pd
import pytest
from test_corrupt import FLOAT32_SHARE, FLOAT64_SHARE

ALL = fidelity.ALL
WITHIN = 3.0  # sampling errors
FEW_GROUPS, WITHIN_OF_FEW = 10, 6.0  # the error is then itself uncertain (Student's t, 9 degrees)


@pytest.fixture(scope="module")
def golden() -> pd.DataFrame:
    return pd.read_csv(fidelity.GOLDEN)


def test_table_is_complete_and_small(golden: pd.DataFrame) -> None:
    assert len(golden) == 20 * (5 + 5 + 3)
    assert set(golden.corruption) == set(ALL)
    assert golden[["reference max", "fast max"]].max().max() <= 1
    assert golden[["mean", "std", "spectrum"]].max().max() <= WITHIN
    for name, rows in golden.groupby("corruption"):
        assert rows["reference share"].max() <= FLOAT64_SHARE.get(name, 0)
        assert rows["fast share"].max() <= 3 * FLOAT32_SHARE.get(name, 0)
    assert golden["mean"].notna().sum() == 11 * 2 * 3


def test_page_shows_the_table(golden: pd.DataFrame) -> None:
    assert fidelity.page_table(golden) in fidelity.PAGE.read_text()


@pytest.mark.oracles
@pytest.mark.parametrize("size", [32, 64, 224])
def test_differences(golden: pd.DataFrame, size: int, oracles_root: Path) -> None:
    with np.load(oracles_root / f"corruptions_{size}.npz") as recorded:
        found = pd.concat(fidelity.differences(recorded, name) for name in ALL)
    both = found.merge(golden, on=fidelity.KEYS, suffixes=("", " golden"))
    assert len(both) == len(found)
    for column in ("reference max", "reference share", "fast max", "fast share"):
        worse = both[both[column] > both[f"{column} golden"] * 1.5 + 1e-4]  # other processors
        assert worse.empty, worse.to_string()


@pytest.mark.oracles
@pytest.mark.parametrize("size", [32, 64])
def test_distances(size: int, oracles_root: Path) -> None:
    with np.load(oracles_root / "corruption_stats.npz") as stats:
        names = sorted({key.split("/")[0] for key in stats.files if "/" in key})
        assert len(names) == 11
        severities = (1, 3, 5) if size == 32 else (5,)
        found = pd.concat(
            fidelity.distances(stats, name, size, FEW_GROUPS, severities) for name in names
        )
    worst = found[["mean", "std", "spectrum"]].max().max()
    assert worst <= WITHIN_OF_FEW, found.to_string()
