"""What the README says to type works: its examples run, and every command has a test."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from tttlib import adapt, corruptions, data, results, sweep
from tttlib.__main__ import app
from tttlib.models import zoo
from tttlib.statistics import correlate
from tttlib.sweep import parameter_files

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
YAML = re.findall(r"```yaml\n# (\S+)\n(.*?)```", TEXT, re.DOTALL)
CONSOLE = [
    line.split("#")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
TYPED = {
    "make study": "test_study.py, at tiny size; whole by the scheduled regression",
    "make test": "the continuous integration",
    "export TTTLIB_DATA=/path/to/that/folder": "test_lookup.py",
    ".venv/bin/tttlib data list": "here",
    ".venv/bin/tttlib run 02 --parameters notebooks/parameters/tiny-imagenet.yaml": "here, checked",
    ".venv/bin/tttlib run 02 -p batch_size 32 -p steps 10": "here, checked",
    ".venv/bin/tttlib sweep notebooks/grids/demo.yaml --dry-run": "here, slow",
    ".venv/bin/tttlib sweep notebooks/grids/demo.yaml": "here, slow",
    ".venv/bin/tttlib results runs/sweeps/demo": "here, slow",
    ".venv/bin/tttlib compare runs/sweeps/demo runs/sweeps/demo": "here, slow",
    '.venv/bin/tttlib run 05 -p methods "[source, tent, last]"': "here, slow",
    ".venv/bin/tttlib run 05 -p dataset folder:photos": "here, slow",
    ".venv/bin/tttlib sweep batches.yaml": "here",
    ".venv/bin/tttlib results runs/sweeps/batches --where experiment=adaptation "
    "--by method,batch_size": "here",
}


def example(name: str) -> str:
    """The one that begins with its file's name."""
    (found,) = [text for text in PYTHON if text.startswith(f'"""{name}')]
    return found


def tttlib(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def photographs(folder: Path, n: int) -> None:
    """Images of the scenes as files, with the network's order of classes."""
    images = data.load("scenes", "test", n=n)
    for i, (pixels, label) in enumerate(zip(images.images, images.labels, strict=True)):
        path = folder / images.classes[int(label)] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)  # [3,H,W] -> [H,W,3]
    (folder / "classes.txt").write_text("\n".join(images.classes))


def test_every_command_has_its_test() -> None:
    assert list(TYPED) == CONSOLE
    assert len(PYTHON) == 3 and len(YAML) == 1


def test_the_method(methods_forgotten: None) -> None:
    exec(compile(example("tttlib/adapt/last.py"), "last.py", "exec"), {"__name__": __name__})
    adapter = adapt.create("last", zoo.load("wrn-scenes"))
    images = data.load("scenes", "test", n=20).images.float() / 255
    first, second = adapter(images), adapter(images)
    assert adapt.METHODS["last"] is type(adapter) and first.shape == (20, 10)
    entropy = [-(z.softmax(1) * z.log_softmax(1)).sum(1).mean() for z in (first, second)]
    assert entropy[1] < entropy[0]


def test_the_dataset(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 30)
    images = data.load(f"folder:{tmp_path / 'photos'}", "test")
    assert len(images) == 30 and images.classes == data.load("scenes", "test", n=1).classes


def test_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    Path("batches.py").write_text(example("batches.py"))
    ((name, text),) = YAML
    Path(name).write_text(text)
    run, table = (shlex.split(line)[1:] for line in CONSOLE[-2:])
    assert "4 of 4 units done" in tttlib(*run, "--engine", "serial")
    rows = re.findall(r"^ *(bn1|tent) +(5|50) 200 ", tttlib(*table), re.MULTILINE)
    assert rows == [("bn1", "5"), ("bn1", "50"), ("tent", "5"), ("tent", "50")]


def test_in_python() -> None:
    (block,) = [text for text in PYTHON if "ttt.run" in text]
    names: dict[str, object] = {}
    exec(block.replace("sample(64)", "sample(4)").replace("batch_size=64", "batch_size=4"), names)
    accuracy = names["result"].accuracy(names["batch"].labels)  # type: ignore[attr-defined]
    assert len(accuracy) == 11 and ((accuracy >= 0) & (accuracy <= 1)).all()


def test_the_runs_take_their_parameters() -> None:
    """Nothing is run: it takes the real images, and hours."""
    notebook = sweep.find_notebook("02")
    plain, changed = (shlex.split(line) for line in CONSOLE if "tttlib run 02" in line)
    read = sweep.read_parameters(ROOT / plain[plain.index("--parameters") + 1])
    assert parameter_files.of_notebook(notebook, read)["dataset"] == "tiny-imagenet-50"
    pairs = [changed[i + 1 : i + 3] for i, word in enumerate(changed) if word == "-p"]
    given = {name: sweep.parse_value(value) for name, value in pairs}
    assert parameter_files.of_notebook(notebook, given) == {"batch_size": 32, "steps": 10}


def test_the_datasets_are_listed() -> None:
    listed = tttlib("data", "list")
    assert all(name in listed for name in data.NAMES)


@pytest.mark.slow
def test_the_sweep_of_the_demo(tmp_path: Path) -> None:
    """The lines as they stand, in a folder that has the notebooks."""
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    first = CONSOLE.index(".venv/bin/tttlib sweep notebooks/grids/demo.yaml --dry-run")
    for line in CONSOLE[first : first + 4]:
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=1200
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.strip()


SMALL = {
    "n_ablation": 2, "n_gradual": 2, "n_images": 4, "n_mae": 2, "n_mixed": 2, "n_source": 64,
    "n_tuning": 4, "batch_size": 4,
}  # fmt: skip


def notebook_05(folder: Path, **environment: str) -> pd.DataFrame:
    """The README's line, in a folder, with few images; the result rows of the run."""
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    name = "methods" if environment else "dataset"
    (line,) = [one for one in CONSOLE if f"run 05 -p {name}" in one]
    command = [sys.executable, "-m", "tttlib", *shlex.split(line)[1:]]
    done = subprocess.run(
        [*command, "--parameters", "small.yaml", "--run-dir", "run"],
        cwd=folder, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return results.load(folder / "run" / "results")


@pytest.mark.slow
def test_notebook_05_takes_the_method(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tttlib", tmp_path / "tttlib")
    (tmp_path / "tttlib" / "adapt" / "last.py").write_text(example("tttlib/adapt/last.py"))
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    notebook_05(tmp_path, PYTHONPATH=str(tmp_path))
    table = pd.read_csv(tmp_path / "run" / "tables" / "05_continual.csv")
    assert list(table["method"]) == ["source", "tent", "last", "bn1", "palm"]


@pytest.mark.slow
def test_notebook_05_over_a_folder(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 40)
    rows = notebook_05(tmp_path).query("experiment == 'adaptation' and dataset == 'photos'")
    claimed = pd.read_csv(tmp_path / "run" / "tables" / "05_claims.csv")["claim"]
    assert "PALM beats law" in set(claimed)
    assert "PALM beats ecotta" not in set(claimed)  # there are no other labelled images
    extra = rows["domain"].isin(corruptions.EXTRA_NAMES)
    tuning, reported = set(rows[extra]["id"]), set(rows[~extra]["id"])
    assert tuning and reported and not tuning & reported


def _committed(name: str, **where: str | float) -> pd.Series:
    """The one row of a table in figures/ with these values."""
    table = pd.read_csv(ROOT / "figures" / name)
    for column, value in where.items():
        table = table[table[column] == value]
    (row,) = table.to_dict("records")
    return pd.Series(row)


def test_the_findings_are_those_of_the_committed_tables() -> None:
    ttt = _committed("02_claims_tiny_imagenet.csv", claim="TTT helps under corruption")
    errors = {
        name: _committed("05_continual_cifar10_jpeg.csv", method=name)["mean"]
        for name in ("source", "bn1", "palm")
    }
    right = {
        name: _committed("models_bundled.csv", model=name)["clean accuracy, %"].split()[0]
        for name in ("mae-tiny-imagenet-50", "wrn-scenes")
    }
    bn1 = _committed("05_differences_cifar10_jpeg.csv", method="bn1", reference="palm")
    photographs = {
        name: _committed("05_continual_imagenet_sample.csv", method=name)["mean"]
        for name in ("source", "bn1", "palm")
    }
    there = _committed("05_differences_imagenet_sample.csv", method="bn1", reference="palm")
    online, standard = (
        _committed(
            "06_rotation_cifar10_jpeg_h200.csv", mode=mode, lr=0.001, corruption="mean of 15"
        )
        for mode in ("online", "standard")
    )
    for words in (
        "changes by {:+.1f} points [{:+.1f}, {:+.1f}]".format(
            *100 * ttt[["estimate", "low", "high"]]
        ),
        f"({ttt['n']:,} pairs of Tiny-ImageNet)",
        "from {:.1f} to {:.1f} %, by {:+.1f} points [{:+.1f}, {:+.1f}]".format(
            *100 * online[["before", "after", "gain", "low", "high"]]
        ),
        "{mended:.0f} answers are mended and {broken:.0f} broken".format(**online),
        "change it by {:+.1f} points [{:+.1f}, {:+.1f}]".format(
            *100 * standard[["gain", "low", "high"]]
        ),
        "from {mae-tiny-imagenet-50} % of clean images right for the MAE on Tiny-ImageNet to "
        "{wrn-scenes} % for `wrn-scenes`".format(**right),
        "falls from {source:.1f} to {bn1:.1f} %".format(**errors),
        "PALM reaches {palm:.1f} %".format(**errors),
        "{source:.1f} % without adaptation, {bn1:.1f} % with the batch's statistics, "
        "{palm:.1f} % with PALM".format(**photographs),
        "by {:.1f} points [{:.1f}, {:.1f}] better than those".format(
            *100 * there[["difference", "low", "high"]]
        ),
        "{:.1f} points better than that [{:.1f}, {:.1f}]".format(
            *100 * bn1[["difference", "low", "high"]]
        ),
    ):
        assert words in TEXT


def test_the_selection_is_that_of_the_committed_tables() -> None:
    """What the README says in half a sentence, in numbers on the page of adaptation."""
    wrn, resnext = (
        pd.read_csv(ROOT / "figures" / f"05_selection_{data}.csv")
        for data in ("cifar10_jpeg", "tiny_imagenet_100")
    )
    share = pd.concat([wrn, resnext])["selected"]
    assert (share - share.round()).abs().mean() < 0.0015  # decisions that change
    follows, there = (
        correlate(t["elements"], t["score"], method="spearman") for t in (wrn, resnext)
    )
    page = (ROOT / "tttlib" / "adapt" / "README.md").read_text(encoding="utf-8")
    for words in (
        f"r {follows.r:.2f} [{follows.low:.2f}, {follows.high:.2f}] over the {len(wrn)} tensors",
        f"{there.r:.2f} [{there.low:.2f}, {there.high:.2f}] over the {len(resnext)} of the ResNeXt",
    ):
        assert words in page


def test_the_front_page_counts_the_decided_statements_of_the_study() -> None:
    tables = {p.name[:2]: pd.read_csv(p) for p in (ROOT / "figures").glob("??_claims_scenes.csv")}
    assert sorted(tables) == ["01", "02", "03", "04", "05", "06", "07"]
    counts = []
    for names in (tables, ("02", "03", "06")):
        verdicts = pd.concat([tables[name] for name in names])["verdict"]
        counts.append(f"{(verdicts != 'undecided').sum()} of {len(verdicts)}")
    said = "On the embedded scenes {} statements are decided, of those on test-time training {}"
    assert said.format(*counts) in " ".join(TEXT.split())
