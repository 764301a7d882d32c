"""How far the corruptions are from the released scripts' recorded outputs, as one table.

`python tests/corruptions/fidelity.py ORACLES` writes it to tests/goldens/corruption_fidelity.csv
and into the package's page; the test beside it holds the code to it.

Columns, per corruption, size and severity:
  reference max, share   reference mode: largest difference in grey levels, share of values off
  fast max, share        float32 arithmetic with the reference's fields injected
  mean, std, spectrum    own fields: distance of the recorded mean grey level, root mean variance
                         over 64 repeats, and power of the residual in octave bands (the worst),
                         in units of their sampling error, estimated from groups of 64 of ours
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tttlib import corruptions
from tttlib.corruptions import EXTRA_NAMES, NAMES, VARIANT_NAMES, corrupt
from tttlib.corruptions.fields import ReferenceFields
from tttlib.corruptions.recipes import RECIPES

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "goldens" / "corruption_fidelity.csv"
PAGE = HERE.parents[1] / "tttlib" / "corruptions" / "README.md"
GROUPS = 120
REPEATS = 64
ALL = NAMES + EXTRA_NAMES + VARIANT_NAMES
KEYS = ["corruption", "size", "severity"]


def differences(recorded: Mapping[str, np.ndarray], name: str) -> pd.DataFrame:
    """Rows (severity, reference and fast max and share) against recorded outputs."""
    images = _tensor(recorded["inputs"])
    recipe = RECIPES[name]
    rows = []
    outputs = recorded[name.replace("_2018", "__pinned2018")]
    for severity, expected in zip(recorded["severities"].tolist(), outputs, strict=True):
        target = _tensor(expected).int()
        exact = corrupt(images, name, severity, reference=_streams(recorded))
        fields = ReferenceFields(_streams(recorded), dtype=torch.float32)
        y = corruptions._apply(recipe, corruptions._unit(images, torch.float32), fields, severity)
        fast = corruptions._finish(y, torch.uint8, recipe.white)
        row: dict[str, object] = dict(zip(KEYS, (name, images.shape[-1], severity), strict=True))
        for column, found in (("reference", exact), ("fast", fast)):
            off = (found.int() - target).abs()
            row[f"{column} max"] = int(off.max())
            row[f"{column} share"] = float((off > 0).double().mean())
        rows.append(row)
    return pd.DataFrame(rows)


def distances(
    stats: Mapping[str, np.ndarray],
    name: str,
    size: int,
    groups: int = GROUPS,
    severities: Sequence[int] = (1, 3, 5),
) -> pd.DataFrame:
    """Rows (severity, mean, std, spectrum) in sampling errors; see the module."""
    image = _tensor(stats[f"input_{size}"][None])
    rows = []
    for severity in severities:
        key = f"{name}/{size}/s{severity}"
        ours = torch.stack(
            [_statistics(_repeats(image, name, severity, group), image) for group in range(groups)]
        ).double()  # [groups,2+bands]
        mean, std, power = (
            stats[f"{key}/{what}"].astype(np.float64) for what in ("mean", "std", "psd_residual")
        )
        moments = torch.tensor([mean.mean(), np.sqrt((std**2).mean())])
        theirs = torch.cat([moments, _bands(torch.from_numpy(power))])
        error = ours.std(0) * (1 + 1 / groups) ** 0.5
        z = ((theirs - ours.mean(0)) / error).abs()
        rows.append(
            {"corruption": name, "size": size, "severity": severity, "mean": z[0].item(),
             "std": z[1].item(), "spectrum": z[2:].max().item()}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _repeats(image: Tensor, name: str, severity: int, group: int) -> Tensor:
    ids = torch.arange(REPEATS) + REPEATS * group
    return corrupt(image.expand(REPEATS, -1, -1, -1), name, severity, ids=ids)


def _statistics(found: Tensor, image: Tensor) -> Tensor:
    """Mean, root mean variance, power in bands of [64,3,S,S] grey levels: [2+bands]."""
    levels = found.double()
    variance = levels.var(0, correction=0).mean()
    power = torch.fft.fft2((levels - image.double()) / 255).abs().square() / image[0, 0].numel()
    power = power.mean((0, 1))  # [S,S]
    size = power.shape[0]
    k = torch.fft.fftfreq(size, 1 / size)
    ring = torch.hypot(k[:, None], k).round().long()
    half = size // 2
    inside = ring <= half
    total = torch.zeros(half + 1, dtype=torch.float64)
    count = total.clone()
    total.index_add_(0, ring[inside], power[inside])
    count.index_add_(0, ring[inside], torch.ones_like(power[inside]))
    return torch.cat([levels.mean()[None], variance.sqrt()[None], _bands(total / count)])


def _bands(spectrum: Tensor) -> Tensor:
    """Mean power of the octaves 1, 2-3, 4-7, 8-15, … cycles per image."""
    edges = [2**i for i in range(int(np.log2(len(spectrum) - 1)) + 1)]
    return torch.stack([spectrum[low : 2 * low].mean() for low in edges])


def _tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).movedim(-1, 1).contiguous()


def _streams(recorded: Mapping[str, np.ndarray]) -> list[np.random.RandomState]:
    return [np.random.RandomState(int(seed)) for seed in recorded["seeds"]]


def table(oracles: Path) -> pd.DataFrame:
    """The whole table."""
    parts = []
    for size in (32, 64, 224):
        with np.load(oracles / f"corruptions_{size}.npz") as recorded:
            parts += [differences(recorded, name) for name in ALL]
    found = pd.concat(parts)
    with np.load(oracles / "corruption_stats.npz") as stats:
        names = sorted({key.split("/")[0] for key in stats.files if "/" in key})
        parts = [distances(stats, name, size) for name in names for size in (32, 64)]
    return found.merge(pd.concat(parts), on=KEYS, how="left")


def page_table(found: pd.DataFrame) -> str:
    """Worst of the severities, per corruption and size, in Markdown."""
    own = "own fields: mean, std, spectrum (sampling errors)"
    lines = [f"| corruption | size | reference mode | float32, same fields | {own} |"]
    lines.append("|---" * 5 + "|")
    for name in ALL:
        for size in (32, 64, 224):
            rows = found[(found.corruption == name) & (found["size"] == size)]
            cells = [name.replace("_", " ") if size == 32 else "", str(size)]
            for mode in ("reference", "fast"):
                largest, share = rows[f"{mode} max"].max(), rows[f"{mode} share"].max()
                cells.append(f"{largest} / {share:.1e}" if largest else "equal")
            z = rows[["mean", "std", "spectrum"]].max()
            cells.append(", ".join(f"{v:.1f}" for v in z) if z.notna().all() else "")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    table(Path(sys.argv[1])).to_csv(GOLDEN, index=False, float_format="%.3g")
    result = pd.read_csv(GOLDEN)
    before, _, rest = PAGE.read_text().partition("<!-- table -->\n")
    after = rest.partition("<!-- end of table -->")[2]
    PAGE.write_text(f"{before}<!-- table -->\n{page_table(result)}\n<!-- end of table -->{after}")
