"""Notebooks run with other parameters, and their result rows carry what the tables need.

nbval runs the start of every notebook with its own defaults, and the others whole, see
`notebook_copies`; `make nbval` runs all of them whole with their own defaults.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import notebook_goldens
import pandas as pd
import pytest

from tttlib import results, sweep
from tttlib.corruptions import EXTRA_NAMES
from tttlib.results import goldens
from tttlib.tables.claims import VERDICTS

TINY = {
    "01_distribution_shift_pca": {
        "n_per_class": 8,
        "n_trajectory": 3,
        "steps": 3,
        "corruptions_shown": ["gaussian_noise", "contrast"],
        "corruptions_compared": ["fog", "snow", "contrast"],
        "classes_compared": ["zero", 1],
        "n_compared": 6,
        "severities": [1, 5],
        "layers": ["block 1", "norm"],
        "corruptions_adapted": ["fog", "contrast"],
        "n_adapted": 3,
        "adapt_steps": 2,
        "batch_size": 2,
        "animate": True,
    },
    "02_mae_ttt_replication": {
        "n_images": 6,
        "n_rotation": 4,
        "n_probed": 3,
        "n_clean": 5,
        "n_released": 2,
        "n_tuning": 8,
        "n_ablation": 4,
        "n_aligned": 3,
        "steps": 2,
        "rotation_steps": 2,
        "rotation": {"batch_size": 2, "shift": 2, "flip": False, "border": "mirror"},
        "batch_size": 2,
        "lrs": [0.1],
        "rotation_lrs": [0.03, 0.1],
        "released": {"steps": 2, "batch_size": 3, "blr": 0.01},
        "batch_sizes": [1, 2],
        "optimizer_stops": [1, 2],
        "adamw_lrs": [0.001],
    },
    "03_online_vs_standard_ttt": {
        "corruptions_shown": ["zoom_blur", "contrast"],
        "blurs": ["defocus_blur", "zoom_blur"],
        "networks": {
            "rot-scenes": {"batch_size": 2, "shift": 2, "flip": False, "border": "mirror"},
            "mae-scenes-calm": {"batch_size": 2},
        },
        "candidates": {"rot-scenes": [{"lr": 0.003}], "mae-scenes-calm": [{"lr": 0.03}]},
        "n_stream": {"rot-scenes": 10, "mae-scenes-calm": 8},
        "n_standard": {"rot-scenes": 3, "mae-scenes-calm": 3},
        "n_blur": {"rot-scenes": 6, "mae-scenes-calm": 4},
        "n_growing": {"rot-scenes": 6, "mae-scenes-calm": 5},
        "n_calm": 4,
        "n_heldout": 8,
        "n_tuning": {"online": 4, "standard": 4},
        "standard_lrs": {"rot-scenes": [0.03], "mae-scenes-calm": [0.03]},
        "standard_steps": [1, 2],
        "brakes": {"pull": {"pull": 0.02}},
        "evaluations": {"stream": 2, "blur": 2, "growing": 1, "calm": 1},
        "window": 4,
    },
    "05_palm_continual_adaptation": {
        "methods": ["source", "bn1", "tent", "ecotta", "palm"],
        "gradual_methods": ["source", "palm"],
        "candidates": {"palm": [{}, {"threshold": 0.1}]},
        "n_images": 4,
        "batch_size": 4,
        "n_orders": 1,
        "n_tuning": 4,
        "n_source": 64,
        "n_gradual": 2,
        "n_mixed": 2,
        "n_ablation": 2,
        "ablated": {"eta x": [10]},
        "n_streams": 2,
        "n_mae": 2,
        "mae_step": {"batch_size": 2, "masks": 1},
    },
    "06_beyond": {
        "corruptions_shown": ["gaussian_noise", "contrast"],
        "n_stream": 8,
        "n_standard": 3,
        "n_mixture": 8,
        "n_compute": 3,
        "n_tuning": 8,
        "n_tuning_rotation": 12,
        "n_grid": 2,
        "n_heldout": 4,
        "n_aligned": 3,
        "steps": {"reconstruction": 2, "rotation": 2},
        "batch_size": 2,
        "online_candidates": [["sgd", 0.03]],
        "standard_lrs": [0.1],
        "rotation_lrs": {"online": [0.03], "standard": [0.03]},
        "n_views": {"online": 2, "standard": 2},
        "adamw_lrs": [0.0001, 0.001],
        "weight_decays": [0.0],
        "stops": [1, 2],
        "clean_shares": [0.0, 0.5],
        "compute": 4,
        "masks": [1, 4],
    },
    "07_where_palm_stands": {
        "methods": ["source", "eata", "roid", "lame", "palm"],
        "lr_factors": [1, 0.1],
        "n_images": 4,
        "batch_size": 4,
        "n_tuning": 2,
        "n_source": 16,
        "n_correlated": 4,
        "few": ["fog", "contrast"],
        "rounds": 2,
        "n_round": 2,
        "changing": {"length": 24, "error": 0.4, "speed": 8},
        "batches": [[1, 1], [6, 2]],
        "window": 3,
        "others": {"rot-scenes": ["source", "rotation", "palm"]},
        "n_others": 2,
    },
    "04_bounding_box_errors": {
        "corruptions_shown": ["contrast"],
        "severities": [5],
        "n_images": 8,
        "n_unadapted": 40,
        "steps": 2,
        "batch_size": 2,
        "permutations": 50,
    },
}
EXECUTED = ("01_distribution_shift_pca", "02_mae_ttt_replication", "06_beyond")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run folder in which the notebooks `EXECUTED` ran with the parameters of `TINY`."""
    folder = tmp_path_factory.mktemp("run")
    for name in EXECUTED:
        given = {**TINY[name], "run_dir": str(folder)}
        sweep.run_notebook(sweep.find_notebook(name), folder / "notebooks", given, progress=False)
    return folder


def test_every_notebook_has_small_parameters() -> None:
    assert {path.stem for path in sweep.notebooks_folder().glob("0*.ipynb")} == set(TINY)


def test_every_notebook_is_under_nbval_or_executed_here(tmp_path: Path) -> None:
    import notebook_copies

    notebook_copies.write(tmp_path / "copies")
    copies = {p.stem: nbformat.read(p, 4) for p in (tmp_path / "copies").glob("*.ipynb")}
    wanted = {f"start_{name}" for name in TINY} | {f"whole_{n}" for n in TINY if n not in EXECUTED}
    assert set(copies) == wanted
    for name, copy in copies.items():
        compared = [notebook_copies.COMPARED in cell.source for cell in copy.cells]
        injected = ["injected-parameters" in c.metadata.get("tags", []) for c in copy.cells]
        whole = name.startswith("whole_")
        assert (compared[-1], any(compared), any(injected)) == (not whole, not whole, whole)


def test_committed_notebooks_show_their_outputs() -> None:
    for path in sweep.notebooks_folder().glob("0*.ipynb"):
        cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        assert all(cell.execution_count for cell in cells), f"run `make notebooks`: {path.name}"
        outputs = [output for cell in cells for output in cell.outputs]
        assert any("image/png" in output.get("data", {}) for output in outputs)
        assert not [output for output in outputs if output.output_type in ("error", "stream")]


def test_rows_of_the_replication_are_complete(run: Path) -> None:
    rows = results.load(run / "results")
    rows = rows[(rows["experiment"] == "ttt") & (rows["images"] == 6)]
    # 5 corruptions, 6 images under each, steps 0 to 2; no image under two corruptions
    assert len(rows) == 5 * 6 * 3 and rows["id"].nunique() == 5 * 6
    assert not rows.duplicated(["model", "domain", "id", "step"]).any()
    assert rows["correct"].isin([True, False]).all() and not rows["failed"].any()
    assert rows.loc[rows["step"] < 2, "loss"].notna().all()
    assert rows.loc[rows["step"] == 2, "loss"].isna().all()


def test_the_replication_chooses_its_step_elsewhere(run: Path) -> None:
    rows = results.load(run / "results")
    rows = rows[(rows["experiment"] == "ttt") & (rows["split"] == "valid")]
    assert set(rows["domain"]) <= set(EXTRA_NAMES)
    claims = pd.read_csv(run / "tables" / "02_claims.csv")
    assert claims["claim"].str.startswith("rotation: ").sum() == 2 and len(claims) == 7


def test_provenance_names_weights_data_and_protocol(run: Path) -> None:
    file = next((run / "results").glob("ttt-*.parquet"))
    found = results.provenance(file)
    assert len(found["unit"]["weights_sha256"]) == 16
    assert found["unit"]["dataset_fingerprint"]
    assert {"reset", "prediction", "corruption"} <= set(found["protocol"])


def test_tables_and_figures_of_both_notebooks_are_there(run: Path) -> None:
    for folder, names in {
        "tables": ["01_separability.csv", "01_silhouette_change.csv", "02_headline.csv"],
        "figures": ["01_pca_two_classes.png", "02_accuracy_by_step.png", "02_y_network.png"],
    }.items():
        for name in names:
            assert (run / folder / name).stat().st_size > 50
            assert (run / folder / name).with_suffix(".txt").read_text().strip()
    table = pd.read_csv(run / "tables" / "02_headline.csv")
    main = "mae-scenes-calm"
    networks = {main, "mae-scenes-probed", "rot-scenes", f"{main}, released setting"}
    assert set(table["model"]) == networks
    assert (table["domain"] == "mean of corruptions").sum() == len(networks)


def test_beyond_compares_both_tasks_on_the_same_images(run: Path) -> None:
    table = pd.read_csv(run / "tables" / "06_rotation.csv")
    assert set(table["method"]) == {
        f"{task}, {mode}"
        for task in ("reconstruction", "rotation")
        for mode in ("standard", "online")
    }
    n = table[table["domain"] == "contrast"].set_index("method")["n"]
    assert (n.filter(like="standard") == 3).all() and (n.filter(like="online") == 8).all()
    claims = pd.read_csv(run / "tables" / "06_claims.csv")
    assert claims["verdict"].isin(VERDICTS).all()
    rows = results.load(run / "results")
    tuned = rows[rows["weight_decay"].notna() & (rows["split"] == "valid")]
    assert not set(tuned["domain"]) & {"clean", "gaussian_noise", "contrast"}


def test_beyond_without_a_rotation_network_says_so(tmp_path: Path) -> None:
    name = "06_beyond"
    given = {**TINY[name], "rotation_model": "", "clean_shares": [0.5], "run_dir": str(tmp_path)}
    sweep.run_notebook(sweep.find_notebook(name), tmp_path / "notebooks", given, progress=False)
    said = (tmp_path / "tables" / "06_models.txt").read_text()
    assert "no rotation network for scenes-calm" in said
    table = pd.read_csv(tmp_path / "tables" / "06_rotation.csv")
    assert set(table["method"]) == {"reconstruction, standard", "reconstruction, online"}


def test_a_second_run_computes_nothing_again(run: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (run / "results").glob("*.parquet")}
    name = "01_distribution_shift_pca"
    given = {**TINY[name], "run_dir": str(run)}
    sweep.run_notebook(sweep.find_notebook(name), run / "again", given, progress=False)
    assert {p: p.stat().st_mtime_ns for p in (run / "results").glob("*.parquet")} == before


def test_shares_of_variance_are_complete(run: Path) -> None:
    rows = results.load(run / "results")
    variance = rows[rows["experiment"] == "latent_variance"]
    assert len(variance) == 2 * 2 * 6  # severities, layers, factors and their difference
    assert (variance["low"] <= variance["share"]).all()
    assert (variance["share"] <= variance["high"]).all()
    sums = variance[variance["factor"] != "corruption - class"].groupby(["severity", "layer"])
    assert (sums["share"].sum() - 1).abs().max() < 1e-9
    adapted = rows[rows["experiment"] == "latent_variance_adapted"]
    assert len(adapted) == 3 * 6 + 5 * 6  # states and changes, standard and online
    assert set(adapted["state"]) == {"before", "after", "end of stream"}


def test_claims_of_the_shift_follow_from_the_tables(run: Path) -> None:
    rows = results.load(run / "results")
    kept = rows[(rows["experiment"] == "claims") & (rows["notebook"] == "01")]
    assert len(kept) == 5 + 1 + 3 + 3 and kept["n"].gt(0).all()
    table = pd.read_csv(run / "tables" / "01_claims.csv")
    assert table["verdict"].tolist() == kept["verdict"].tolist()
    change = pd.read_csv(run / "tables" / "01_silhouette_change.csv").iloc[-1]
    mine = table[table["measure"].str.startswith("silhouette by class")].iloc[0]
    assert mine["estimate"] == pytest.approx(change["difference"], abs=1e-4)


def test_the_view_of_one_image_has_a_figure_and_a_film(run: Path) -> None:
    assert (run / "figures" / "01_one_image.png").stat().st_size > 5000
    assert (run / "figures" / "01_trajectories.gif").stat().st_size > 5000
    notebook = nbformat.read(run / "notebooks" / "01_distribution_shift_pca.ipynb", as_version=4)
    outputs = [o.get("data", {}) for c in notebook.cells for o in c.get("outputs", [])]
    view = "application/vnd.jupyter.widget-view+json"
    assert any(view in d and "open in JupyterLab" in d.get("text/plain", "") for d in outputs)
    assert any("data:image/gif;base64" in d.get("text/html", "") for d in outputs)


def test_rows_are_those_of_the_goldens(run: Path) -> None:
    found = goldens.compare_paths(notebook_goldens.FILE, run).cells
    assert found["state"].eq("same").all(), found[found["state"] != "same"].to_string()
