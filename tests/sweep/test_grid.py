"""A grid becomes units with stable keys, or one clear message before anything runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from sweeping import TRIVIAL

from tttlib import sweep

ROOT = Path(__file__).resolve().parents[2]


def test_units_are_the_product_of_the_lists_in_their_order() -> None:
    lists = {"seed": [1, 0], "number": [5, 6]}
    units = sweep.expand({"experiment": TRIVIAL, "parameters": {"seconds": 1}, "grid": lists})
    assert [tuple(u.varied.items()) for u in units] == [
        (("seed", seed), ("number", number)) for seed in (1, 0) for number in (5, 6)
    ]
    assert units[0].label == f"{TRIVIAL} seed=1 number=5"
    assert units[0].given == {"seconds": 1.0, "seed": 1, "number": 5}
    assert units[0].parameters["fault"] == "" and units[0].parameters["seconds"] == 1.0
    (single,) = sweep.expand({"experiment": TRIVIAL})
    assert single.varied == {} and single.label == TRIVIAL
    lists = {"corruptions": [["fog"], ["fog", "snow"]]}
    units = sweep.expand({"experiment": "online", "grid": lists})
    assert [u.parameters["corruptions"] for u in units] == lists["corruptions"]


def test_keys_depend_on_content_and_on_what_is_used_alone() -> None:
    (a,) = sweep.expand({"experiment": TRIVIAL, "grid": {"number": [1]}})
    (b,) = sweep.expand({"experiment": TRIVIAL, "parameters": {"number": 1, "seed": 0}})
    assert a.key == b.key  # named or default, fixed or varied
    assert len(a.key) == 16
    others = [
        dataclasses.replace(a, experiment="other"),
        dataclasses.replace(a, parameters={**a.parameters, "seed": 1}),
        a.using({"data scenes test": "1"}),
        a.using({"data scenes test": "2"}),
    ]
    assert len({a.key, *(u.key for u in others)}) == 5
    one, other = ({"experiment": TRIVIAL, "parameters": {"seconds": s}} for s in (1, 1.0))
    assert sweep.expand(one)[0].key == sweep.expand(other)[0].key  # a float is meant


def test_notebooks_take_what_they_declare() -> None:
    units = sweep.expand({"notebook": "02", "parameters": {"steps": 2}, "grid": {"seed": [0, 1]}})
    assert [u.given for u in units] == [{"steps": 2, "seed": 0}, {"steps": 2, "seed": 1}]
    assert units[0].experiment == "notebook 02_mae_ttt_replication"
    assert units[0].parameters["optimizer"] == "sgd" and "run_dir" not in units[0].parameters
    with pytest.raises(ValueError, match=r"02_mae.* has no parameter 'stepz'; it has .*steps = 4"):
        sweep.expand({"notebook": "02", "grid": {"stepz": [1]}})
    with pytest.raises(ValueError, match="run_dir is every unit's own folder"):
        sweep.expand({"notebook": "02", "parameters": {"run_dir": "x"}})


def test_several_sweeps_in_one_file(tmp_path: Path) -> None:
    two = f"- {{experiment: {TRIVIAL!r}, grid: {{seed: [0, 1]}}}}\n- experiment: source\n"
    (tmp_path / "two.yaml").write_text(f"sweeps:\n{two}")
    units = sweep.read_grid(tmp_path / "two.yaml")
    assert [u.experiment for u in units] == [TRIVIAL, TRIVIAL, "source"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "names one notebook or one experiment"),
        ({"notebook": "02", "experiment": "online"}, "names one notebook or one experiment"),
        ({"experiment": "standrad"}, r"unknown experiment 'standrad'; known are standard, online"),
        ({"experiment": "no_module:f"}, "cannot be imported: No module named 'no_module'"),
        ({"experiment": "json:nothing"}, "cannot be imported"),
        ({"experiment": "json:dumps"}, "must be keywords with defaults"),
        ({"notebook": "nope"}, r"notebook 'nope' does not exist; .* has 01_"),
        ({"experiment": TRIVIAL, "params": {}}, "unknown 'params'; a sweep has notebook, exp"),
        ({"experiment": TRIVIAL, "grid": {"seed": []}}, "a list of values for 'seed', got \\[\\]"),
        ({"experiment": TRIVIAL, "grid": {"seed": 3}}, "a single value belongs to parameters"),
        ({"experiment": TRIVIAL, "grid": [1]}, "grid holds lines 'name: value'"),
        ({"experiment": TRIVIAL, "grid": {"sed": [1]}}, r"no parameter 'sed'; it has .*seed = 0"),
        ({"experiment": TRIVIAL, "grid": {"seed": ["a"]}}, "'seed' .* cannot be 'a': it needs"),
        ({"experiment": TRIVIAL, "grid": {"seed": [1, 2, 1]}}, r"the unit '.* seed=1' twice"),
        ({"experiment": TRIVIAL, "parameters": {"seed": 1}, "grid": {"seed": [1]}}, "stands in p"),
        ({"sweeps": []}, "'sweeps' is a list"),
        ({"sweeps": [3]}, "a sweep has lines"),
        ({"sweeps": [{"experiment": TRIVIAL}], "parameters": {}}, "stands alone"),
        ({"experiment": "standard", "parameters": {"n_images": 0}}, "must be 1 or more, not 0"),
        ({"experiment": "standard", "parameters": {"chunk": 45}}, "multiple of parallel \\(10\\)"),
        ({"experiment": "standard", "parameters": {"chunk": 40}}, "divide 100"),
    ],
)  # fmt: skip
def test_a_bad_grid_is_told_at_once(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sweep.expand(entry, "my.yaml")


def test_standard_ttt_is_cut_into_chunks() -> None:
    units = sweep.expand({"experiment": "standard", "parameters": {"n_images": 120}})
    assert [u.varied["part"] for u in units] == [0, 1, 2]
    (whole,) = sweep.expand({"experiment": "standard", "parameters": {"chunk": None}})
    assert whole.parameters["part"] is None
    (third,) = sweep.expand({"experiment": "standard", "parameters": {"n_images": 120, "part": 2}})
    assert third.key == units[2].key
    assert len(sweep.expand({"experiment": "online", "parameters": {"n_images": 120}})) == 1


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "grids").glob("*.yaml")))
def test_example_grids_expand(path: Path) -> None:
    assert sweep.read_grid(path)
