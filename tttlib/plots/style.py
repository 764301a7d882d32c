"""One look for every figure, and how figures and tables are kept."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

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


_METADATA = {"png": {"Software": None}, "svg": {"Creator": None, "Date": None}}


def save(figure: Figure, run_dir: str | Path, name: str, caption: str) -> Figure:
    """Write `<run_dir>/figures/<name>.png` and its caption beside it; returns the figure.

    A figure that shows no photographs is written as `<name>.svg` too.
    """
    folder = Path(run_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for ending in ("png",) if _photographs(figure) else ("png", "svg"):
        temporary = folder / f".{name}.{ending}"
        figure.savefig(temporary, bbox_inches="tight", metadata=_METADATA[ending])
        os.replace(temporary, folder / f"{name}.{ending}")
    (folder / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")
    plt.close(figure)
    return figure


def _photographs(figure: Figure) -> bool:
    """Whether pixels with colour channels are shown, which no vector format makes smaller."""
    shown = (image.get_array() for axes in figure.axes for image in axes.images)
    return any(pixels is not None and pixels.ndim == 3 for pixels in shown)


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
