"""Adaptation along a stream: the rows are the adapter's answers, and a killed run goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tttlib import adapt, data, evaluate, results, streams
from tttlib.evaluate import continual_adaptation as loop
from tttlib.models import zoo

DOMAINS = ["gaussian_noise", "contrast", "clean"]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit of work for each block of the stream below."""
    monkeypatch.setattr(loop, "ARRIVALS_PER_UNIT", 20)


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    return zoo.load("wrn-scenes")


def stream() -> streams.Stream:
    return streams.continual(data.load("scenes", "test", n=20), DOMAINS, batch_size=8)


def run(net: torch.nn.Module, folder: Path, **settings: object) -> evaluate.Adaptation:
    method = settings.pop("method", "palm")
    return evaluate.adaptation(
        net, stream(), method, store=results.Store(folder), progress=False, **settings
    )


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every piece that is computed."""
    pieces, original = [], loop._piece

    def piece(*arguments: Any) -> Any:
        pieces.append(len(pieces))
        return original(*arguments)

    monkeypatch.setattr(loop, "_piece", piece)
    return pieces


def killed(
    monkeypatch: pytest.MonkeyPatch, net: torch.nn.Module, folder: Path, pieces: int
) -> None:
    """A run that dies after so many pieces."""
    original = loop._piece
    left = iter([original] * pieces)

    def piece(*arguments: Any) -> Any:
        try:
            work = next(left)
        except StopIteration:
            raise KeyboardInterrupt from None
        return work(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_piece", piece)
        with pytest.raises(KeyboardInterrupt):
            run(net, folder)


def test_rows_are_the_answers_of_the_adapter(net: torch.nn.Module, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    rows, diagnostics = run(net, tmp_path)
    adapter = adapt.create("palm", net)
    answers = torch.cat([adapter(batch.images).argmax(1) for batch in stream()])
    assert rows["prediction"].tolist() == answers.tolist()
    assert rows["domain"].tolist() == [d for d in DOMAINS for _ in range(20)]
    assert rows["position"].tolist() == list(range(60)) and set(rows["method"]) == {"palm"}
    assert (rows["correct"] == (rows["prediction"] == rows["label"])).all()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    shares = diagnostics[diagnostics["name"] == "share_moving"]
    assert shares["block"].tolist() == [0, 1, 2] and (shares["tensor"] == "").all()
    rates = diagnostics[(diagnostics["name"] == "lr") & (diagnostics["block"] == 0)]
    assert rates["tensor"].tolist() == list(adapter.trained)


@pytest.mark.parametrize("killed_after", [0, 1])
def test_a_killed_run_goes_on_and_gives_the_same(
    net: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    whole, folder = run(net, tmp_path / "whole"), tmp_path / "broken"
    killed(monkeypatch, net, folder, pieces=killed_after + 1)
    (state,) = (folder / "states").iterdir()
    pieces = counted(monkeypatch)
    again = run(net, folder)
    assert len(pieces) == 2 - killed_after
    pd.testing.assert_frame_equal(again.rows, whole.rows)
    pd.testing.assert_frame_equal(again.diagnostics, whole.diagnostics)
    assert not state.exists()
    state.write_bytes(b"left by a run that was killed at its very end")
    run(net, folder)
    assert len(pieces) == 2 - killed_after  # finished: nothing runs again
    assert not state.exists()


def wrong_bytes(state: Path, folder: Path) -> None:
    state.write_bytes(b"\x80\x02 no state")


def cut_short(state: Path, folder: Path) -> None:
    state.write_bytes(state.read_bytes()[:1000])


def nothing_in_it(state: Path, folder: Path) -> None:
    state.write_bytes(b"")


def of_another_network(state: Path, folder: Path) -> None:
    saved = torch.load(state, weights_only=True)
    saved["adapter"] = {"weights": torch.zeros(3)}
    torch.save(saved, state)


def without_entries(state: Path, folder: Path) -> None:
    torch.save({"something": torch.zeros(3)}, state)


def rows_gone(state: Path, folder: Path) -> None:
    next(folder.glob("adaptation-*.parquet")).unlink()


@pytest.mark.parametrize(
    "damage",
    [wrong_bytes, cut_short, nothing_in_it, of_another_network, without_entries, rows_gone],
)
def test_a_state_that_cannot_be_used_is_made_again(
    net: torch.nn.Module,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path, Path], None],
) -> None:
    whole, folder = run(net, tmp_path / "whole").rows, tmp_path / "broken"
    killed(monkeypatch, net, folder, pieces=2)
    (state,) = (folder / "states").iterdir()
    damage(state, folder)
    pieces = counted(monkeypatch)
    pd.testing.assert_frame_equal(run(net, folder).rows, whole)
    assert len(pieces) == 3 and not list((folder / "states").iterdir())
    (record,) = caplog.records
    assert str(state) in record.getMessage() and "\n" not in record.getMessage()


def test_two_runs_of_one_stream_at_once_give_the_same(
    net: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder, original = run(net, tmp_path / "whole").rows, tmp_path / "both", loop._piece
    others: list[pd.DataFrame] = []

    def interrupted(*arguments: Any) -> Any:
        """Between two pieces of the first run, the second one starts and ends."""
        tables = original(*arguments)
        monkeypatch.setattr(loop, "_piece", original)
        others.append(run(net, folder).rows)
        return tables

    monkeypatch.setattr(loop, "_piece", interrupted)
    pd.testing.assert_frame_equal(run(net, folder).rows, whole)
    pd.testing.assert_frame_equal(others[0], whole)
    assert not list((folder / "states").iterdir())


def test_reset_at_every_block_forgets_the_blocks_before(
    net: torch.nn.Module, tmp_path: Path
) -> None:
    kept, reset = run(net, tmp_path, lr=0.01), run(net, tmp_path, lr=0.01, reset="block")
    images = data.load("scenes", "test", n=20)
    alone = streams.continual(images, ["contrast"], batch_size=8)
    expected = evaluate.adaptation(
        net, alone, "palm", store=results.Store(tmp_path), progress=False, lr=0.01
    ).rows
    found = reset.rows[reset.rows["domain"] == "contrast"]
    assert found["prediction"].tolist() == expected["prediction"].tolist()
    assert len(list(tmp_path.glob("adaptation-*.parquet"))) == 3 + 3 + 1
    assert len(kept.rows) == len(reset.rows)


def test_wrong_settings_are_refused(net: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown reset 'batch'; known are never, block"):
        run(net, tmp_path, reset="batch")
    with pytest.raises(ValueError, match="given holds a int"):
        run(net, tmp_path, given={"source": 3})
    with pytest.raises(ValueError, match="unknown method 'pal'"):
        run(net, tmp_path, method="pal")
    assert not list(tmp_path.glob("*"))


def test_pieces_hold_about_so_many_arrivals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "ARRIVALS_PER_UNIT", 15)
    assert list(loop._pieces(stream())) == [[0, 1], [2, 3, 4], [5, 6, 7], [8]]  # 8, 8 and 4 each
    monkeypatch.setattr(loop, "ARRIVALS_PER_UNIT", 1000)
    assert list(loop._pieces(stream())) == [list(range(9))]


@pytest.mark.parametrize("arrivals", [8, 15, 1000])
def test_where_a_stream_is_cut_changes_nothing(
    net: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrivals: int
) -> None:
    expected = run(net, tmp_path / "a", lr=0.01, reset="block").rows
    monkeypatch.setattr(loop, "ARRIVALS_PER_UNIT", arrivals)
    found = run(net, tmp_path / "b", lr=0.01, reset="block").rows
    pd.testing.assert_frame_equal(found.drop(columns="piece"), expected.drop(columns="piece"))


def test_a_method_without_diagnostics(net: torch.nn.Module, tmp_path: Path) -> None:
    rows, diagnostics = run(net, tmp_path, method="source")
    assert len(rows) == 60 and len(diagnostics) == 0


def test_autolr_tells_the_rates_of_its_layers(net: torch.nn.Module, tmp_path: Path) -> None:
    diagnostics = run(net, tmp_path, method="autolr").diagnostics
    rates = diagnostics[(diagnostics["name"] == "rates") & (diagnostics["block"] == 0)]
    layers = adapt.create("autolr", net).layers
    assert rates["tensor"].tolist() == list(layers) and (rates["value"] > 0).all()


@pytest.mark.parametrize(
    "name", ["eta", "sar", "deyo", "roid", "cmf", "lame", "t3a", "neo", "shot"]
)
def test_diagnostics_of_single_images_do_not_stop_a_run(
    name: str, net: torch.nn.Module, tmp_path: Path
) -> None:
    rows, diagnostics = run(net, tmp_path, method=name)  # batches of 8, 8 and 4
    assert len(rows) == 60 and diagnostics["value"].notna().all()
    assert not diagnostics["name"].isin(["logits"]).any()
