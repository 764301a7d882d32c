"""The view of one image follows its controls, and what is known is not computed again."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image
from tiny_mae import tiny_mae

from tttlib import data, evaluate
from tttlib.models import MaskedAutoencoder
from tttlib.plots import explore

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_classes": 10}
SETTINGS = {"steps": 3, "batch_size": 2, "lr": 0.1}


@pytest.fixture
def net() -> MaskedAutoencoder:
    return tiny_mae(0, torch.float32, **SMALL)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list:
    seen, original = [], evaluate.adaptation_steps

    def counted(*args: object, **kwargs: object) -> object:
        seen.append(kwargs)
        return original(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(explore, "adaptation_steps", counted)
    return seen


def test_every_control_changes_the_picture_and_steps_cost_nothing(
    net: MaskedAutoencoder, calls: list
) -> None:
    widget = explore.explore(net, data.load("scenes", "test", n=4), ["fog", "contrast"], **SETTINGS)
    assert "JupyterLab" in repr(widget)  # all that a page without widgets shows
    image, corruption, severity, step, picture = widget.children

    with Image.open(io.BytesIO(picture.value)) as first:
        assert first.format == "PNG" and first.width > 500
    assert len(calls) == 1
    moves = [(step, 3, 1), (step, 1, 1), (severity, 2, 2), (corruption, "contrast", 3)]
    for control, value, runs in [*moves, (image, 3, 4)]:
        before = picture.value
        control.value = value
        assert picture.value != before, (control, value)
        assert len(calls) == runs
    back = picture.value
    image.value, image.value = 0, 3  # seen before
    assert picture.value == back and len(calls) == 4
    assert calls[0]["image_id"] == 0 and calls[3]["image_id"] == 3


def test_the_figure_says_what_the_network_says(net: MaskedAutoencoder) -> None:
    dataset = data.load("scenes", "test", n=4)
    explorer = explore.Explorer(net, dataset, ["fog"], **SETTINGS)
    figure = explorer.figure(2, "fog", 3, 3)
    image, found = explorer.adapted(2, "fog", 3)
    assert [a.get_title(loc="left") for a in figure.axes[:2]] == ["fog,\nseverity 3", "masked"]
    assert figure.axes[2].get_title(loc="left") == f"step 3:\nloss {found.losses[3]:.3f}"
    drawn = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(drawn, image.permute(1, 2, 0), atol=1e-6)
    widths = [bar.get_width() for bar in figure.axes[3].patches]
    top = 100 * found.probabilities[3].sort(descending=True).values[:5]
    np.testing.assert_allclose(widths[:5], top, atol=1e-4)
    ticks = [label.get_text() for label in figure.axes[3].get_yticklabels()]
    truth = dataset.classes[int(dataset.labels[2])]
    assert ticks.count(f"{truth} ✓") == 1 and len(ticks) in (5, 6)
    with pytest.raises(ValueError, match="0 to 3, not 4"):
        explorer.figure(2, "fog", 3, 4)
    plt.close(figure)


def test_the_comparison_has_settings_of_its_own(net: MaskedAutoencoder, calls: list) -> None:
    dataset = data.load("scenes", "test", n=4)
    explorer = explore.Explorer(net, dataset, ["fog"], optimizer="adamw", **SETTINGS)
    figure = explorer.comparison(1, "fog", 3, lr=0.2, steps=2, masks=4)
    (asked,) = calls
    assert {k: asked[k] for k in ("lr", "steps", "batch_size", "optimizer")} == {
        "lr": 0.2, "steps": 2, "batch_size": 4, "optimizer": "adamw"
    }  # fmt: skip
    _, found = explorer.adapted(1, "fog", 3, lr=0.2, steps=2, batch_size=4)
    assert len(calls) == 1  # remembered
    titles = [axis.get_title(loc="left") for axis in figure.axes[:4]]
    assert titles[0] == "fog,\nseverity 3" and titles[3] == f"after 2:\nloss {found.losses[2]:.4f}"
    assert [*explorer.names.values()] == [0, 1, 2, 3]
    assert [*explorer.names][1] == f"1: {dataset.classes[int(dataset.labels[1])]}"
    plt.close(figure)


def test_no_figure_stays_open_and_memory_is_bounded(
    net: MaskedAutoencoder, calls: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explore, "_KEPT", 2)
    explorer = explore.Explorer(net, data.load("scenes", "test", n=4), ["fog"], **SETTINGS)
    for image in (0, 1, 2, 0):
        explorer.png(image, "fog", 5, 0)
    assert len(calls) == 4 and explorer.adapted.cache_info().currsize == 2
    assert not plt.get_fignums()


def test_what_cannot_be_explored_is_refused(net: MaskedAutoencoder) -> None:
    dataset = data.load("scenes", "test", n=4)
    for names, settings, message in (
        (["fog", "smog"], {}, "unknown corruption 'smog'"),
        ([], {}, "needs images, corruptions and steps"),
        (["fog"], {"steps": 0}, "and 0 steps"),
    ):
        with pytest.raises(ValueError, match=message):
            explore.explore(net, dataset, names, **settings)
