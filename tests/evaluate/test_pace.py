"""Which arrivals a method learns from, and how certain its answers are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tttlib import adapt, data, evaluate, results, streams
from tttlib.evaluate import continual_adaptation as loop
from tttlib.evaluate import unit_rows
from tttlib.evaluate.pace import Learner, Pace
from tttlib.models import zoo

DOMAINS = ["gaussian_noise", "contrast"]


class Recorder(adapt.Adapter):
    """Answers with the brightness of an image, and writes down what it was given."""

    name = "recorder"  # as an argument of the class it would be one of the methods
    presets = adapt.METHODS["source"].presets
    calls: list[tuple[str, list[float]]]

    def configure(self) -> list[str]:
        self.calls = []
        return []

    def _said(self, how: str, images: Tensor) -> Tensor:
        bright = images.mean((1, 2, 3))
        self.calls.append((how, [round(b, 4) for b in bright.tolist()]))
        return bright[:, None].expand(-1, 10)

    def step(self, images: Tensor) -> Tensor:
        return self._said("learn", images)

    def predict(self, images: Tensor) -> Tensor:
        return self._said("predict", images)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return zoo.load("wrn-scenes")


def stream(n: int = 5, batch_size: int = 1, domains: list[str] = DOMAINS) -> streams.Stream:
    return streams.continual(data.load("scenes", "test", n=n), domains, batch_size=batch_size)


def recorded(net: nn.Module, arriving: streams.Stream, **pace: int) -> tuple[Learner, list[float]]:
    adapter = Recorder(net, Recorder.settings(None, {}))
    bright = [round(b.images.mean().item(), 4) for b in arriving]
    return Learner(adapter, arriving, Pace(**pace)), bright


def calls(learner: Learner) -> list[tuple[str, list[float]]]:
    return learner.adapter.calls  # type: ignore[attr-defined]


# -- constant speed --------------------------------------------------------------------------------


def test_every_third_batch_is_learned_from(net: nn.Module) -> None:
    learner, bright = recorded(net, stream(), adapt_every=3)
    learned = [learner.answer(number)[1] for number in range(8)]
    assert learned == [True, False, False] * 2 + [True, False]
    assert [how == "learn" for how, _ in calls(learner)] == learned
    assert [seen for _, (seen,) in calls(learner)] == bright[:8]
    learner.reset(8)  # counts anew
    assert [learner.answer(number)[1] for number in (8, 9)] == [True, False]


def test_batches_between_are_answered_by_the_last_state(net: nn.Module, tmp_path: Path) -> None:
    arriving = stream(20, 5)
    how: dict[str, Any] = {"lr": 0.01, "store": results.Store(tmp_path), "progress": False}
    rows = evaluate.adaptation(net, arriving, "tent", adapt_every=3, **how).rows
    adapter = adapt.create("tent", net, lr=0.01)
    answers = []
    for number, batch in enumerate(arriving):
        answers.append(adapter.predict(batch.images) if number % 3 else adapter(batch.images))
    assert rows["prediction"].tolist() == torch.cat(answers).argmax(1).tolist()
    assert set(rows["adapt_every"]) == {3} and "window" not in rows
    every = evaluate.adaptation(net, arriving, "tent", adapt_every=1, **how).rows
    usual = evaluate.adaptation(net, arriving, "tent", **how).rows
    assert len(list(tmp_path.glob("adaptation-*"))) == 2  # 1 is what older units did
    pd.testing.assert_frame_equal(every, usual)
    assert not {"adapt_every", "window"} & {*usual} and len(usual) == len(rows)
    origins = [results.provenance(p)["protocol"] for p in tmp_path.glob("adaptation-*")]
    said = {origin["prediction"] for origin in origins}
    assert loop.PROTOCOL["prediction"] in said and any("by the last state" in s for s in said)


def test_blocks_without_a_lesson_have_no_diagnostics(net: nn.Module, tmp_path: Path) -> None:
    arriving = stream(4, 4, ["fog", "snow", "frost"])
    found = evaluate.adaptation(
        net, arriving, "palm", adapt_every=2, store=results.Store(tmp_path), progress=False
    )
    assert set(found.diagnostics["block"]) == {0, 2} and len(found.rows) == 12


@pytest.mark.parametrize(
    ("forwards", "every"),
    [(0.4, 1), (1, 1), (1.1, 1), (1.11, 2), (2.04, 2), (2.96, 3), (3.4, 4), (35, 35)],
)
def test_cost_is_rounded_up_to_whole_batches(forwards: float, every: int) -> None:
    assert evaluate.constant_speed(forwards) == every
    assert evaluate.constant_speed(forwards, tolerance=0) == math.ceil(forwards)


# -- a window of single images ---------------------------------------------------------------------


def test_a_window_learns_when_it_is_new(net: nn.Module) -> None:
    learner, bright = recorded(net, stream(), window=3)
    answers = [learner.answer(number) for number in range(10)]
    assert [learned for _, learned in answers] == [False, False, True] * 3 + [False]
    seen = [bright[max(0, k - 2) : k + 1] for k in range(10)]  # across blocks, too
    assert calls(learner) == [("learn" if k % 3 == 2 else "predict", seen[k]) for k in range(10)]
    for (logits, _), own in zip(answers, bright, strict=True):
        assert logits.shape == (1, 10) and logits[0, 0].item() == pytest.approx(own, abs=1e-4)


def test_a_window_begins_anew_after_a_reset(net: nn.Module) -> None:
    learner, bright = recorded(net, stream(), window=4)
    for number in range(5):
        learner.answer(number)
    learner.reset(5)
    assert [learner.answer(number)[1] for number in range(5, 9)] == [False] * 3 + [True]
    assert calls(learner)[-4:] == [
        ("learn" if k == 8 else "predict", bright[5 : k + 1]) for k in range(5, 9)
    ]


def test_a_window_after_a_restart_holds_the_images_before(net: nn.Module) -> None:
    learner, bright = recorded(net, stream(), window=3)
    learner.answer(4)
    assert calls(learner) == [("predict", bright[2:5])]


@pytest.mark.parametrize("pace", [{"adapt_every": 3}, {"window": 3}])
@pytest.mark.parametrize("reset", ["never", "block"])
def test_where_a_stream_is_cut_or_killed_changes_nothing(
    net: nn.Module,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pace: dict[str, int],
    reset: str,
) -> None:
    def run(folder: str, arrivals: int) -> pd.DataFrame:
        monkeypatch.setattr(loop, "ARRIVALS_PER_UNIT", arrivals)
        store = results.Store(tmp_path / folder)
        how: dict[str, Any] = {
            "reset": reset,
            "lr": 0.01,
            "store": store,
            "progress": False,
            **pace,
        }
        return evaluate.adaptation(net, stream(7), "tent", **how).rows

    whole, original, left = run("whole", 1000), loop._piece, iter(range(2))

    def dying(*arguments: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_piece", dying)
        with pytest.raises(KeyboardInterrupt):
            run("cut", 4)
    cut = run("cut", 4)
    assert cut["piece"].nunique() == 4
    pd.testing.assert_frame_equal(cut.drop(columns="piece"), whole.drop(columns="piece"))


@pytest.mark.parametrize(
    ("pace", "message"),
    [
        ({"adapt_every": 0}, "adapt_every must be a whole number of 1 or more, not 0"),
        ({"adapt_every": 2.5}, "adapt_every must be a whole number of 1 or more, not 2.5"),
        ({"adapt_every": True}, "not True"),
        ({"window": -1}, "window must be a whole number of 1 or more, not -1"),
        ({"window": 2}, "single images: the stream's batch_size must be 1, not 5"),
        ({"window": 2, "adapt_every": 2}, "a window says already when a method learns"),
    ],
)
def test_paces_without_a_meaning_are_refused(
    net: nn.Module, tmp_path: Path, pace: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate.adaptation(net, stream(5, 5), "tent", store=results.Store(tmp_path), **pace)
    assert not list(tmp_path.glob("*"))


@pytest.mark.parametrize(("forwards", "tolerance"), [(0, 0.1), (math.nan, 0.1), (2, 1), (2, -1)])
def test_costs_without_a_meaning_are_refused(forwards: float, tolerance: float) -> None:
    with pytest.raises(ValueError, match="no cost and tolerance"):
        evaluate.constant_speed(forwards, tolerance=tolerance)


# -- how certain answers are -----------------------------------------------------------------------


def certain(logits: list[list[float]], labels: list[int]) -> pd.DataFrame:
    dataset = data.load("scenes", "test", n=3)
    padded = torch.full((len(logits), 10), -math.inf)
    padded[:, : len(logits[0])] = torch.tensor(logits)
    return unit_rows.judged(pd.DataFrame({"label": labels}), padded, dataset, certainty=True)


def test_certainty_by_hand() -> None:
    # p = (.5, .25, .25): right; the same with the label on a quarter; (0.9, 0.1)
    rows = certain([[math.log(2), 0, 0]] * 2 + [[math.log(9), 0, -math.inf]], [0, 2, 1])
    assert rows["confidence"].tolist() == pytest.approx([0.5, 0.5, 0.9])
    assert rows["nll"].tolist() == pytest.approx([math.log(2), math.log(4), math.log(10)])
    by_hand = [0.25 + 2 * 0.0625, 0.25 + 0.0625 + 0.5625, 0.81 + 0.81]
    assert rows["brier"].tolist() == pytest.approx(by_hand)
    assert rows["correct"].tolist() == [True, False, False]


def test_answers_that_are_no_numbers_say_nothing() -> None:
    rows = certain([[math.nan, 1, 1], [math.inf, 1, 1], [1e38, 0, 0]], [1, 1, 0])
    assert rows["confidence"].tolist() == pytest.approx([0.1, 0.1, 1])
    assert rows["nll"].tolist() == pytest.approx([math.log(10), math.log(10), 0])
    assert rows["brier"].tolist() == pytest.approx([0.9, 0.9, 0])
    assert np.isfinite(rows[["confidence", "nll", "brier"]]).all(axis=None)


def test_rows_of_adaptation_tell_the_certainty(net: nn.Module, tmp_path: Path) -> None:
    arriving = stream(20, 10)
    rows = evaluate.adaptation(
        net, arriving, "source", store=results.Store(tmp_path), progress=False
    ).rows
    with torch.no_grad():
        p = net(arriving.images()).softmax(-1)
    labels = torch.tensor(rows["label"].to_numpy())
    assert rows["confidence"].to_numpy() == pytest.approx(p.amax(-1).numpy(), rel=1e-5)
    picked = p.gather(1, labels[:, None])[:, 0].numpy()
    assert np.exp(-rows["nll"].to_numpy()) == pytest.approx(picked, rel=1e-4)
    onehot = nn.functional.one_hot(labels, 10)
    assert rows["brier"].to_numpy() == pytest.approx(
        (p - onehot).square().sum(-1).numpy(), abs=1e-5
    )
    gathered, _ = results.folders.gather([tmp_path])
    assert {"confidence", "nll", "brier"} <= {*gathered["adaptation"].measured()}
    assert not {"confidence", "nll", "brier"} & {*gathered["adaptation"].settings()}


def test_units_of_earlier_versions_are_read_as_they_are(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> pd.DataFrame:
        store = results.Store(tmp_path)
        return evaluate.adaptation(net, stream(4, 2), "tent", store=store, progress=False).rows

    with monkeypatch.context() as patch:
        patch.setattr(loop, "judged", lambda rows, logits, dataset, **_: unit_rows.judged(
            rows, logits, dataset
        ))  # fmt: skip
        old = run()
    assert "confidence" not in old
    pd.testing.assert_frame_equal(run(), old)
    with pytest.raises(ValueError, match="no column 'confidence' in the rows"):
        results.summarise(run(), "method", value="ece")


def test_a_composed_stream_is_adapted_to_and_told_in_rows(net: nn.Module, tmp_path: Path) -> None:
    calibrated = streams.calibration("wrn-scenes")
    images = data.load("scenes", "test", n=10)
    arriving = streams.changing(images, calibrated, error=0.3, length=24, speed=12, batch_size=6)
    store = results.Store(tmp_path)
    rows = evaluate.adaptation(net, arriving, "bn1", store=store, progress=False).rows
    assert len(rows) == 24 and rows["domain"].str.contains("+", regex=False).all()
    assert rows["second_severity"].tolist() == arriving.plan["second_severity"].tolist()
    (table,) = (s for s in results.tabulate([tmp_path], by=["domain"]) if s.value == "correct")
    assert table.table["n"].tolist() == [12, 12]
    mae = zoo.load("mae-scenes")
    with pytest.raises(ValueError, match="standard TTT takes one corruption at a time"):
        evaluate.standard(mae, arriving, store=store, progress=False, steps=1)
