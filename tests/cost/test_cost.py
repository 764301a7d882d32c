"""Counts of work, measured constants, bytes kept; predicted against measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from tttlib import __main__ as cli
from tttlib import cost, data, evaluate, streams, ttt
from tttlib.commands import plan as plan_command
from tttlib.cost.memory import kept
from tttlib.cost.work import task, work_of
from tttlib.models import zoo
from tttlib.results import Store

MASKS = {"model": "mae-scenes", "batch_size": 2, "together": 2, "size": 32}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Processor time is wall time without other processes when there is one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _kinds(work: dict[cost.Task, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one, times in work.items():
        found[one.kind] = found.get(one.kind, 0) + times
    return found


def test_standard_counts_images_steps_and_predictions() -> None:
    given = {"n_images": 50, "steps": 20, "batch_size": 4, "corruption": "fog"}
    work = work_of("standard", given)
    assert _kinds(work) == {"step": 1000, "predict": 1050, "image": 50, "corrupt": 50, "load": 1}
    step = next(t for t in work if t.kind == "step")
    assert step.values["batch_size"] == 4 and step.values["size"] == 32
    at = work_of("standard", {**given, "evaluate_at": [0, 20]})
    assert _kinds(at)["predict"] == 100
    part = work_of("standard", {**given, "chunk": 30, "part": 1})
    assert _kinds(part)["step"] == 20 * 20
    whole = [work_of("standard", {**given, "chunk": 30, "part": k}) for k in (0, 1)]
    assert sum(_kinds(w)["step"] for w in whole) == 1000


def test_files_are_decoded_and_not_corrupted_again() -> None:
    given = {"n_images": 50, "dataset": "imagenet-c", "corruption": "fog", "preset": "large"}
    assert _kinds(work_of("source", given)) == {"forward": 50, "decode": 50, "load": 1}
    given["dataset"] = "imagenet"
    kinds = _kinds(work_of("source", given))
    assert kinds["decode"] == kinds["corrupt"] == 50
    clean = work_of("source", {"n_images": 50, "corruption": "clean"})
    assert _kinds(clean) == {"forward": 50, "load": 1}


def test_streams_count_arrivals() -> None:
    domains = ["fog", "snow", "contrast"]
    given = {"n_images": 60, "batch_size": 20, "corruptions": domains, "method": "palm"}
    assert _kinds(work_of("adaptation", given)) == {"batch": 9, "corrupt": 180, "load": 1}
    for order, times in (("gradual", 9), ("mixed", 1 / 3), ("correlated", 1)):
        assert _kinds(work_of("adaptation", {**given, "order": order}))["batch"] == 9 * times
    warm = {**given, "method": "ecotta", "n_source": 640, "constants": {"warm_up": {"epochs": 5}}}
    assert _kinds(work_of("adaptation", warm))["forward"] == 3 * 5 * 640
    online = {"n_images": 90, "corruptions": domains, "n_heldout": 30, "evaluate_every": 40}
    found = _kinds(work_of("online", online))
    assert found["arrival"] == 90 and found["forward"] == 30 * 4 and found["corrupt"] == 120
    assert work_of("notebook 02_mae_ttt_replication", {}) == {}


def test_the_counts_are_those_of_the_streams() -> None:
    images = data.load("scenes", "test").sample(6)
    domains = ["fog", "snow"]
    for order in ("continual", "gradual", "mixed", "correlated"):
        stream = getattr(streams, order)(images, domains, batch_size=2)
        given = {"n_images": 6, "corruptions": domains, "batch_size": 2, "order": order}
        work = work_of("adaptation", given)
        assert _kinds(work)["corrupt"] == pytest.approx(len(stream.rows()))
        assert _kinds(work)["batch"] == pytest.approx(len(stream.rows()) / 2)


class _Fixed(cost.Clock):
    """Every task takes what its kind says."""

    def seconds(self, task: cost.Task) -> float:
        return {"step": 2.0, "predict": 1.0, "corrupt": 0.5, "load": 3.0}.get(task.kind, 0.0)


def test_prediction_is_counts_times_constants() -> None:
    given = {"n_images": 10, "steps": 4, "evaluate_at": [4], "corruption": "fog"}
    units = [("standard", given), ("notebook 02_x", {}), ("notebook 05_y", {})]
    table = cost.predict(units, _Fixed(), seconds={"02": 70}, memory=False)
    assert table["seconds"].tolist()[:2] == [10 * 4 * 2 + 10 + 5 + 3, 70]
    assert table["seconds"].isna().tolist() == [False, False, True]
    assert table.loc[0, ["network", "corruption", "loading"]].tolist() == [90, 5, 3]
    assert cost.hours_with(table, 1, start=2) == pytest.approx((98 + 70 + 2) / 3600)
    assert cost.hours_with(table, 8) == pytest.approx(98 / 3600)
    with pytest.raises(ValueError, match="workers must be 1 or more, not 0"):
        cost.hours_with(table, 0)


def test_more_masks_cost_more(one_thread: None) -> None:
    """By processor time: one step takes milliseconds, which a busy machine multiplies."""
    clock = cost.Clock(budget=2.0, timer=time.process_time)
    few, many = (
        clock.seconds(task("step", **{**MASKS, "batch_size": b, "together": 1})) for b in (1, 64)
    )
    assert 0 < 2 * few < many


def test_constants_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = cost.Clock(budget=0.1)
    step = task("step", **MASKS)
    first = clock.seconds(step)
    monkeypatch.setattr(cost.clock.trials, "adapted", None)  # another run would raise
    assert step in clock.known and clock.seconds(step) == first


def test_a_clock_refuses_no_budget() -> None:
    with pytest.raises(ValueError, match=r"budget and FLOP/s must be above 0"):
        cost.Clock(budget=0)


def test_a_slow_network_is_timed_by_a_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mask of a step takes a second, a prediction half of one."""
    now, calls = [0.0], []

    def slow(model: object, s: object, masks: int, n: int, steps: int, at: list[int]) -> None:
        calls.append((masks, n, steps))
        now[0] += masks * n * steps + 0.5 * len(at)

    monkeypatch.setattr(cost.clock.trials, "adapted", slow)
    clock = cost.Clock(budget=1.0, timer=lambda: now[0])
    work = {
        kind: task(kind, **{**MASKS, "batch_size": 16}) for kind in ("step", "predict", "image")
    }
    seconds = {kind: clock.seconds(one) for kind, one in work.items()}
    assert seconds == {"step": 16.0, "predict": 0.5, "image": 0.0}
    assert len(calls) == 5 and max(calls) == (2, 1, 1)


def test_a_slow_first_try_is_not_taken_for_a_slow_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one in a process also sets up what the later ones use."""
    now, calls = [0.0], []

    def run(model: object, s: object, masks: int, n: int, steps: int, at: list[int]) -> None:
        now[0] += 0.001 * masks * n * steps if calls else 5.0
        calls.append(masks)

    monkeypatch.setattr(cost.clock.trials, "adapted", run)
    clock = cost.Clock(budget=1.0, timer=lambda: now[0])
    assert clock.seconds(task("step", **{**MASKS, "batch_size": 16})) == pytest.approx(0.016)
    assert max(calls) == 16


def test_another_device_is_counted_in_flop() -> None:
    slow, fast = (cost.Clock(0.2, flop_per_second=rate) for rate in (1e9, 1e12))
    step = task("step", **MASKS)
    assert slow.seconds(step) == pytest.approx(1000 * fast.seconds(step))
    double = task("step", **{**MASKS, "batch_size": 4})
    assert 1.5 < slow.seconds(double) / slow.seconds(step) <= 2
    batch = {"model": "wrn-scenes", "method": "tent", "batch_size": 10, "size": 32}
    forward = {"model": "wrn-scenes", "batch_size": 10, "size": 32}
    ratio = slow.seconds(task("batch", **batch)) / slow.seconds(task("forward", **forward))
    assert 10 < ratio < 40  # ten images forward and backward


def test_bytes_kept_are_counted_as_they_come_and_go() -> None:
    layers = nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(4)])
    x = torch.ones(100, 8)

    def work(times: int) -> None:
        for _ in range(times):
            layers(x).sum().backward()

    one = kept(lambda: work(1), [layers])
    # the input and each layer's output, which the next one saves too: one storage
    assert one == 5 * 100 * 8 * 4
    assert kept(lambda: work(3), [layers]) == one
    assert kept(lambda: work(1)) > one


def test_memory_grows_with_masks_images_and_batch() -> None:
    def bytes_(**changes: Any) -> float:
        return cost.bytes_of(task("step", **{**MASKS, **changes}))

    small = bytes_()
    assert bytes_(batch_size=4) > small and bytes_(together=4) > small
    assert bytes_(optimizer="adamw") > small
    network = sum(p.numel() * 4 for p in zoo.load("mae-scenes").parameters())
    assert small > network
    batch = {"model": "wrn-scenes", "size": 32}
    tent, more = (
        cost.bytes_of(task("batch", **batch, method="tent", batch_size=n)) for n in (10, 100)
    )
    assert 4 < more / tent < 10
    cotta = task("batch", **batch, method="cotta", batch_size=10, constants={"n_augmentations": 1})
    assert cost.bytes_of(cotta) > 0
    assert cost.bytes_of(task("corrupt", name="fog", severity=5, size=32)) == 0


def _ran(experiment: str, given: dict[str, Any], folder: Path) -> float:
    """Processor seconds of a unit, without making the data."""
    images = data.load("scenes", "test").sample(given["n_images"])
    store = Store(folder / "results")
    start = time.process_time()
    net = zoo.load(given["model"])
    if experiment == "adaptation":
        stream = streams.continual(images, given["corruptions"], batch_size=given["batch_size"])
        evaluate.adaptation(
            net, stream, given["method"], store=store, preset=given["preset"], progress=False
        )
    elif experiment == "source":
        stream = streams.continual(images, [given["corruption"]], batch_size=given["batch_size"])
        evaluate.source(net, stream)
    else:
        batch_size, lr = given["batch_size"], ttt.scaled_lr(0.01, given["batch_size"])
        settings = {"steps": given["steps"], "batch_size": batch_size, "lr": lr}
        if experiment == "online":
            stream = streams.consecutive(images, given["corruptions"], batch_size=1)
            evaluate.online(net, stream, store=store, progress=False, **settings)
        else:
            stream = streams.continual(images, [given["corruption"]], batch_size=1)
            evaluate.standard(net, stream, store=store, progress=False, parallel=10, **settings)
    return time.process_time() - start


STANDARD = {"model": "mae-scenes", "n_images": 40, "steps": 10, "batch_size": 8}
MEASURED = {
    "standard": {**STANDARD, "corruption": "fog"},
    "online": {**STANDARD, "steps": 1, "n_images": 150, "corruptions": ["fog", "contrast"]},
    "source": {
        "model": "mae-scenes",
        "n_images": 2000,
        "batch_size": 250,
        "corruption": "zoom_blur",
    },
    "adaptation": {
        "model": "wrn-scenes",
        "method": "palm",
        "preset": "cifar10-c",
        "n_images": 300,
        "batch_size": 20,
        "corruptions": ["fog", "contrast", "snow"],
    },
}


def _ratios(
    experiment: str, given: dict[str, Any], folder: Path, rounds: int, budget: float = 5.0
) -> list[float]:
    """Predicted over measured, both in this process, one after the other."""
    found = []
    for k in range(rounds):
        clock = cost.Clock(budget, timer=time.process_time)
        predicted = cost.predict([(experiment, given)], clock, memory=False)["seconds"].item()
        found.append(predicted / _ran(experiment, given, folder / str(k)))
    return sorted(found)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", list(MEASURED))
def test_prediction_is_within_30_per_cent(
    experiment: str, tmp_path: Path, one_thread: None
) -> None:
    _ran(experiment, {**MEASURED[experiment], "n_images": 20}, tmp_path / "warm")
    middle = _ratios(experiment, MEASURED[experiment], tmp_path, 3)[1]
    assert 0.7 < middle < 1.3


def test_prediction_is_near(tmp_path: Path, one_thread: None) -> None:
    given = {**MEASURED["standard"], "n_images": 10, "steps": 4, "batch_size": 4}
    _ran("standard", given, tmp_path / "warm")
    assert any(0.4 < ratio < 2.5 for ratio in _ratios("standard", given, tmp_path, 2, 3.0))


def _call(*words: Any) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(word) for word in words])
    return int(caught.value.code or 0)


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A grid of two experiments and a notebook, expanded; nothing is measured."""
    given = {"n_images": 100, "steps": 10, "corruption": "fog", "evaluate_at": [10]}
    named = [("standard", given)] * 3 + [("notebook 02_x", {"seed": 1})]
    units = [SimpleNamespace(experiment=e, parameters=p) for e, p in named]
    monkeypatch.setattr(plan_command, "_units", lambda path: units)
    monkeypatch.setattr(cost, "Clock", _Fixed)
    monkeypatch.setattr(_Fixed, "worker", lambda self, datasets: 4.0)
    return tmp_path / "grid.yaml"


def test_plan_prints_hours_memory_and_units(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = tmp_path / "plan.csv"
    assert _call("plan", grid, "--workers", "1", "--workers", "3", "--csv", csv) == 0
    out = capsys.readouterr().out
    assert "4 units on CPU" in out or "4 units on NVIDIA" in out
    assert "standard: 3 units" in out and "1 units of notebook 02_x" in out
    seconds = pd.read_csv(csv)["seconds"]
    each = 100 * 10 * 2 + 100 + 50 + 3
    assert seconds.tolist()[:3] == [each] * 3
    rows = {
        line.split()[0]: line.split() for line in out.splitlines() if line.strip()[:1].isdigit()
    }
    assert float(rows["1"][1]) == pytest.approx((3 * each + 4) / 3600, abs=0.01)
    assert float(rows["3"][1]) == pytest.approx((each + 4) / 3600, abs=0.01)
    assert "MB" in " ".join(rows["3"])
    assert _call("plan", grid, "--seconds", "02=36") == 0
    assert "not counted" not in capsys.readouterr().out
    assert _call("plan", grid, "--seconds", "02") == 2


def test_plan_takes_another_device(grid: Path, tmp_path: Path, capsys: Any) -> None:
    bench = tmp_path / "bench_ttt.csv"
    pd.DataFrame({"GFLOP": [2.0], "image steps/s": [50.0]}).to_csv(bench, index=False)
    assert _call("plan", grid, "--bench", bench) == 0
    assert "a device of 1e+11 FLOP/s" in capsys.readouterr().out
    assert _call("plan", grid, "--bench", bench, "--device-flops", "1e12") == 2
    assert "not both" in capsys.readouterr().err
    bench.write_text("a,b\n1,2\n")
    assert _call("plan", grid, "--bench", bench) == 2
