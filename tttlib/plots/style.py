"""One look for every figure."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import seaborn as sns

COLUMN = 3.4  # width of one text column, inches
PAGE = 7.2  # width of a page, inches
PALETTE = sns.color_palette("colorblind")
MARKERS = "osD^vPX*<>hd"
_DOMAINS = (
    "clean", "gaussian_noise", "motion_blur", "zoom_blur", "contrast", "pixelate", "defocus_blur",
)  # fmt: skip
DOMAIN_COLORS = dict(zip(_DOMAINS, ["#555555", *PALETTE[:6]], strict=True))


Look = dict[str, Any]  # keyword arguments of Matplotlib that say how something is drawn


def use_style() -> None:
    """Set the look of the study's figures; call this once at the top of a notebook."""
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


def pretty(name: str) -> str:
    """Return a name as words: gaussian_noise -> gaussian noise."""
    return name.replace("_", " ")
