"""Test-time training of one image, to be looked at: in JupyterLab with sliders, or as a figure."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import ipywidgets
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from tttlib import streams
from tttlib.data import ImageSet
from tttlib.evaluate.step_by_step import Steps, adaptation_steps
from tttlib.models import MaskedAutoencoder
from tttlib.plots.one_image import before_and_after, probability_bars
from tttlib.plots.pictures import draw
from tttlib.plots.style import PAGE, pretty

SEVERITIES = (1, 2, 3, 4, 5)
_KEPT = 64  # adapted images that are remembered


class Explorer:
    """Images under corruptions along test-time training, computed when first looked at.

    Parameters
    ----------
    model
        The network to adapt.
    images
        The images; an image is chosen by its position, 0 … len-1.
    corruptions
        Names of the corruptions to choose from.
    steps
        Updates that are made at once, so that moving along them costs nothing.
    batch_size, lr, seed, settings
        For `evaluate.adaptation_steps`.

    Raises
    ------
    ValueError
        For no images, an unknown corruption or fewer than one step.
    """

    def __init__(
        self,
        model: MaskedAutoencoder,
        images: ImageSet,
        corruptions: Sequence[str],
        *,
        steps: int = 10,
        batch_size: int = 8,
        lr: float = 0.003,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        if not len(images) or not corruptions or steps < 1:
            raise ValueError(
                f"exploring needs images, corruptions and steps of 1 or more, got {len(images)} "
                f"images, corruptions {list(corruptions)} and {steps} steps"
            )
        for name in corruptions:
            streams.corrupted(images, [0], name, 5)  # raises what is wrong
        self.model, self.images, self.corruptions = model, images, tuple(corruptions)
        self.steps, self.seed = steps, seed
        self.settings = {"steps": steps, "batch_size": batch_size, "lr": lr, **settings}
        self.adapted = functools.lru_cache(_KEPT)(self._adapted)

    def _adapted(
        self, image: int, corruption: str, severity: float, **changes: Any
    ) -> tuple[Tensor, Steps]:
        """Return the corrupted image [3,H,W] in [0,1] and what TTT on it gave."""
        one, seed = self.images.subset([image]), self.seed
        stream = streams.continual(one, [corruption], severity=severity, batch_size=1, seed=seed)
        corrupted = stream.images()[0]
        identity: dict[str, Any] = {"image_id": int(one.ids[0]), "seed": seed}
        settings = {**self.settings, **changes}
        return corrupted, adaptation_steps(self.model, corrupted, **identity, **settings)

    @property
    def names(self) -> dict[str, int]:
        """What the images are called in a menu -> their positions."""
        classes = self.images.classes
        return {f"{i}: {classes[label]}": i for i, label in enumerate(self.images.labels)}

    def figure(self, image: int, corruption: str, severity: float, step: int) -> Figure:
        """Draw input, masked input, reconstruction, and class probabilities after `step` updates.

        Raises
        ------
        ValueError
            For a step outside 0 … `steps`.
        """
        if not 0 <= step <= self.steps:
            raise ValueError(f"step must be 0 to {self.steps}, not {step}")
        corrupted, adapted = self.adapted(image, corruption, severity)
        figure, axes = plt.subplots(
            1, 4, figsize=(PAGE, 2.1), width_ratios=(1, 1, 1, 1.3), layout="constrained"
        )
        pictures = {
            f"{pretty(corruption)},\nseverity {severity:g}": corrupted,
            "masked": adapted.masked,
            f"step {step}:\nloss {adapted.losses[step]:.3f}": adapted.reconstructions[step],
        }
        for axis, (title, picture) in zip(axes, pictures.items(), strict=False):
            draw(axis, picture)
            axis.set_title(title, fontsize=8)
        label = int(self.images.labels[image])
        rows = {"after": adapted.probabilities[step]}
        probability_bars(axes[3], rows, self.images.classes, label)
        return figure

    def comparison(
        self, image: int, corruption: str, severity: float, lr: float, steps: int, masks: int
    ) -> Figure:
        """Draw `before_and_after` for other settings of test-time training."""
        changes = {"lr": lr, "steps": steps, "batch_size": masks}
        corrupted, adapted = self.adapted(image, corruption, severity, **changes)
        label = int(self.images.labels[image])
        title = f"{pretty(corruption)},\nseverity {severity:g}"
        return before_and_after(corrupted, adapted, self.images.classes, label, title)

    def png(self, image: int, corruption: str, severity: float, step: int) -> bytes:
        """Return `figure` as the content of a PNG file."""
        figure, file = self.figure(image, corruption, severity, step), BytesIO()
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
        plt.close(figure)
        return file.getvalue()

    def widget(self) -> ipywidgets.VBox:
        """Return controls (image, corruption, severity, step) and the picture that follows them."""
        wide = {"layout": ipywidgets.Layout(width="420px")}
        image = ipywidgets.Dropdown(options=[*self.names.items()], description="image", **wide)
        named = [(pretty(name), name) for name in self.corruptions]
        corruption = ipywidgets.Dropdown(options=named, description="corruption", **wide)
        severity = ipywidgets.SelectionSlider(
            options=SEVERITIES, value=5, description="severity", continuous_update=False, **wide
        )
        step = ipywidgets.IntSlider(0, 0, self.steps, description="TTT step", **wide)
        picture = ipywidgets.Image(format="png")
        controls = (image, corruption, severity, step)

        def redraw(change: object = None) -> None:
            picture.value = self.png(*(control.value for control in controls))

        for control in controls:
            control.observe(redraw, names="value")
        redraw()
        return _View([*controls, picture])


class _View(ipywidgets.VBox):
    """A box that says what it is where no widget can be shown."""

    def __repr__(self) -> str:
        return "Controls for image, corruption, severity and TTT step: open in JupyterLab and run."


def explore(
    model: MaskedAutoencoder, images: ImageSet, corruptions: Sequence[str], **settings: Any
) -> ipywidgets.VBox:
    """Return sliders over image, corruption, severity and TTT step; see `Explorer`.

    They need JupyterLab (or another front end with widgets); elsewhere use `Explorer.figure`.
    """
    return Explorer(model, images, corruptions, **settings).widget()
