"""Rows and diagnoses of a rotation network: those of an autoencoder, by its own task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tttlib import data, evaluate, results, streams
from tttlib.data import ImageSet
from tttlib.models import RotationNet
from tttlib.ttt import rotation

RUN = {"steps": 2, "batch_size": 4, "lr": 0.1, "flip": False}
DOMAINS = ("clean", "contrast")


def model() -> RotationNet:
    torch.manual_seed(0)
    net = RotationNet(stem_stride=2).eval()
    net.mean.fill_(0.5)
    net.std.fill_(0.05)
    net.card = {"name": "toy", "weights_sha256": "0123"}  # type: ignore[assignment]
    return net


def scenes(n: int = 5) -> ImageSet:
    return data.load("scenes", "test", n=n)


def test_rows_of_the_standard_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, store = scenes(), results.Store(tmp_path)
    rows = evaluate.test_time_training(
        model(), dataset, DOMAINS, store=store, seed=3, progress=False, **RUN
    )
    assert len(rows) == 2 * 5 * 3 and (rows["method"] == "TTT-rotation").all()
    batch = next(streams.continual(dataset, ["contrast"], batch_size=5, seed=3))
    expected = rotation.run(model(), batch.images, ids=dataset.ids, seed=3, **RUN)
    some = rows[rows["domain"] == "contrast"]
    predictions = some["prediction"].to_numpy().reshape(5, 3)
    assert np.array_equal(predictions, expected.logits.argmax(-1).numpy())
    losses = some["loss"].to_numpy().reshape(5, 3)[:, :2]
    np.testing.assert_allclose(losses, expected.losses.numpy(), rtol=1e-4)
    monkeypatch.setattr(rotation, "run", lambda *_, **__: pytest.fail("done already"))
    evaluate.test_time_training(
        model(), dataset, DOMAINS, store=store, seed=3, progress=False, **RUN
    )


def test_rows_of_the_online_mode(tmp_path: Path) -> None:
    stream = streams.mixed(scenes(), DOMAINS, batch_size=1)
    heldout = streams.mixed(data.load("scenes", "valid", n=3), ["contrast"], batch_size=1)
    net = model()
    rows = evaluate.online(
        net, stream, store=results.Store(tmp_path), heldout=heldout, evaluate_every=3,
        progress=False, **{**RUN, "steps": 1},
    )  # fmt: skip
    seen = rows[rows["part"] == "stream"]
    assert len(seen) == 5 and (rows["method"] == "online TTT-rotation").all()
    ids = torch.tensor(stream.rows()["id"].to_numpy())
    adapted = model()
    settings = {**RUN, "steps": 1}
    expected = rotation.run(adapted, stream.images(), ids=ids, online=True, **settings)
    assert seen["prediction"].tolist() == expected.logits[:, 1].argmax(-1).tolist()
    assert sorted(rows.loc[rows["part"] == "held-out", "position"].unique()) == [0, 3, 5]
    assert net.conv1.weight.equal(model().conv1.weight)  # the caller's stays


def test_gradient_alignment_is_over_the_shared_trunk() -> None:
    net, images = model(), scenes(2)
    rows = evaluate.gradient_alignment(net, images, DOMAINS)
    assert list(rows["domain"]) == ["clean"] * 2 + ["contrast"] * 2
    image = next(streams.continual(images, ["contrast"], batch_size=2)).images[1]
    trunk = [p for m in (net.conv1, net.block1, net.block2) for p in m.parameters()]
    copies = torch.stack([torch.rot90(image, k, (1, 2)) for k in range(4)])
    rotation_loss = F.cross_entropy(net.rotation_logits(copies), torch.arange(4))
    class_loss = F.cross_entropy(net.classify(image[None]), images.labels[1:2])
    a, b = (
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, trunk)])
        for loss in (rotation_loss, class_loss)
    )
    assert rows.loc[3, "cosine"] == pytest.approx(float(a @ b / (a.norm() * b.norm())), abs=1e-4)
