"""The loop over a stream: rows that mean what they say, finished work that is not done again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from toys import same, scenes, state
from toys import toy as model

from tttlib import corruptions, data, evaluate, results, streams, ttt
from tttlib.data import ImageSet
from tttlib.models import MaskedAutoencoder, zoo

DOMAINS = ("clean", "contrast")
RUN = {"steps": 2, "batch_size": 4, "lr": 0.1}


def adapted(
    folder: Path, dataset: ImageSet, net: MaskedAutoencoder | None = None, **settings: object
) -> pd.DataFrame:
    return evaluate.test_time_training(
        net or model(),
        dataset,
        DOMAINS,
        store=results.Store(folder),
        progress=False,
        **{**RUN, **settings},
    )


# -- rows ------------------------------------------------------------------------------------------


def test_rows(tmp_path: Path) -> None:
    dataset, net = scenes(), model()
    before = state(net)
    rows = adapted(tmp_path, dataset, net)
    assert same(state(net), before)
    assert len(rows) == 2 * 6 * 3
    assert rows[["domain", "id", "step"]].to_numpy().tolist() == [
        [domain, image, step] for domain in DOMAINS for image in range(6) for step in range(3)
    ]
    one = rows[rows.step == 0].groupby("domain", sort=False)
    for _, table in one:
        assert table.label.tolist() == dataset.labels.tolist()
        for name, column in dataset.clusters.items():
            assert table[name].tolist() == column.tolist()
    assert (rows.correct == (rows.prediction == rows.label)).all()
    assert rows.loss.isna().tolist() == (rows.step == 2).tolist()
    assert not rows.failed.any()
    constant = {"steps": 2, "batch_size": 4, "lr": 0.1, "seed": 0, "model": "toy"}
    constant |= {
        "dataset": "scenes",
        "split": "test",
        "weights_sha256": "0123",
        "method": "TTT-MAE",
    }
    for name, value in constant.items():
        assert (rows[name] == value).all(), name


def test_rows_are_those_of_ttt(tmp_path: Path) -> None:
    dataset = scenes()
    rows = adapted(tmp_path, dataset, severity=3, seed=5)
    batch = next(streams.continual(dataset, ["contrast"], severity=3, batch_size=6, seed=5))
    expected = ttt.run(model(), batch.images, seed=5, **RUN)
    rows = rows[rows.domain == "contrast"]
    predictions = rows.prediction.to_numpy().reshape(6, 3)
    assert np.array_equal(predictions, expected.logits.argmax(-1).numpy())
    losses = rows.loss.to_numpy().reshape(6, 3)[:, :2]
    np.testing.assert_allclose(losses, expected.losses.numpy(), rtol=1e-5)


def test_step_zero_is_the_unadapted_model(tmp_path: Path) -> None:
    dataset = scenes(40)
    rows, plain = adapted(tmp_path, dataset), evaluate.predict(model(), dataset, DOMAINS)
    first = rows[rows.step == 0].reset_index(drop=True)
    columns = ["domain", "id", "label", "prediction", "correct", *dataset.clusters]
    pd.testing.assert_frame_equal(first[columns], plain[columns], check_dtype=False)
    assert plain.prediction.nunique() > 1  # a constant would prove nothing
    last = rows[rows.step == 2].reset_index(drop=True)
    assert (last.prediction != first.prediction).any()


def test_predict_does_not_depend_on_the_batch_size() -> None:
    dataset, net = scenes(10), model()
    a, b = (evaluate.predict(net, dataset, DOMAINS, batch_size=size) for size in (3, 250))
    pd.testing.assert_frame_equal(a, b)


def test_a_failed_image_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = streams.Stream.images_of

    def broken(stream: streams.Stream, plan: pd.DataFrame) -> Tensor:
        images = original(stream, plan)
        images[1] = float("nan")
        return images

    monkeypatch.setattr(streams.Stream, "images_of", broken)
    rows = adapted(tmp_path, scenes())
    assert set(rows[rows.failed].id) == {1} and len(rows) == 2 * 6 * 3


# -- units of work ---------------------------------------------------------------------------------


def test_finished_units_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = scenes()
    first = adapted(tmp_path, dataset)

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("ran again")

    monkeypatch.setattr(ttt, "run", never)
    pd.testing.assert_frame_equal(adapted(tmp_path, dataset), first)
    for change in ({"lr": 0.2}, {"seed": 1}, {"severity": 4}):
        with pytest.raises(AssertionError, match="ran again"):
            adapted(tmp_path, dataset, **change)
    other = model()
    other.card["weights_sha256"] = "4567"
    with pytest.raises(AssertionError, match="ran again"):
        adapted(tmp_path, dataset, other)
    with pytest.raises(AssertionError, match="ran again"):
        adapted(tmp_path, dataset.subset([1, 2, 3, 4, 5, 0]))
    monkeypatch.setattr(corruptions, "VERSION", -1)  # other pixels
    with pytest.raises(AssertionError, match="ran again"):
        adapted(tmp_path, dataset)


def test_an_interrupted_run_keeps_its_finished_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, run, calls = scenes(), ttt.run, []

    def second_call_dies(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(ttt, "run", second_call_dies)
    with pytest.raises(KeyboardInterrupt):
        adapted(tmp_path / "a", dataset)
    assert len(list((tmp_path / "a").iterdir())) == 1
    resumed = adapted(tmp_path / "a", dataset)
    assert len(calls) == 3  # the first domain was kept
    pd.testing.assert_frame_equal(resumed, adapted(tmp_path / "b", dataset))


def test_units_of_100_images(tmp_path: Path) -> None:
    dataset = scenes(230)
    rows = evaluate.test_time_training(
        model(),
        dataset,
        ["contrast"],
        store=results.Store(tmp_path),
        progress=False,
        steps=1,
        batch_size=1,
        lr=0.1,
    )
    assert (
        evaluate.standard_ttt.IMAGES_PER_UNIT == 100
        and len(list(tmp_path.glob("ttt-*.parquet"))) == 3
    )
    assert rows.groupby("images", sort=False).size().to_dict() == {100: 400, 30: 60}
    assert rows.id[rows.step == 0].tolist() == list(range(230))
    assert results.load(tmp_path)["git_sha"].notna().all()


def test_results_of_an_image_do_not_depend_on_its_unit(tmp_path: Path) -> None:
    dataset = scenes(6)
    whole = adapted(tmp_path, dataset)
    some = adapted(tmp_path, dataset.subset([4, 2]))
    for image in (4, 2):
        a, b = (t[t.id == image].reset_index(drop=True) for t in (whole, some))
        columns = ["domain", "step", "prediction", "correct"]
        pd.testing.assert_frame_equal(a[columns], b[columns])
        np.testing.assert_allclose(a.loss, b.loss, rtol=1e-4)


# -- latents ---------------------------------------------------------------------------------------


def test_latents() -> None:
    dataset, net = scenes(), model()
    found, rows = evaluate.latents(net, dataset, DOMAINS, batch_size=4)
    assert found.shape == (12, 16) and len(rows) == 12
    assert rows.domain.tolist() == ["clean"] * 6 + ["contrast"] * 6
    assert rows.id.tolist() == [*range(6)] * 2
    assert rows["class"].tolist() == [dataset.classes[i] for i in dataset.labels] * 2
    expected = net.encode(dataset.images.float() / 255).detach().numpy()
    np.testing.assert_allclose(found[:6], expected, atol=1e-5)
    assert np.abs(found[6:] - found[:6]).max() > 1e-3


def test_trajectories_start_at_the_latents() -> None:
    dataset, net = scenes(), model()
    before = state(net)
    found, rows = evaluate.latent_trajectories(net, dataset, DOMAINS, **RUN)
    assert same(state(net), before)
    assert found.shape == (2 * 6 * 3, 16) and len(rows) == len(found)
    assert rows[["domain", "id", "step"]].to_numpy().tolist() == [
        [domain, image, step] for domain in DOMAINS for image in range(6) for step in range(3)
    ]
    expected, _ = evaluate.latents(net, dataset, DOMAINS)
    np.testing.assert_allclose(found[(rows.step == 0).to_numpy()], expected, atol=1e-5)
    assert np.abs(found[(rows.step == 2).to_numpy()] - expected).max() > 1e-3


# -- reconstructions -------------------------------------------------------------------------------


def test_reconstructions() -> None:
    net, dataset = model(), scenes(3)
    before = state(net)
    shown = evaluate.reconstructions(net, dataset, DOMAINS, seed=1, **RUN)
    assert same(state(net), before)
    assert list(shown) == ["input", "masked", "before", "after"]
    assert all(x.shape == (2, 3, 32, 32) and not x.requires_grad for x in shown.values())
    for i, domain in enumerate(DOMAINS):  # image i under domain i
        batch = next(streams.continual(dataset, [domain], batch_size=3, seed=1))
        assert torch.equal(shown["input"][i], batch.images[i])
    hidden = (shown["masked"] == 0.5).all(1, keepdim=True).expand_as(shown["input"])
    assert hidden.float().mean() == pytest.approx(0.75, abs=0.01)
    for name in ("masked", "before", "after"):  # one mask for all
        seen = (shown[name][~hidden], shown["input"][~hidden])
        torch.testing.assert_close(*seen, atol=1e-6, rtol=0)
    assert (shown["before"] - shown["after"])[hidden].abs().max() > 1e-3


def test_reconstructions_are_seeded() -> None:
    def shown(seed: int) -> dict[str, Tensor]:
        return evaluate.reconstructions(model(), scenes(2), DOMAINS, seed=seed, **RUN)

    first, again, other = shown(1), shown(1), shown(2)
    assert all(torch.equal(again[name], value) for name, value in first.items())
    assert not torch.equal(other["masked"] == 0.5, first["masked"] == 0.5)


def test_each_reconstruction_adapts_to_its_own_image_alone() -> None:
    dataset = scenes(2)
    shown = evaluate.reconstructions(model(), dataset, DOMAINS, **RUN)
    first = evaluate.reconstructions(model(), dataset, DOMAINS[:1], **RUN)
    torch.testing.assert_close(first["after"], shown["after"][:1], atol=1e-6, rtol=0)


def test_gradient_alignment_is_the_cosine_of_the_two_gradients() -> None:

    torch.manual_seed(0)
    net = zoo.create("scenes", depth=1, classifier_depth=1, decoder_depth=1).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    images = data.load("scenes", "valid", n=3)
    rows = evaluate.gradient_alignment(net, images, ["clean", "contrast"], masks=2)
    assert list(rows["domain"]) == ["clean"] * 3 + ["contrast"] * 3
    assert set(images.clusters) <= set(rows.columns) and rows["cosine"].between(-1, 1).all()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())

    # one image by hand, over the encoder's named parameters
    image = next(iter(streams.continual(images, ["contrast"], batch_size=3))).images[1:2]
    names = ["blocks", "patch_embed", "cls_token", "norm"]
    chosen = [p for n, p in net.named_parameters() if n.startswith(tuple(names))]
    random = torch.Generator().manual_seed(1)
    loss = net.reconstruction_loss(image.expand(2, -1, -1, -1), generator=random)
    mae = torch.autograd.grad(loss, chosen)
    cross = torch.nn.functional.cross_entropy(net.classify(image), images.labels[1:2])
    other = torch.autograd.grad(cross, chosen)
    a, b = (torch.cat([g.flatten() for g in gs]).double() for gs in (mae, other))
    # the mask token has a reconstruction gradient but none from the head: it adds to one length
    token = torch.autograd.grad(
        net.reconstruction_loss(
            image.expand(2, -1, -1, -1), generator=torch.Generator().manual_seed(1)
        ),
        [net.mask_token],
    )[0]
    expected = (a @ b) / ((a @ a + token.double().square().sum()).sqrt() * b.norm())
    assert rows.loc[4, "cosine"] == pytest.approx(float(expected), abs=1e-5)


# -- streams ---------------------------------------------------------------------------------------


def test_standard_does_not_care_for_the_order_of_the_stream(tmp_path: Path) -> None:
    dataset, store = scenes(8), results.Store(tmp_path)
    shared = {"store": store, "progress": False, **RUN}
    domains = ["zoom_blur", "contrast"]
    mixed = streams.mixed(dataset, domains, batch_size=1)
    rows = evaluate.standard(model(), mixed, **shared)
    files = set(tmp_path.iterdir())
    again = evaluate.standard(
        model(), streams.consecutive(dataset, domains, batch_size=1), **shared
    )
    assert set(tmp_path.iterdir()) == files  # the same units
    key = ["domain", "id", "step"]
    a, b = (t.sort_values(key).reset_index(drop=True) for t in (rows, again))
    pd.testing.assert_frame_equal(a, b)
    assert len(rows) == 8 * 3
    source = evaluate.source(model(), mixed).set_index("id")["prediction"]
    first = rows[rows.step == 0].set_index("id")["prediction"]
    assert first.to_dict() == source.to_dict()


def test_standard_with_a_severity_of_its_own_for_every_image(tmp_path: Path) -> None:
    dataset = scenes(5)
    stream = streams.interpolated(dataset, "contrast", batch_size=1)
    rows = evaluate.standard(model(), stream, store=results.Store(tmp_path), progress=False, **RUN)
    assert len(list(tmp_path.iterdir())) == 1 and len(rows) == 15
    expected = stream.rows().set_index("id")["severity"].to_dict()
    assert rows[rows.step == 1].set_index("id")["severity"].to_dict() == expected


def test_online_rows_are_those_of_ttt(tmp_path: Path) -> None:
    dataset, net = scenes(7), model()
    before = state(net)
    stream = streams.mixed(dataset.subset(range(5)), ["contrast", "fog"], batch_size=1, seed=3)
    heldout = streams.mixed(dataset.subset([5, 6]), ["contrast", "fog"], batch_size=2)
    settings = {"batch_size": 4, "lr": 0.1}
    rows = evaluate.online(
        net, stream, store=results.Store(tmp_path), heldout=heldout, evaluate_every=2,
        progress=False, **settings,
    )  # fmt: skip
    assert same(state(net), before)
    seen = rows[rows.part == "stream"]
    expected = ttt.run(
        model(), stream.images(), ids=torch.tensor(stream.rows()["id"].to_numpy()), seed=3,
        online=True, steps=1, **settings,
    )  # fmt: skip
    assert seen.position.tolist() == [0, 1, 2, 3, 4] and set(seen.step) == {1}
    assert seen.prediction.tolist() == expected.logits[:, 1].argmax(-1).tolist()
    np.testing.assert_allclose(seen.loss, expected.losses[:, 0].numpy(), rtol=1e-5)
    assert (seen.correct == (seen.prediction == seen.label)).all()
    looked = rows[rows.part == "held-out"]
    assert looked.position.tolist() == [0, 0, 2, 2, 4, 4, 5, 5]
    assert set(looked.id) == {5, 6}
    untouched = evaluate.source(net, heldout)["prediction"].tolist()
    assert looked[looked.position == 0].prediction.tolist() == untouched


def test_a_finished_stream_is_not_run_again(tmp_path: Path) -> None:
    stream = streams.mixed(scenes(3), ["contrast"], batch_size=1)
    shared = {"store": results.Store(tmp_path), "progress": False, "batch_size": 2}
    first = evaluate.online(model(), stream, lr=0.1, **shared)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    pd.testing.assert_frame_equal(evaluate.online(model(), stream, lr=0.1, **shared), first)
    evaluate.online(model(), stream, lr=0.1, calm={"pull": 0.1}, **shared)
    assert len(list(tmp_path.iterdir())) == 2
    assert all(p.stat().st_mtime_ns == t for p, t in times.items())
