"""What moved between two runs is found cell by cell; goldens allow for what another seed moves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import call

from tttlib import results
from tttlib.results import goldens
from tttlib.results.compare import cells_of, compare

UNIT = {"experiment": "ttt", "model": "m", "method": "TTT-MAE", "severity": 5.0, "lr": 0.1}
DOMAINS = ("contrast", "fog", "snow")


def _add(run: Path, changes: dict[str, Any], **columns: Any) -> None:
    """Add a unit to a run."""
    rows = pd.DataFrame(columns)
    results.Store(run / "results").run({**UNIT, **changes}, lambda: rows)


def _run(folder: Path, seed: int = 0, n: int = 40, share: float = 0.6, flip: int = 0) -> Path:
    """A run whose right answers are drawn anew for each seed; `flip` of them change in fog."""
    for domain in DOMAINS:
        random = np.random.default_rng([seed, len(domain), ord(domain[0])])
        correct = random.random(n) < share
        if domain == "fog":
            correct[:flip] = ~correct[:flip]
        loss = random.normal(1.0, 0.1, n).astype("float32")
        named = {"domain": domain, "seed": seed}
        _add(folder, named, id=np.arange(n), correct=correct, loss=loss)
    (folder / "tables").mkdir(exist_ok=True)
    table = "model,gain [95 %],accuracy\nm,'+1.0 [-2.5, +3.0]',60.0\nm,-,61.5\n"
    (folder / "tables" / "02_headline.csv").write_text(table.replace("'", '"'))
    return folder


def test_cells_have_mean_and_n(tmp_path: Path) -> None:
    cells = cells_of(_run(tmp_path))
    rows = results.load(tmp_path / "results")
    fog = cells[cells["cell"].str.contains("domain=fog")].set_index("quantity")
    assert set(fog.index) == {"correct", "loss"} and (fog["n"] == 40).all()
    expected = rows[rows["domain"] == "fog"]
    assert fog.loc["correct", "mean"] == expected["correct"].mean()
    assert fog.loc["loss", "mean"] == pytest.approx(expected["loss"].mean())
    assert fog["cell"].iloc[0] == "ttt; model=m; method=TTT-MAE; domain=fog; severity=5; lr=0.1"
    table = cells[cells["cell"].str.startswith("tables/")]
    assert table["cell"].tolist()[0] == "tables/02_headline.csv; model=m"
    assert table["mean"].tolist() == [1.0, -2.5, 3.0, 60.0, 61.5]
    assert table["cell"].iloc[-1].endswith("row 2")


def test_equal_runs_are_the_same_and_a_flip_is_found(tmp_path: Path) -> None:
    a = cells_of(_run(tmp_path / "a"))
    same = compare(a, cells_of(_run(tmp_path / "b")))
    assert not same.regressed and same.counts()["same"] == len(a)
    found = compare(a, cells_of(_run(tmp_path / "c", flip=1)))
    moved = found.cells[found.cells["state"] != "same"]
    assert found.regressed and moved["quantity"].tolist() == ["correct"]
    assert abs(moved["difference"].item()) == pytest.approx(1 / 40)
    assert not compare(a, cells_of(tmp_path / "c"), atol=0.026).regressed
    assert compare(a, cells_of(tmp_path / "c"), rtol=0.001).regressed


def test_n_missing_and_additional(tmp_path: Path) -> None:
    a = cells_of(_run(tmp_path / "a"), tables=False)
    fewer = compare(a, cells_of(_run(tmp_path / "b", n=39), tables=False), atol=10)
    assert fewer.counts()["moved"] == len(a)
    part = a[~a["cell"].str.contains("snow")]
    lost, gained = compare(a, part), compare(part, a)
    assert lost.regressed and lost.counts()["missing"] == 2
    assert not gained.regressed and gained.counts()["additional"] == 2


def test_seeds_are_averaged_over(tmp_path: Path) -> None:
    _run(tmp_path, 0)
    _run(tmp_path, 1)
    cells = cells_of(tmp_path, tables=False)
    assert (cells["n"] == 80).all() and not cells["cell"].str.contains("seed").any()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("seeds")
    return [_run(folder / str(seed), seed) for seed in range(6)]


def test_goldens_allow_for_other_seeds_and_find_what_is_worse(
    seeds: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "g.json"
    made = goldens.make(seeds[:5], file)
    correct = made[made["quantity"] == "correct"]
    deviation = np.sqrt(0.6 * 0.4 / 40)
    assert correct["tolerance"].between(2 * deviation, 10 * deviation).all()
    assert not goldens.compare_paths(file, seeds[0]).regressed
    assert not goldens.compare_paths(file, seeds[5]).regressed
    worse = _run(tmp_path / "worse", share=0.05)
    found = goldens.compare_paths(worse, file)  # goldens are A on either side
    moved = found.cells[found.cells["state"] == "moved"]
    assert found.regressed and set(moved["quantity"]) == {"correct"}
    head = json.loads(file.read_text())
    assert head["runs"] == 5 and "99.9 %" in head["tolerance"]
    assert len(file.read_text().splitlines()) == len(made["cell"].unique()) + 11


def test_one_run_gives_the_floor_of_rounding(seeds: list[Path], tmp_path: Path) -> None:
    made = goldens.make(seeds[:1], tmp_path / "g.json").set_index("quantity")
    assert (made.loc["correct", "tolerance"] == 2 / 40).all()
    loss = made.loc["loss"]
    assert loss["tolerance"].to_numpy() == pytest.approx(2e-3 * loss["mean"].to_numpy())
    for flip, regressed in ((2, False), (40, True)):
        flipped = _run(tmp_path / str(flip), flip=flip)
        assert goldens.compare_paths(tmp_path / "g.json", flipped).regressed == regressed


def test_pooled_spread_covers_a_cell_that_happens_not_to_vary(tmp_path: Path) -> None:
    runs = [_run(tmp_path / str(seed), seed) for seed in range(3)]
    for run in runs:
        _add(run, {"domain": "frost"}, id=np.arange(40), correct=np.arange(40) < 24)
    made = goldens.make(runs, tmp_path / "g.json")
    frost = made[made["cell"].str.contains("frost")]
    assert frost["tolerance"].item() > 3 * goldens.flips(pd.Series([40])).item()


def test_cells_of_one_run_alone_are_left_out_of_goldens(tmp_path: Path) -> None:
    runs = [_run(tmp_path / str(seed), seed) for seed in range(2)]
    _add(runs[0], {"lr": 0.2, "domain": "frost"}, id=[0], correct=[True])
    for run in runs:
        _add(run, {"experiment": "claims"}, claim=["x"], estimate=[0.1])
    made = goldens.make(runs, tmp_path / "g.json")
    assert not made["cell"].str.contains("frost|claims").any()
    assert not goldens.compare_paths(tmp_path / "g.json", runs[0]).regressed


def test_the_command_says_what_moved(tmp_path: Path, seeds: list[Path]) -> None:
    a, b = seeds[0], _run(tmp_path / "b", flip=1)
    assert call("compare", a, a).code == 0
    code, out, _ = call("compare", a, b, "--csv", tmp_path / "cells.csv")
    assert code == 1 and "all of:" not in out
    assert "domain=fog" in out and "1 moved, 0 missing" in out
    assert "moved" in set(pd.read_csv(tmp_path / "cells.csv")["state"])
    assert call("compare", a, b, "--atol", "0.05").code == 0
    shutil.rmtree(b / "tables")
    code, out, _ = call("compare", a, b, "--atol", "0.05")
    assert code == 1 and "5 missing" in out
    file, empty = tmp_path / "g.json", tmp_path / "x.json"
    assert call("compare", "--make-golden", file, *seeds[:3]).code == 0
    assert call("compare", file, seeds[1]).code == 0
    empty.write_text("{}")
    for words, said in (
        ((file, a, "--rtol", "1"), "has a tolerance for every cell"),
        ((a,), "needs two runs"),
        ((empty, a), "holds no goldens"),
    ):
        code, _, error = call("compare", *words)
        assert code == 2 and said in error


def test_the_goldens_of_the_demo_hold_every_experiment_of_the_study() -> None:
    cells, _ = goldens.read(Path(__file__).parents[1] / "goldens" / "demo.json")
    needed = {"ttt", "online", "adaptation", "latent_variance", "unadapted", "alignment"}
    assert needed <= set(cells["cell"].str.split("; ").str[0])
    assert len(cells) > 1000 and (cells["tolerance"] > 0).all() and cells["mean"].notna().all()
    right = cells[cells["quantity"] == "correct"]
    assert right["mean"].between(0, 1).all() and right["tolerance"].median() < 0.5
