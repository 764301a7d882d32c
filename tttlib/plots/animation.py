"""The paths of latents during test-time training as an animation."""

from __future__ import annotations

import base64
import html
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.animation import FuncAnimation, PillowWriter

from tttlib.plots.latents import component
from tttlib.plots.layout import ASIDE
from tttlib.plots.saving import write_caption
from tttlib.plots.style import COLUMN, PALETTE
from tttlib.runtime.files import atomic_write

if TYPE_CHECKING:
    from IPython.display import HTML


def trajectory_animation(table: pd.DataFrame, explained: Sequence[float]) -> FuncAnimation:
    """Animate latents during TTT, one frame per step, colour is the class.

    Lines are the paths so far.

    Parameters
    ----------
    table
        Columns pc1, pc2, step, class, id, as for `trajectories`.
    explained
        Shares of variance of the two components.
    """
    figure, axis = plt.subplots(figsize=(COLUMN * 1.3, COLUMN))
    steps, classes = sorted(table["step"].unique()), list(dict.fromkeys(table["class"]))
    ordered = table.sort_values(["id", "step"])
    xs, ys = (ordered[c].to_numpy().reshape(-1, len(steps)) for c in ("pc1", "pc2"))  # [I,K]
    labels = ordered["class"].to_numpy().reshape(-1, len(steps))[:, 0]
    colors = dict(zip(classes, PALETTE, strict=False))
    paths = [axis.plot([], [], color=colors[c], lw=0.6, alpha=0.5)[0] for c in labels]
    dots = {c: axis.scatter([], [], s=14, color=colors[c], label=c) for c in classes}
    for values, limit in ((xs, axis.set_xlim), (ys, axis.set_ylim)):
        margin = 0.05 * np.ptp(values) + 1e-9
        limit(values.min() - margin, values.max() + margin)
    axis.set(xlabel=component(1, explained), ylabel=component(2, explained))
    axis.legend(**ASIDE, fontsize=7)

    def draw(k: int) -> list:
        for i, path in enumerate(paths):
            path.set_data(xs[i, : k + 1], ys[i, : k + 1])
        for name, dot in dots.items():
            mine = labels == name
            dot.set_offsets(np.column_stack([xs[mine, k], ys[mine, k]]))
        axis.set_title(f"step {steps[k]}")
        return [*paths, *dots.values()]

    return FuncAnimation(figure, draw, frames=len(steps), interval=200)


def save_animation(animation: FuncAnimation, run_dir: str | Path, name: str, caption: str) -> HTML:
    """Write ``<run_dir>/figures/<name>.gif`` and its caption; return it as HTML for a notebook."""
    path = Path(run_dir) / "figures" / f"{name}.gif"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:  # the writer goes by the suffix of the name
        animation.save(Path(folder) / path.name, writer=PillowWriter(fps=5), dpi=100)
        picture = (Path(folder) / path.name).read_bytes()
    with atomic_write(path) as temporary:
        temporary.write_bytes(picture)
    write_caption(path.with_suffix(".txt"), caption)
    plt.close(animation._fig)  # type: ignore[attr-defined]
    data = base64.b64encode(picture).decode()
    from IPython.display import HTML  # here: a machine that only computes may not have it

    return HTML(f'<img alt="{html.escape(caption)}" src="data:image/gif;base64,{data}">')
