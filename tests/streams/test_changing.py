"""Corruptions that change all the time: the walk, the stream, and the tables they rest on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scenes_of import scenes

from tttlib import corruptions, evaluate, streams
from tttlib.models import zoo
from tttlib.streams import changing_orders
from tttlib.streams.stream import SECOND

NAMES = ("fog", "snow", "frost")


def table(alone: dict[str, float], together: float = 0.2) -> pd.DataFrame:
    """Errors at severity 5 by corruption, and how much two add to the larger error of the two."""
    cells = [("", "", 0.0, 0.0, 0.1), *((name, "", 5.0, 0.0, e) for name, e in alone.items())]
    names = list(alone)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            worse = max(alone[first], alone[second]) + together
            cells.append((first, second, 5.0, 5.0, worse))
    made = pd.DataFrame(cells, columns=["first", "second", "severity", SECOND, "error"])
    return made.assign(n=10)


EVEN = table(dict.fromkeys(NAMES, 0.6))


def test_a_walk_moves_one_severity_at_a_time_and_keeps_the_error() -> None:
    # E(s, t) = 0.1 + 0.1 s + 0.1 t - 0.008 s t, so 0.35 is at s = 2.5 alone.
    path = streams.walk(EVEN, "fog", "snow", 0.35)
    assert path[0] == (2.5, 0) and path[-1] == (0, 2.5) and len(path) == 21
    for (s, t), (later_s, later_t) in pairwise(path):
        assert (s - later_s, later_t - t) in [(0.25, 0), (0, 0.25)]
    errors = [0.1 + 0.1 * s + 0.1 * t - 0.008 * s * t for s, t in path]
    assert np.abs(np.array(errors) - 0.35).max() < 0.05
    assert streams.walk(EVEN, "snow", "fog", 0.35)[0] == (2.5, 0)


def test_a_walk_has_the_least_distance_of_all() -> None:
    severities, fine = changing_orders._fine(changing_orders._by_cell(EVEN), "fog", "snow")
    assert severities.tolist() == [k / 4 for k in range(21)]
    assert fine[20, 20] == pytest.approx(0.8) and fine[0, 20] == pytest.approx(0.6)
    best: dict[tuple[int, int], float] = {}

    def least(i: int, j: int) -> float:
        """From fog at i to snow at 4, of the plain recursion; each is 0.25 of a severity."""
        if (i, j) not in best:
            further = ([least(i - 1, j)] if i else []) + ([least(i, j + 1)] if j < 4 else [])
            best[i, j] = abs(fine[i, j] - 0.2) + min(further, default=0.0)
        return best[i, j]

    path = streams.walk(EVEN, "fog", "snow", 0.2)
    found = sum(abs(fine[int(4 * s), int(4 * t)] - 0.2) for s, t in path)
    assert path[0] == (1, 0) and found == pytest.approx(least(4, 0))


def test_corruptions_of_unlike_strength_keep_their_own_severity() -> None:
    uneven = table({"fog": 0.6, "snow": 0.35, "frost": 0.2})
    path = streams.walk(uneven, "snow", "fog", 0.35)
    assert path[0] == (5, 0) and path[-1] == (0, 2.5)
    assert streams.walk(uneven, "frost", "fog", 0.35)[0] == (5, 0)  # the nearest it comes
    reached = streams.changing(scenes(4), uneven, error=0.35, length=30, speed=10, batch_size=5)
    assert set(reached.plan["domain"]) == {"fog+snow"}


def stream(**changes: object) -> streams.Stream:
    settings = {"error": 0.35, "length": 90, "speed": 25, "batch_size": 10, **changes}
    return streams.changing(scenes(12), EVEN, **settings)  # type: ignore[arg-type]


def test_a_stream_fades_from_one_corruption_to_the_next() -> None:
    made = stream()
    plan = made.plan
    assert len(plan) == 90 and plan["block"].value_counts().sort_index().tolist() == [
        25,
        25,
        25,
        15,
    ]
    shown = []  # of each arrival, the severity of every corruption
    for domain, s, t in zip(plan["domain"], plan["severity"], plan[SECOND], strict=True):
        first, second = domain.split("+")
        assert NAMES.index(first) < NAMES.index(second)
        shown.append({name: {first: s, second: t}.get(name, 0.0) for name in NAMES})
    severities = pd.DataFrame(shown)
    assert severities.diff().abs().max(axis=None) <= 0.25
    assert sorted(severities.iloc[0]) == sorted(severities.iloc[24]) == [0, 0, 2.5]
    assert severities.iloc[0].idxmax() != severities.iloc[24].idxmax()
    assert plan["index"].tolist() == [*plan["index"].tolist()[:12]] * 7 + plan["index"].tolist()[:6]
    batches = list(made)
    assert [len(b.images) for b in batches[:3]] == [10, 10, 5]
    assert batches[0].images.shape[1:] == (3, 32, 32)


def test_what_tells_two_such_streams_apart() -> None:
    changes: list[dict[str, object]] = [
        {}, {"seed": 1}, {"error": 0.4}, {"speed": 30}, {"length": 80}, {"domains": NAMES[:2]},
    ]  # fmt: skip
    prints = [stream(**change).fingerprint() for change in changes]
    assert len(set(prints)) == len(prints) and stream().fingerprint() == prints[0]
    assert stream(speed="fast").name == "changing, error 0.35, 1000 images a change"
    assert list(streams.SPEEDS.values()) == [1000, 2000, 5000]


def test_corruptions_come_in_shuffled_rounds() -> None:
    for seed in range(20):
        names = changing_orders._sequence(NAMES, 10, np.random.default_rng(seed))
        assert len(names) == 11 and all(a != b for a, b in pairwise(names))
        assert set(names[:3]) == set(names[3:6]) == set(NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speed": "quick"}, "unknown speed 'quick'; known are fast, medium, slow"),
        ({"speed": 0}, "speed and length must be 1 or more, not 0 and 90"),
        ({"length": 0}, "speed and length must be 1 or more, not 25 and 0"),
        ({"error": 0.9, "domains": NAMES}, "error must lie between 0.1 and 0.8"),
        ({"error": 0.05, "domains": NAMES}, "error must lie between 0.1 and 0.8"),
        ({"error": 0.7}, "two or more corruptions that reach this error, not \\[\\]"),
        ({"domains": ["fog"]}, "two or more corruptions that differ"),
        ({"domains": ["fog", "snow", "fog"]}, "two or more corruptions that differ"),
        ({"domains": ["fog", "contrast"]}, "are not in the calibration table"),
    ],
)
def test_bad_streams_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stream(**change)


def test_bad_tables_are_refused() -> None:
    how = {"error": 0.35, "length": 9, "batch_size": 3}
    with pytest.raises(ValueError, match="needs the column 'n'"):
        streams.changing(scenes(4), EVEN.drop(columns="n"), **how)  # type: ignore[arg-type]
    holed = EVEN[(EVEN["first"] != "snow") | (EVEN["second"] != "")]
    with pytest.raises(ValueError, match=r"lacks \('snow', '', 5.0, 0.0\)"):
        streams.changing(scenes(4), holed, NAMES, **how)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no calibration of 'vgg'; there are .*wrn-scenes"):
        streams.calibration("vgg")


# -- calibration -----------------------------------------------------------------------------------


def test_calibration_counts_the_errors_of_every_cell() -> None:
    net, dataset = zoo.load("wrn-scenes"), scenes(12)
    made = evaluate.calibrate(net, dataset, ("contrast", "fog"), (2, 5), progress=False)
    assert len(made) == 1 + 2 * 2 + 4 and (made["n"] == 12).all()
    assert made.columns.tolist() == ["first", "second", "severity", SECOND, "n", "error"]
    cell = made.set_index(["first", "second", "severity", SECOND])["error"]
    predicted = evaluate.predict(net, dataset, ["contrast"], severity=5)
    assert cell["contrast", "", 5, 0] == pytest.approx(1 - predicted["correct"].mean(), abs=1e-4)
    contrast = corruptions.corrupt(dataset.images, "contrast", 5, ids=dataset.ids)
    both = corruptions.corrupt(contrast, "fog", 2, ids=dataset.ids)
    wrong = (net(both.float() / 255).argmax(1) != dataset.labels).double().mean().item()
    assert cell["contrast", "fog", 5, 2] == pytest.approx(wrong, abs=1e-4)
    how = {"length": 6, "speed": 6, "batch_size": 3, "error": 0.05 + cell["", "", 0, 0]}
    assert len(streams.changing(dataset, made, ("fog", "contrast"), **how).plan) == 6  # type: ignore[arg-type]


@pytest.mark.parametrize("severities", [(), (0, 3), (3, 1), (1, 1), (1, 6)])
def test_calibration_refuses_severities(severities: tuple[float, ...]) -> None:
    net = zoo.load("wrn-scenes")
    with pytest.raises(ValueError, match="severities must rise from 1 or more to 5 or less"):
        evaluate.calibrate(net, scenes(2), ("fog", "snow"), severities)
    with pytest.raises(ValueError, match="a domain occurs twice: fog, fog"):
        evaluate.calibrate(net, scenes(2), ("fog", "fog"))


@pytest.mark.parametrize("name", ["wrn-scenes", "wrn-cifar10-jpeg"])
def test_stored_tables_hold_all_pairs(name: str) -> None:
    stored = streams.calibration(name)
    assert stored["error"].between(0, 1).all() and not stored.isna().any(axis=None)
    pairs = stored[stored["second"] != ""].groupby(["first", "second"]).size()
    assert len(pairs) == 15 * 14 / 2 and pairs.nunique() == 1
    assert set(stored["first"]) == {"", *corruptions.NAMES}
    reached = changing_orders._reaching(changing_orders._by_cell(stored), 0.3)
    assert len(reached) >= 5


def test_the_stored_table_of_scenes_is_that_of_the_network_and_the_corruptions() -> None:
    stored, dataset = streams.calibration("wrn-scenes"), scenes(250)
    n, names = int(stored["n"].iloc[0]), ("impulse_noise", "contrast")
    again = evaluate.calibrate(zoo.load("wrn-scenes"), dataset, names, (5,), progress=False)
    keys = ["first", "second", "severity", SECOND]
    both = again.merge(stored, on=keys, suffixes=("", " stored"))
    assert len(both) == len(again) == 4
    share = both["error"]  # of other images, so within three standard errors
    far = 3 * np.sqrt(share * (1 - share) * (1 / n + 1 / 250)) + 0.02
    assert ((share - both["error stored"]).abs() < far).all()
