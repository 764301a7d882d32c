"""Streams that run together: the rows and units of single runs, resumed by either function."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from torch import nn
from toys import same, scenes, state, toy

from tttlib import evaluate, results, streams, ttt
from tttlib.models import RotationNet
from tttlib.ttt import rotation

SHARED = {"batch_size": 4, "lr": 0.05, "progress": False, "evaluate_every": 2}


def rotator() -> RotationNet:
    net = RotationNet(stem_stride=2).eval()
    net.card = {"name": "toy", "weights_sha256": "0123"}  # type: ignore[assignment]
    return net


@pytest.fixture(params=["mae", "rotation"])
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, ModuleType]:
    return (toy(), ttt) if request.param == "mae" else (rotator(), rotation)


def several() -> list[streams.Stream]:
    """Other corruptions, orders, seeds and lengths; the last one comes again at another rate."""
    made = [
        streams.mixed(scenes(5), ["contrast", "fog"], batch_size=1, seed=3),
        streams.continual(scenes(3), ["fog"], batch_size=1, seed=1),
        streams.consecutive(scenes(4), ["contrast", "clean"], batch_size=1),
    ]
    return [*made, made[-1]]


EACH: list[dict[str, Any]] = [{}, {}, {}, {"lr": 0.2}]


def heldout() -> streams.Stream:
    return streams.mixed(scenes(8).subset([5, 6, 7]), ["contrast"], batch_size=3)


def singly(net: nn.Module, folder: Path, **settings: Any) -> list[pd.DataFrame]:
    """The same by `online`, one after the other."""
    store = results.Store(folder)
    return [
        evaluate.online(net, stream, store=store, heldout=heldout(), **{**SHARED, **own})
        for stream, own in zip(several(), EACH, strict=True)
    ]


def together(net: nn.Module, folder: Path) -> pd.DataFrame:
    return evaluate.online_together(
        net, several(), store=results.Store(folder), each=EACH, heldout=heldout(), **SHARED
    )


def never(*_: object, **__: object) -> None:
    raise AssertionError("ran again")


def test_rows_and_units_are_those_of_single_runs(
    network: tuple[nn.Module, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, module = network
    before = state(net)
    rows = together(net, tmp_path / "a")
    assert same(before, state(net))
    one_by_one = pd.concat(singly(net, tmp_path / "b"), ignore_index=True)
    pd.testing.assert_frame_equal(rows, one_by_one, check_exact=False, rtol=1e-4)
    assert set(rows["part"]) == {"stream", "held-out"} and rows["lr"].nunique() == 2
    names = [sorted(p.name for p in (tmp_path / k).iterdir()) for k in "ab"]
    assert names[0] == names[1] and len(names[0]) == 4
    for name in ("run", "run_streams"):
        monkeypatch.setattr(module, name, never)
    pd.testing.assert_frame_equal(together(net, tmp_path / "a"), rows)
    for again, alone in zip(singly(net, tmp_path / "a"), singly(net, tmp_path / "b"), strict=True):
        pd.testing.assert_frame_equal(again, alone, check_exact=False, rtol=1e-4)


def test_a_killed_run_keeps_the_streams_that_ended(
    network: tuple[nn.Module, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, module = network
    run_streams, given = module.run_streams, []

    def dies(net: nn.Module, arguments: list[dict[str, Any]], **options: Any) -> Any:
        given.append(len(arguments))
        for count, found in enumerate(run_streams(net, arguments, **options)):
            if count == 2:
                raise KeyboardInterrupt
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(module, "run_streams", dies)
        with pytest.raises(KeyboardInterrupt):
            together(net, tmp_path / "a")
        assert len(list((tmp_path / "a").iterdir())) == 2
        patch.setattr(module, "run", never)  # the two that are left run together
        patch.setattr(
            module, "run_streams", lambda *a, **k: given.append(len(a[1])) or run_streams(*a, **k)
        )
        resumed = together(net, tmp_path / "a")
    assert given == [4, 2]
    whole = together(net, tmp_path / "b")
    pd.testing.assert_frame_equal(resumed, whole, check_exact=False, rtol=1e-4)


def test_other_numbers_of_settings_are_refused(tmp_path: Path) -> None:
    for wrong in ({"each": [{}]}, {"heldout": [None] * 3}):
        with pytest.raises(ValueError, match="4 streams need as many entries"):
            evaluate.online_together(
                toy(), several(), store=results.Store(tmp_path), **SHARED, **wrong
            )
    with pytest.raises(ValueError, match=r"needs a MaskedAutoencoder.*, not a Sequential"):
        evaluate.online_together(
            nn.Sequential(), several(), store=results.Store(tmp_path), **SHARED
        )
    assert not list(tmp_path.iterdir())
