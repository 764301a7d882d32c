from __future__ import annotations

from pathlib import Path

import pytest

from tttlib import data, evaluate, results, streams
from tttlib.models import zoo

SETTINGS = {"batch_size": 2, "shift": 2, "flip": False, "border": "mirror"}


@pytest.fixture
def stream() -> streams.Stream:
    images = data.load("scenes", "valid").sample(24, 0)
    return streams.mixed(images, ["spatter", "saturate"], severity=5, batch_size=24)


def test_the_best_candidate_is_chosen_whatever_the_order(
    tmp_path: Path, stream: streams.Stream
) -> None:
    net, store = zoo.load("rot-scenes"), results.Store(tmp_path)
    candidates = [{"lr": 0.001}, {"lr": 3.0}, {"lr": 1e-9}]  # useful, ruinous, idle
    table, chosen = evaluate.choose_step(net, stream, candidates, store=store, **SETTINGS)
    assert table["lr"].tolist() == [0.001, 3.0, 1e-9] and (table["n"] == 24).all()
    best = table.loc[table["difference"].idxmax()]
    tied = table[table["difference"] == best["difference"]]
    moved = tied["mended"] + tied["broken"]
    assert chosen == {**SETTINGS, "lr": tied.loc[moved.idxmin(), "lr"]} and chosen["lr"] < 3
    again = evaluate.choose_step(net, stream, candidates[::-1], store=store, **SETTINGS)
    assert again[1] == chosen


def test_steps_that_move_no_answer_are_raised(
    tmp_path: Path, stream: streams.Stream, caplog: pytest.LogCaptureFixture
) -> None:
    net, store = zoo.load("rot-scenes"), results.Store(tmp_path)
    table, chosen = evaluate.choose_step(
        net, stream, [{"lr": 0.3}, {"lr": 1e-12}], store=store, steps=2, **SETTINGS
    )
    assert table["lr"].max() == 0.3 and (table["mended"] + table["broken"]).max() > 0
    with pytest.raises(ValueError, match=r"no candidate moved an answer on 24 arrivals.*2\.43e-10"):
        evaluate.choose_step(net, stream, [{"lr": 1e-12}], store=store, **SETTINGS)
    assert caplog.text.count("no candidate moved an answer") == 6
    with pytest.raises(ValueError, match="no candidates"):
        evaluate.choose_step(net, stream, [], store=store)
    assert chosen["lr"] in (0.3, 1e-12)
