"""Reading of ctta_modern.npz: what the released classes of the modern methods answered.

A test of a method needs two lines: `oracle = modern_oracle.read(oracles_root)`, and
`oracle.check(case)`, which runs the case through `adapt.create` and compares every batch's answer
and the final tensors. The file's own README says what was recorded and how.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import small_networks as small
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tttlib import adapt

TOLERANCE = 1e-4  # of logits, probabilities and final tensors
# A bias in front of a BatchNorm layer has the gradient 0 but for rounding.
IDLE = ("block3.2.bias", "layer4.2.bias")


class Stages(nn.Module):
    """The network "bn", or "bn4" by other names of its three blocks; w channels."""

    def __init__(self, names: tuple[str, str, str], w: int, classes: int) -> None:
        super().__init__()
        block = small.Recorded._block
        blocks = [block(w, w, bias=False), block(w, 2 * w, stride=2, bias=False)]
        self.names = names
        self.conv1 = nn.Conv2d(3, w, 3, padding=1, bias=False)
        for name, child in zip(names, [*blocks, block(2 * w, 2 * w)], strict=True):
            self.add_module(name, child)
        self.bn = nn.BatchNorm2d(2 * w)
        self.fc = nn.Linear(2 * w, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for name in self.names:
            x = self.get_submodule(name)(x)
        return self.fc(self.bn(x).relu().mean((2, 3)))


class Block(nn.Module):
    """Mixing over the tokens [B,N,D], then over the channels."""

    def __init__(self, d: int, tokens: int) -> None:
        super().__init__()
        self.norm1, self.mix = nn.LayerNorm(d), nn.Linear(tokens, tokens)
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Mixer(nn.Module):
    """The network "ln": patches of 4 pixels, no BatchNorm."""

    def __init__(self, d: int, depth: int, size: int, classes: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, d, 4, stride=4)
        self.blocks = nn.Sequential(*[Block(d, (size // 4) ** 2) for _ in range(depth)])
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)  # [B,N,D]
        return self.head(self.norm(self.blocks(x)).mean(1))


class Difference(NamedTuple):
    """The worst of a case: of its answers, and of its final tensors (0 if none were recorded)."""

    answers: float
    tensors: float


class Oracle:
    """One file of recorded runs.

    Attributes
    ----------
    arrays
        Tensors by the names of the file.
    meta
        Sizes of the networks.
    cases
        Case -> network, method and overrides.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.meta: dict[str, Any] = json.loads(str(file["meta"]))
            names = [name for name in file.files if name != "meta"]
            self.arrays = {name: torch.from_numpy(file[name]) for name in names}
        self.cases: dict[str, dict[str, Any]] = self.meta["cases"]

    # -- what the cases begin with ---------------------------------------------------------------

    def network(self, kind: str) -> nn.Module:
        """Return a trained network: "bn", "bn4" or "ln"."""
        m, weights = self.meta, "init/ln/" if kind == "ln" else "init/bn/"
        start = {
            k.removeprefix(weights): v for k, v in self.arrays.items() if k.startswith(weights)
        }
        if kind == "ln":
            net: nn.Module = Mixer(m["tokens"], m["depth"], m["size"], m["classes"])
        else:
            own = ("block1", "block2", "block3")
            names = own if kind == "bn" else ("layer1", "layer2", "layer4")
            net = Stages(names, m["width"], m["classes"])
            for old, new in zip(own, names, strict=True):
                start = {k.replace(f"{old}.", f"{new}."): v for k, v in start.items()}
        net.load_state_dict(start)
        return net.eval()

    def batches(self, case: str) -> list[Tensor]:
        """Return the images of a case: all of them, or those that MEMO was asked about."""
        every = self.arrays["images"].split(self.arrays["batch_sizes"].tolist())
        if (index := self.arrays.get(f"{case}/index")) is None:
            return list(every)
        return list(torch.stack([every[batch][place] for batch, place in index.tolist()]).split(4))

    def overrides(self, case: str) -> dict[str, Any]:
        """Return the constants of a case, with the objects that they stand for."""
        objects: dict[str, Callable[[Tensor], Tensor] | list[Tensor]] = {
            "@view": self.view,
            "@views": self.views,
            "@source": list(self.arrays["source"]),
        }
        given = self.cases[case]["overrides"]
        return {k: objects[v] if isinstance(v, str) and "@" in v else v for k, v in given.items()}

    def view(self, x: Tensor) -> Tensor:
        """Return the one view of images [B,3,H,W]."""
        noise = self.arrays["view_noise"].to(x)
        return (x.flip(-1) + noise).clamp(0, 1)

    def views(self, x: Tensor) -> Tensor:
        """Return N different views of N copies of an image, [N,3,H,W]."""
        noise, n = self.arrays["view_noise"].to(x), len(x)
        rolled = [(v.flip(-1) if k % 2 else v).roll(k, -1) for k, v in enumerate(x)]
        return torch.stack([(v + noise * k / n).clamp(0, 1) for k, v in enumerate(rolled)])

    # -- runs --------------------------------------------------------------------------------------

    def adapter(self, case: str, device: str = "cpu", **changes: Any) -> adapt.Adapter:
        """Make the method of a case, with its constants but for `changes`."""
        net = self.network(self.cases[case]["network"]).to(device)
        return adapt.create(self.cases[case]["method"], net, **{**self.overrides(case), **changes})

    def check(self, case: str, device: str = "cpu") -> Difference:
        """Run a case and compare everything that was recorded of it; returns how far off it is."""
        adapter = self.adapter(case, device)
        what = "probabilities" if f"{case}/probabilities" in self.arrays else "logits"
        answers = torch.cat([adapter(x.to(device)).cpu() for x in self.batches(case)])
        if what == "probabilities":
            answers = answers.softmax(1)
        worst = _compare(answers, self.arrays[f"{case}/{what}"], f"{case}/{what}")
        found = self._final(adapter, case)
        recorded = [k for k in self.arrays if k.startswith(f"{case}/") and k in found]
        unknown = {k for k in self.arrays if k.startswith(f"{case}/")} - set(recorded)
        assert unknown <= {f"{case}/{part}" for part in (what, "index")}, unknown
        tensors = [_compare(found[k].cpu(), self.arrays[k], k) for k in recorded]
        return Difference(worst, max(tensors, default=0.0))

    @staticmethod
    def _final(adapter: adapt.Adapter, case: str) -> dict[str, Tensor]:
        """Return what a method ends with, by the names of the file."""
        found = {f"{case}/final/{k}": v for k, v in adapter.model.state_dict().items()}
        if teacher := adapter.networks.get("teacher"):
            found |= {f"{case}/teacher/{k}": v for k, v in teacher.state_dict().items()}
        if "centre" in adapter.memory:
            found[f"{case}/centre"] = adapter.memory["centre"]
        return found


@functools.cache
def read(root: Path, name: str = "ctta_modern.npz") -> Oracle:
    """Return the recorded runs of a file in the folder of oracles."""
    return Oracle(root / name)


def _compare(found: Tensor, expected: Tensor, what: str) -> float:
    atol = 1e-2 if what.endswith(IDLE) else TOLERANCE
    torch.testing.assert_close(found, expected, atol=atol, rtol=0, msg=lambda m: f"{what}: {m}")
    return 0.0 if what.endswith(IDLE) else float((found - expected).abs().max())
