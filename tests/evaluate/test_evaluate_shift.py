"""Latents by layer and state, and the units of work made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from toys import toy as model

from tttlib import data, evaluate, results, statistics, streams, ttt
from tttlib.data import ImageSet

DOMAINS = ("fog", "contrast")
RUN = {"steps": 2, "batch_size": 3, "lr": 0.1}


def images(per_class: int = 3) -> ImageSet:
    found = data.load("scenes", "test", n=60)
    return evaluate.of_each_class(found, ["zero", "four"], per_class)


def batch(dataset: ImageSet, domain: str, severity: float = 5) -> Tensor:
    stream = streams.continual(dataset, [domain], severity=severity, batch_size=len(dataset))
    return next(iter(stream)).images


# -- which images ----------------------------------------------------------------------------------


def test_the_same_number_of_images_of_each_class() -> None:
    whole = data.load("scenes", "test", n=100)
    some = evaluate.of_each_class(whole, ["four", 0], 3, seed=1)
    assert some.labels.tolist() == [4, 4, 4, 0, 0, 0]
    assert len(set(some.ids.tolist())) == 6
    alone = evaluate.of_each_class(whole, ["zero"], 3, seed=1)
    assert alone.ids.tolist() == some.ids.tolist()[3:]
    assert evaluate.of_each_class(whole, [0], 3, seed=2).ids.tolist() != alone.ids.tolist()
    every = evaluate.of_each_class(whole, [], 2)
    assert every.labels.tolist() == [i for i in range(10) for _ in range(2)]


@pytest.mark.parametrize("classes", [["eleven"], [10], [-1], ["four", 4]])
def test_classes_that_are_none_are_refused(classes: list) -> None:
    with pytest.raises(ValueError, match=r"it has 10: zero, one|must differ"):
        evaluate.of_each_class(data.load("scenes", "test", n=40), classes, 1)


def test_more_images_than_there_are_are_refused() -> None:
    few = data.load("scenes", "test", n=10)
    with pytest.raises(ValueError, match=r"cannot draw 5 images of class 'zero'.* has \d"):
        evaluate.of_each_class(few, ["zero"], 5)


# -- layers ----------------------------------------------------------------------------------------


def test_tokens_of_every_layer_come_from_one_pass() -> None:
    dataset, net = images(), model()
    found, rows = evaluate.layer_latents(net, dataset, DOMAINS, severity=3, batch_size=4)
    assert found.shape == (12, 3, 16)
    assert rows["domain"].tolist() == ["fog"] * 6 + ["contrast"] * 6
    assert rows["id"].tolist() == dataset.ids.tolist() * 2
    assert set(dataset.clusters) <= set(rows)
    x = batch(dataset, "fog", 3)
    with torch.no_grad():
        tokens = net.patch_embed(net.normalize(x)) + net.pos_embed[:, 1:]
        cls = (net.cls_token + net.pos_embed[:, :1]).expand(len(x), -1, -1)
        tokens = torch.cat([cls, tokens], 1)
        for k, block in enumerate(net.blocks):
            tokens = block(tokens)
            np.testing.assert_allclose(found[:6, k], tokens[:, 0], atol=1e-5)
    last, _ = evaluate.latents(net, dataset, DOMAINS, severity=3)
    np.testing.assert_allclose(found[:, 2], last, atol=1e-5)
    assert not any(m._forward_hooks for m in net.modules())


def test_layers_are_chosen_by_name() -> None:
    dataset, net = images(), model()
    assert evaluate.layer_names(net) == ("block 1", "block 2", "norm")
    assert evaluate.layer_names(net, ["norm", "block 1"]) == ("block 1", "norm")
    every, _ = evaluate.layer_latents(net, dataset, ["fog"])
    some, _ = evaluate.layer_latents(net, dataset, ["fog"], layers=["norm", "block 1"])
    np.testing.assert_allclose(some, every[:, [0, 2]], atol=1e-6)
    with pytest.raises(ValueError, match=r"unknown layer 'block 3'.* block 1, block 2, norm"):
        evaluate.layer_names(net, ["block 3"])


# -- states ----------------------------------------------------------------------------------------


def test_standard_states_are_those_of_ttt() -> None:
    dataset, net = images(), model()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    states, rows = evaluate.adapted_latents(net, dataset, DOMAINS, seed=3, **RUN)
    assert list(states) == ["before", "after"] and states["after"].shape == (12, 16)
    assert rows["domain"].tolist() == ["fog"] * 6 + ["contrast"] * 6
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    stream = streams.continual(dataset, ["contrast"], batch_size=6, seed=3)
    x = next(iter(stream)).images
    alone = ttt.run(net, x[4:5], ids=dataset.ids[4:5], seed=3, record_latents=True, **RUN)
    assert alone.latents is not None
    np.testing.assert_allclose(states["before"][10], alone.latents[0, 0], atol=1e-5)
    np.testing.assert_allclose(states["after"][10], alone.latents[0, -1], atol=1e-5)
    assert np.abs(states["after"] - states["before"]).max() > 1e-3


def test_online_states_follow_one_shuffled_stream_per_domain() -> None:
    dataset, net = images(), model()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    states, _ = evaluate.adapted_latents(net, dataset, DOMAINS, online=True, seed=3, **RUN)
    assert list(states) == ["before", "after", "end of stream"]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    order = torch.randperm(6, generator=torch.Generator().manual_seed(3))
    assert order.tolist() != sorted(order.tolist())  # classes must not arrive one after the other
    for start, domain in ((0, "fog"), (6, "contrast")):
        x = next(iter(streams.continual(dataset, [domain], batch_size=6, seed=3))).images
        other = model()
        how = {"online": True, "seed": 3, "record_latents": True, **RUN}
        found = ttt.run(other, x[order], ids=dataset.ids[order], **how).latents
        assert found is not None
        np.testing.assert_allclose(states["after"][start + order.numpy()], found[:, -1], atol=1e-5)
        end = other.encode(x).detach().numpy()
        np.testing.assert_allclose(states["end of stream"][start : start + 6], end, atol=1e-5)
        clean = model().encode(x).detach().numpy()
        np.testing.assert_allclose(states["before"][start : start + 6], clean, atol=1e-5)


# -- units of work ---------------------------------------------------------------------------------


def units(folder: Path, **change: object) -> dict[str, pd.DataFrame]:
    dataset, net, store = images(), model(), results.Store(folder)
    how = {"store": store, "severity": 4, **change}
    return {
        "map": evaluate.latent_map(net, dataset, DOMAINS, **how),
        "paths": evaluate.latent_paths(net, dataset, "fog", **how, **RUN),
        "variance": evaluate.latent_variance(
            net, dataset, DOMAINS, store=store, severities=(1, 4), progress=False
        ),
        "standard": evaluate.latent_variance_adapted(net, dataset, DOMAINS, **how, **RUN),
        "online": evaluate.latent_variance_adapted(
            net, dataset, DOMAINS, online=True, **how, **RUN
        ),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("units")


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, pd.DataFrame]:
    return units(folder)


def test_the_map_places_reads_and_measures(found: dict[str, pd.DataFrame]) -> None:
    rows, dataset = found["map"], images()
    latents, _ = evaluate.latents(model(), dataset, DOMAINS, severity=4)
    projection = statistics.pca(latents, 2)
    np.testing.assert_allclose(rows[["pc1", "pc2"]], projection.coordinates, atol=1e-4)
    np.testing.assert_allclose(rows[["explained1", "explained2"]].iloc[0], projection.explained)
    for factor, column in (("corruption", "domain"), ("class", "class")):
        read = statistics.separability(latents, rows[column], rows["id"])
        assert rows[f"read_{factor}"].mean() == pytest.approx(read.accuracy)
        assert rows[f"chance_{factor}"].iloc[0] == read.chance
        expected = statistics.silhouette(latents, rows[column])
        assert rows[f"silhouette_{factor}"].mean() == pytest.approx(expected, abs=1e-5)


def test_the_paths_start_where_nothing_was_adapted(found: dict[str, pd.DataFrame]) -> None:
    rows = found["paths"]
    assert rows.groupby("step").size().to_dict() == {0: 6, 1: 6, 2: 6}
    latents, _ = evaluate.latents(model(), images(), ["fog"], severity=4)
    first = rows[rows["step"] == 0].reset_index(drop=True)
    np.testing.assert_allclose(
        first["silhouette"], statistics.silhouette_values(latents, first["class"]), atol=1e-4
    )
    assert rows[["explained1", "explained2"]].nunique().tolist() == [1, 1]


def test_each_domain_is_left_out_in_turn(tmp_path: Path) -> None:
    how = {"store": results.Store(tmp_path), "severity": 4}
    three = [*DOMAINS, "gaussian_noise"]
    rows = evaluate.latent_variance_without(model(), images(), three, **how)
    assert rows["without"].unique().tolist() == three
    latents, points = evaluate.latents(model(), images(), DOMAINS, severity=4)
    expected = statistics.variance_shares(latents, points, resamples=2)["share"]
    got = rows[rows["without"] == "gaussian_noise"]["share"]
    np.testing.assert_allclose(got, expected, atol=1e-5)
    with pytest.raises(ValueError, match="three domains or more"):
        evaluate.latent_variance_without(model(), images(), DOMAINS, **how)


def test_variance_has_every_severity_layer_and_factor(found: dict[str, pd.DataFrame]) -> None:
    rows = found["variance"]
    assert rows.groupby(["severity", "layer"], sort=False).size().to_dict() == {
        (s, layer): 6 for s in (1, 4) for layer in ("block 1", "block 2", "norm")
    }
    shares = rows[rows["factor"] != "corruption - class"]
    sums = shares.groupby(["severity", "layer"])["share"].sum()
    np.testing.assert_allclose(sums, 1)
    latents, points = evaluate.latents(model(), images(), DOMAINS, severity=4)
    expected = statistics.variance_shares(latents, points, resamples=2)["share"]
    got = rows[rows["severity"].eq(4) & rows["layer"].eq("norm")]["share"]
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert not np.allclose(got, rows[rows["severity"].eq(1) & rows["layer"].eq("norm")]["share"])


def test_change_is_state_minus_before(found: dict[str, pd.DataFrame]) -> None:
    for name, states in (("standard", ["after"]), ("online", ["after", "end of stream"])):
        rows = found[name]
        share = rows[rows["kind"] == "share"].pivot(index="factor", columns="state", values="share")
        change = rows[rows["kind"] == "change"]
        assert list(dict.fromkeys(change["state"])) == states
        for state in states:
            mine = change[change["state"] == state].set_index("factor")["share"]
            expected = share[state] - share["before"]
            np.testing.assert_allclose(mine.sort_index(), expected.sort_index(), atol=1e-12)
    assert found["online"]["share"].tolist() != found["standard"]["share"].tolist()


def test_finished_units_are_not_run_again(
    found: dict[str, pd.DataFrame], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("ran again")

    monkeypatch.setattr(streams, "continual", never)
    for name, rows in units(folder).items():
        pd.testing.assert_frame_equal(rows, found[name])
    with pytest.raises(AssertionError, match="ran again"):
        units(folder, seed=1)
    assert len(results.load(folder)) == sum(map(len, found.values()))


# -- one image, step by step -----------------------------------------------------------------------


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 1.0), ("adamw", 0.01)])
def test_steps_are_those_of_ttt(optimizer: str, lr: float) -> None:
    dataset, net = images(), model()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x, image_id = batch(dataset, "fog")[2], int(dataset.ids[2])
    how = {**RUN, "optimizer": optimizer, "lr": lr, "seed": 7}
    got = evaluate.adaptation_steps(net, x, image_id=image_id, **how)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    want = ttt.run(net, x[None], ids=dataset.ids[2:3], **how).logits[0].softmax(-1)
    torch.testing.assert_close(got.probabilities, want, atol=1e-5, rtol=0)
    assert (got.probabilities[0] - got.probabilities[2]).abs().max() > 1e-5
    assert got.reconstructions.shape == (3, 3, 32, 32) and got.losses.shape == (3,)
    hidden = (got.masked == 0.5).all(0).expand_as(x)
    assert hidden.float().mean() == pytest.approx(0.75, abs=0.01)
    torch.testing.assert_close(got.reconstructions[2][~hidden], x[~hidden], atol=1e-5, rtol=0)
    assert (got.reconstructions[2] - got.reconstructions[0])[hidden].abs().max() > 1e-4
