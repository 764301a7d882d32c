"""Tables over many units: what is summed up, what is refused, and what is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from command_line import call
from ttt_units import Keep, answers, finish

from tttlib import results


def test_settings_that_vary_are_the_columns(keep: Keep, tmp_path: Path) -> None:
    keep()
    keep(domain="contrast")
    keep(answers(3, first=4), selection="s2", images=3)  # other images of the same setting
    (summary,) = results.tabulate([tmp_path / "run"])
    table = summary.table
    assert list(table.columns) == ["domain", "step", "n", "mean", "low", "high"]
    assert table["domain"].tolist() == ["contrast", "contrast", "fog", "fog"]
    assert table["step"].tolist() == [0, 1, 0, 1] and table["n"].tolist() == [4, 4, 7, 7]
    assert table["mean"].tolist() == [0.5, 1, pytest.approx(4 / 7), 1]
    assert (table["low"] <= table["mean"]).all() and (table["mean"] <= table["high"]).all()
    assert summary.fixed["model"] == "m" and summary.notes == []


def test_folders_of_runs_results_and_sweeps(keep: Keep, tmp_path: Path) -> None:
    keep(folder="results")
    for key, domain in (("a", "snow"), ("b", "frost")):
        finish(keep(folder=f"sweep/units/{key}/results", domain=domain).parent)
    files = results.result_files([tmp_path / "sweep", tmp_path, tmp_path / "results"])
    assert len(files) == 3
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match=r"looked for .*units/"):
        results.result_files([tmp_path / "none"])
    with pytest.raises(FileNotFoundError, match="no folder"):
        results.result_files([tmp_path / "missing"])


def test_where_and_by(keep: Keep) -> None:
    folder = keep()
    for lr in (0.1, 0.2):
        keep(domain="snow", lr=lr)
    table = results.tabulate([folder], where={"step": "last", "lr": 0.2})[0].table
    assert table["n"].tolist() == [4]
    (summary,) = results.tabulate([folder], by=["lr"], where={"step": 0})
    assert summary.table[["lr", "n"]].to_numpy().tolist() == [[0.1, 8], [0.2, 4]]
    found = results.tabulate([folder], by=["protocol.reset"], where={"step": 0, "lr": [0.1]})
    assert found[0].table["protocol.reset"].tolist() == ["every image"]
    with pytest.raises(ValueError, match=r"no column or field 'lear'; there are .*lr"):
        results.tabulate([folder], where={"lear": 1})
    with pytest.raises(ValueError, match="no rows with domain = 'rain'; there are fog, snow"):
        results.tabulate([folder], where={"domain": "rain"})


@pytest.mark.parametrize(
    ("change", "name", "values"),
    [
        ({"protocol": {"reset": "never"}}, "protocol.reset", "every image, never"),
        ({"dataset_fingerprint": "bb"}, "dataset_fingerprint", "aa, bb"),
        ({"weights_sha256": "x"}, "weights_sha256", "w, x"),
    ],
)
def test_mixed_protocols_are_refused_by_name(
    keep: Keep, change: dict[str, Any], name: str, values: str
) -> None:
    keep()
    folder = keep(answers(first=4), selection="s2", **change)
    with pytest.raises(ValueError, match=f"mix several {name}: {values}.*--allow-mixed {name}"):
        results.tabulate([folder])
    (summary,) = results.tabulate([folder], allow_mixed=[name])
    assert summary.table["n"].tolist() == [8, 8]
    first = values.split(", ")[0]
    assert results.tabulate([folder], where={name: first})[0].table["n"].tolist() == [4, 4]


def test_settings_are_not_averaged_unasked(keep: Keep) -> None:
    keep()
    folder = keep(answers(first=4), lr=0.2)
    with pytest.raises(ValueError, match=r"several lr: 0.1, 0.2 \(step = 0\).*--where lr=0.1"):
        results.tabulate([folder], by=["step"])
    with pytest.raises(ValueError, match="several step: 0, 1"):
        results.tabulate([folder], by=["lr"])


def test_an_image_twice_is_refused(keep: Keep) -> None:
    keep()
    folder = keep(answers(2), selection="s2", images=2)
    words = r"same image and setting twice \(id = 0, domain = fog, step = 0\).*images = .*--where"
    with pytest.raises(ValueError, match=words):
        results.tabulate([folder])
    assert results.tabulate([folder], where={"images": 4})[0].table["n"].tolist() == [4, 4]
    assert results.tabulate([folder], by=["images", "step"])[0].table["n"].sum() == 12
    assert results.tabulate([folder], allow_mixed=["images"])[0].table["n"].tolist() == [6, 6]


def test_seeds_and_the_same_image_in_a_stream_are_no_repetition(keep: Keep) -> None:
    keep()
    folder = keep(seed=1)
    assert results.tabulate([folder])[0].table["n"].tolist() == [8, 8]
    stream = pd.concat([answers(2), answers(2)])  # arrives twice in one stream
    other = keep(stream, folder="other", stream="correlated")
    assert results.tabulate([other])[0].table["n"].tolist() == [4, 4]


def test_a_domain_that_comes_back_in_a_later_piece_is_no_repetition(keep: Keep) -> None:
    keep(answers(steps=1), piece=0)
    folder = keep(answers(steps=1), piece=1)
    table = results.tabulate([folder], by=["domain"])[0].table
    assert table["n"].tolist() == [8] and table["mean"].tolist() == [0.5]
    keep(answers(steps=1), piece=0, stream_fingerprint="another")
    with pytest.raises(ValueError, match=r"same image and setting twice .*stream_fingerprint = "):
        results.tabulate([folder], by=["domain"])


def test_calibration_error_in_a_table(keep: Keep) -> None:
    sure = answers(steps=1).assign(confidence=[0.9, 0.9, 0.7, 0.7])
    (summary,) = results.tabulate([keep(sure)], value="ece")
    assert summary.value == "ece" and summary.table["mean"][0] == pytest.approx(0.3)
    with pytest.raises(ValueError, match="no column or field 'confidence'"):
        results.tabulate([keep(folder="other/results")], value="ece")


def test_copies_count_once_and_changed_copies_are_refused(keep: Keep, tmp_path: Path) -> None:
    keep(folder="a/results")
    keep(folder="b/results")
    (summary,) = results.tabulate([tmp_path / "a", tmp_path / "b"])
    assert summary.table["n"].tolist() == [4, 4]
    assert "repeat the rows" in summary.notes[0]
    keep(answers(3), folder="c/results")
    with pytest.raises(ValueError, match="same unit with other rows"):
        results.tabulate([tmp_path / "a", tmp_path / "c"])


def test_mixed_code_versions_are_told(keep: Keep, tmp_path: Path) -> None:
    folder = keep()
    keep(domain="snow")
    path = sorted(folder.glob("*.parquet"))[0]
    table = pq.read_table(path)
    origin = {**json.loads(table.schema.metadata[b"tttlib"]), "git_sha": "0ther"}
    pq.write_table(table.replace_schema_metadata({b"tttlib": json.dumps(origin)}), path)
    (summary,) = results.tabulate([folder])
    assert len(summary.notes) == 1 and "mixed git_sha: " in summary.notes[0]
    assert "0ther (1 units)" in summary.notes[0]


def test_rows_that_are_no_images_are_shown_as_they_are(keep: Keep) -> None:
    shares = {"factor": ["class", "rest"], "share": [0.2, 0.8], "low": [0.1, 0.7], "n": [30, 30]}
    folder = keep(pd.DataFrame(shares), experiment="latent_variance")
    table = results.tabulate([folder])[0].table
    assert list(table.columns) == ["factor", "n", "share", "low"]
    assert table.loc[0].tolist() == ["class", 30, 0.2, 0.1]


def test_latex_escapes() -> None:
    text = results.latex(pd.DataFrame({"gain_%": ["a & b"], "n": [3]}), "50 %")
    assert r"gain\_\%" in text and r"a \& b & 3 \\" in text and r"\caption{50 \%}" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


def test_the_command_prints_filters_and_exports(keep: Keep, tmp_path: Path) -> None:
    keep()
    keep(domain="snow")
    csv, tex = tmp_path / "out" / "t.csv", tmp_path / "t.tex"
    words = ["results", tmp_path / "run", "--where", "step=last", "--csv", csv, "--latex", tex]
    code, out, _ = call(*words)
    assert code == 0 and "accuracy in %" in out and "snow" in out and "100.0" in out
    assert pd.read_csv(csv)["mean"].tolist() == [1.0, 1.0]
    assert r"\toprule" in tex.read_text()
    keep(answers(2), selection="s2", images=2)
    code, _, error = call("results", tmp_path / "run", "--by", "domain,step")
    assert code == 2 and "error: ttt: the same image and setting twice" in error
    code, _, error = call("results", tmp_path / "run", "--where", "domain")
    assert code == 2 and "--where needs NAME=VALUE" in error
