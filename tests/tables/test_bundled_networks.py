"""The table of the bundled networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tttlib import data
from tttlib.data import MissingDataError
from tttlib.models import zoo
from tttlib.results import Store
from tttlib.tables import bundled_networks


def test_a_row_is_what_a_plain_loop_finds(tmp_path: Path) -> None:
    images = data.load("scenes", "test").sample(64)
    row = bundled_networks.measure("wrn-scenes", images, Store(tmp_path))
    model = zoo.load("wrn-scenes")
    clean = (model.classify(images.images / 255).argmax(1) == images.labels).double().mean().item()
    right = []
    for name in bundled_networks.NAMES:
        x = images.corrupted(name, 5).images[:] / 255
        right.append((model.classify(x).argmax(1) == images.labels).double().mean().item())
    mean = 100 * (1 - sum(right) / 15)
    assert row["clean accuracy, %"].startswith(f"{100 * clean:.1f} [")  # type: ignore[attr-defined]
    assert row["mean error, %"].startswith(f"{mean:.1f} [")  # type: ignore[attr-defined]
    name, error = str(row["worst"]).rsplit(" ", 1)
    assert float(error) == pytest.approx(100 * (1 - min(right)), abs=0.06)
    assert name.replace(" ", "_") == bundled_networks.NAMES[right.index(min(right))]


def test_files_and_reuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = bundled_networks.main(["wrn-scenes"], tmp_path, n=16)
    assert (tmp_path / "tables" / "models.csv").is_file()
    assert (tmp_path / "figures" / "training_curves.png").stat().st_size > 5000

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(bundled_networks.evaluate, "predict", never)
    assert bundled_networks.main(["wrn-scenes"], tmp_path, n=16).equals(table)


def test_networks_without_their_data_are_left_out_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "bundled", lambda: ("mae-tiny-imagenet-50", "wrn-scenes"))
    table = bundled_networks.main(None, tmp_path, root=tmp_path, n=8)
    assert table.model.tolist() == ["wrn-scenes"]
    with pytest.raises(MissingDataError, match="tiny-imagenet-50"):
        bundled_networks.main(["mae-tiny-imagenet-50"], tmp_path, root=tmp_path)


def test_cards_say_size_training_and_accuracy() -> None:
    names = ("mae-scenes", "rot-scenes")
    table = bundled_networks.cards({f"my {n}": zoo.load(n) for n in names})
    assert table["model"].tolist() == ["my mae-scenes", "my rot-scenes"]
    assert table["phases"].tolist() == ["mae then joint", "rotation"]
    card = zoo.load("rot-scenes").card
    last = table.iloc[1]
    assert last["clean accuracy, %"] == round(100 * card["clean_accuracy"], 1)
    assert (last["parameters, M"], last["measured on"]) == (0.14, card["clean_accuracy_on"])
