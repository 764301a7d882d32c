"""Figures as functions of tables: one style, no `plt.show`.

Colours are fixed per domain and per method, so that a reader who learned them in one notebook can
read the next. Accuracies enter as fractions in [0,1] and are drawn in per cent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor

from tttlib import corruptions

_PHASES = ("mae", "probe", "joint", "supervised")
COLUMN = 3.4  # width of one text column, inches
PAGE = 7.2  # width of a page, inches

PALETTE = sns.color_palette("colorblind")
_DOMAINS = (
    "clean",
    "gaussian_noise",
    "motion_blur",
    "zoom_blur",
    "contrast",
    "pixelate",
    "defocus_blur",
)
DOMAIN_COLORS = dict(zip(_DOMAINS, ["#555555", *PALETTE[:6]], strict=True))


def use_style() -> None:
    """The study's look; call once at the top of a notebook."""
    sns.set_theme(context="paper", style="whitegrid", palette="colorblind")
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 160,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 9,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
            "grid.linewidth": 0.5,
            "svg.hashsalt": "tttlib",
        }
    )


def save(figure: Figure, run_dir: str | Path, name: str, caption: str) -> Figure:
    """Write `<run_dir>/figures/<name>.png` and its caption beside it; returns the figure."""
    folder = Path(run_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.png"
    figure.savefig(temporary, bbox_inches="tight", metadata={"Software": None})
    (folder / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")
    os.replace(temporary, folder / f"{name}.png")
    plt.close(figure)
    return figure


def save_table(table: pd.DataFrame, run_dir: str | Path, name: str, caption: str) -> pd.DataFrame:
    """Write `<run_dir>/tables/<name>.csv` and its caption beside it; returns the table."""
    folder = Path(run_dir) / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.csv"
    table.to_csv(temporary, index=False)
    (folder / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")
    os.replace(temporary, folder / f"{name}.csv")
    return table


def pretty(name: str) -> str:
    """gaussian_noise -> gaussian noise."""
    return name.replace("_", " ")


# -- accuracies ------------------------------------------------------------------------------------


def accuracy_by_step(
    summary: pd.DataFrame, *, panel: str = "domain", line: str = "model", columns: int = 3
) -> Figure:
    """Accuracy after each step with its interval: one panel per `panel`, one curve per `line`.

    summary  columns step, mean, low, high (fractions), `panel`, `line`
    """
    names = list(dict.fromkeys(summary[panel]))
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(PAGE, 1.9 * rows), sharex=True, squeeze=False
    )
    for axis, name in zip(axes.flat, names, strict=False):
        for i, (label, curve) in enumerate(
            summary[summary[panel] == name].groupby(line, sort=False)
        ):
            _band(axis, curve, PALETTE[i], str(label))
        axis.set_title(pretty(str(name)))
        axis.set_ylim(0, 100)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy, %")
    for axis in axes[-1]:
        axis.set_xlabel("TTT steps")
    if summary[line].nunique() > 1:
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def accuracy_curves(summary: pd.DataFrame, *, line: str, title: str = "") -> Figure:
    """One panel of accuracy by step, one curve with interval per value of `line`."""
    figure, axis = plt.subplots(figsize=(PAGE * 0.62, 2.7))
    for i, (label, curve) in enumerate(summary.groupby(line, sort=False)):
        _band(axis, curve, PALETTE[i], str(label))
    axis.set(xlabel="TTT steps", ylabel="accuracy, %", title=title)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _band(axis: Axes, curve: pd.DataFrame, color: object, label: str) -> None:
    x = curve["step"].to_numpy()
    axis.plot(x, 100 * curve["mean"], color=color, label=label, linewidth=1.4)
    axis.fill_between(x, 100 * curve["low"], 100 * curve["high"], color=color, alpha=0.15, lw=0)


def gains(differences: pd.DataFrame, *, row: str = "domain", hue: str = "model") -> Figure:
    """Paired differences in points with intervals, one line per `row`, dodged by `hue`.

    differences  columns difference, low, high (fractions), `row`, `hue`
    """
    rows, hues = list(dict.fromkeys(differences[row])), list(dict.fromkeys(differences[hue]))
    height = 0.7 + 0.17 * len(rows) * (len(hues) + 0.7)
    figure, axis = plt.subplots(figsize=(PAGE * 0.62, height))
    axis.axvline(0, color="black", linewidth=0.8)
    for i, name in enumerate(hues):
        part = differences[differences[hue] == name].set_index(row).reindex(rows)
        y = np.arange(len(rows)) + (i - (len(hues) - 1) / 2) * 0.7 / max(1, len(hues))
        middle = 100 * part["difference"]
        error = np.abs([middle - 100 * part["low"], 100 * part["high"] - middle])
        axis.errorbar(middle, y, xerr=error, fmt="o", ms=3.5, lw=1.2, color=PALETTE[i], label=name)
    axis.set_yticks(range(len(rows)), [pretty(str(r)) for r in rows])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("accuracy gained by TTT, points (95 % interval, same images)")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


# -- latent space ----------------------------------------------------------------------------------


def training_curves(cards: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Losses of the bundled networks' cards: one panel each, one curve a phase.

    cards  name -> card with `losses` (a list for each phase, means over 50 steps) and `recipe`
    """
    columns = 3
    rows = -(-len(cards) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(PAGE, 1.9 * rows), squeeze=False)
    for axis, (name, card) in zip(axes.flat, cards.items(), strict=False):
        start = 0
        for losses, phase in zip(card["losses"], card["recipe"]["phases"], strict=True):
            steps = 50 * np.arange(start + 1, start + 1 + len(losses))
            color = PALETTE[_PHASES.index(phase["loss"])]
            axis.plot(steps, losses, color=color, label=phase["loss"], linewidth=1.2)
            start += len(losses)
        axis.set_title(name)
        axis.legend()
    for axis in axes.flat[len(cards) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("training loss")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    return figure


def latent_scatter(
    table: pd.DataFrame, explained: Sequence[float], *, styles: str = "class"
) -> Figure:
    """CLS latents on two principal components: colour is the corruption, marker the class.

    table      columns pc1, pc2, domain and `styles`
    explained  shares of variance of the two components
    """
    figure, axis = plt.subplots(figsize=(PAGE * 0.62, 3.4))
    names = list(dict.fromkeys(table[styles]))
    for marker, name in zip("ox^sD", names, strict=False):
        for domain, part in table[table[styles] == name].groupby("domain", sort=False):
            axis.scatter(
                part["pc1"], part["pc2"], s=14, marker=marker, alpha=0.7, linewidths=0.8,
                color=DOMAIN_COLORS.get(domain), label=f"{pretty(domain)}, {name}",
            )  # fmt: skip
    axis.set(xlabel=_component(1, explained), ylabel=_component(2, explained))
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7)
    return figure


def trajectories(table: pd.DataFrame, explained: Sequence[float], steps: Sequence[int]) -> Figure:
    """Latents during TTT on shared axes: one panel per step, colour is the class.

    table  columns pc1, pc2, step, class, id
    """
    figure, axes = plt.subplots(
        1, len(steps), figsize=(PAGE, PAGE / len(steps) + 0.7), sharex=True, sharey=True
    )
    classes = list(dict.fromkeys(table["class"]))
    for axis, step in zip(axes, steps, strict=True):
        for color, name in zip(PALETTE, classes, strict=False):
            mine = table[table["class"] == name]
            for _, path in mine[mine["step"] <= step].groupby("id"):
                axis.plot(path["pc1"], path["pc2"], color=color, linewidth=0.4, alpha=0.35)
            now = mine[mine["step"] == step]
            axis.scatter(now["pc1"], now["pc2"], s=9, color=color, linewidths=0, label=name)
        axis.set_title(f"step {step}")
        axis.set_xlabel(_component(1, explained))
    axes[0].set_ylabel(_component(2, explained))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(classes))
    return figure


def shares(table: pd.DataFrame, *, value: str, chance: str, group: str = "factor") -> Figure:
    """Bars of a share by corruption set for each `group` (colour), with a tick at its chance level.

    table  columns domain_set, `group`, `value`, `chance` (fractions)
    """
    figure, axis = plt.subplots(figsize=(PAGE * 0.8, 2.4))
    groups, sets = list(dict.fromkeys(table[group])), list(dict.fromkeys(table["domain_set"]))
    width = 0.8 / len(groups)
    for i, name in enumerate(groups):
        part = table[table[group] == name].set_index("domain_set").reindex(sets)
        x = np.arange(len(sets)) + (i - (len(groups) - 1) / 2) * width
        axis.bar(x, 100 * part[value], width * 0.9, color=PALETTE[i], label=str(name))
        low, high = x - width * 0.45, x + width * 0.45
        axis.hlines(100 * part[chance], low, high, color="black", lw=1.2)
    axis.set_xticks(range(len(sets)), [fill(str(s), 14) for s in sets], fontsize=7)
    axis.set_ylabel("linear separability, %")
    axis.grid(axis="x", visible=False)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="line: chance")
    return figure


def _component(number: int, explained: Sequence[float]) -> str:
    return f"PC {number} ({100 * explained[number - 1]:.0f} %)"


# -- pictures --------------------------------------------------------------------------------------


def image_grid(columns: Mapping[str, Tensor], row_titles: Sequence[str] = ()) -> Figure:
    """Images [N,3,H,W] in [0,1]: one column per entry, one row per image."""
    n = len(next(iter(columns.values())))
    size = 0.95
    figure, axes = plt.subplots(
        n, len(columns), figsize=(size * len(columns) + 1.0, size * n + 0.25), squeeze=False
    )
    for j, (title, images) in enumerate(columns.items()):
        for i in range(n):
            axis = axes[i, j]
            axis.imshow(images[i].permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.grid(visible=False)
            for spine in axis.spines.values():
                spine.set_visible(False)
            if i == 0:
                axis.set_title(title, fontsize=8, loc="center")
            if j == 0 and i < len(row_titles):
                axis.set_ylabel(pretty(row_titles[i]), fontsize=8)
    return figure


def corruption_gallery(image: Tensor) -> Figure:
    """One image, uint8 [3,H,W], clean and under every corruption (rows) and severity (columns)."""
    names, severities = corruptions.NAMES + corruptions.EXTRA_NAMES, (1, 2, 3, 4, 5)
    rows = [
        torch.cat([image, *(corruptions.corrupt(image[None], name, s)[0] for s in severities)], 2)
        for name in names
    ]
    height, width = image.shape[1:]
    inches = 0.9
    size = (inches * (len(severities) + 1) * width / height + 1.4, inches * len(names) + 0.3)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    axis.imshow(torch.cat(rows, 1).permute(1, 2, 0).numpy())
    axis.set_yticks([height * (i + 0.5) for i in range(len(names))], [pretty(n) for n in names])
    titles = ["clean", *(f"severity {s}" for s in severities)]
    axis.set_xticks([width * (i + 0.5) for i in range(len(titles))], titles)
    axis.xaxis.tick_top()
    axis.tick_params(length=0, labelsize=9)
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure


def y_network() -> Figure:
    """The Y-shaped network: what is trained on the test image (colour) and what stays (grey)."""
    figure, axis = plt.subplots(figsize=(PAGE, 2.6))
    axis.set(xlim=(0, 100), ylim=(0, 40))
    axis.axis("off")
    moving, fixed = PALETTE[1], "#9a9a9a"
    boxes = {
        "test image\n+ mask": (2, 15, 14, 10, None),
        "encoder e\n(trained at test time)": (24, 13, 20, 14, moving),
        "decoder d\n(frozen)": (54, 26, 18, 10, fixed),
        "head h\n(frozen)": (54, 3, 18, 10, fixed),
        "reconstruction\nloss on masked patches": (78, 26, 21, 10, None),
        "class": (78, 3, 21, 10, None),
    }
    for text, (x, y, width, height, color) in boxes.items():
        axis.add_patch(
            FancyBboxPatch(
                (x, y), width, height, boxstyle="round,pad=0.3,rounding_size=1.5",
                facecolor=color or "white", alpha=0.55 if color else 1, edgecolor="black", lw=0.9,
            )
        )  # fmt: skip
        axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8)
    arrows = [
        ((16.6, 20), (23.4, 20), "black"),
        ((44.6, 22), (53.4, 31), "black"),
        ((44.6, 18), (53.4, 8), "black"),
        ((72.6, 31), (77.4, 31), "black"),
        ((72.6, 8), (77.4, 8), "black"),
    ]
    for start, end, color in arrows:
        axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color=color))
    back = FancyArrowPatch(
        (84, 36.8), (34, 27.6), connectionstyle="arc3,rad=0.22", arrowstyle="-|>",
        mutation_scale=11, color=moving, linestyle="--", lw=1.3,
    )  # fmt: skip
    axis.add_patch(back)
    axis.text(40, 37.6, "gradient", color=moving, fontsize=8, ha="center")
    axis.text(48.5, 11, "all patches", fontsize=7, ha="center", rotation=-43)
    axis.text(47.7, 28.6, "visible 25 %", fontsize=7, ha="center", rotation=43)
    return figure
