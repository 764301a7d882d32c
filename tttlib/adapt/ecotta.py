"""EcoTTA: small networks beside a frozen one learn, held back by the frozen one's own features.

Paper: Song et al., EcoTTA: Memory-Efficient Continual Test-time Adaptation via Self-distilled
Regularization, CVPR 2023, arXiv 2303.01904. The blocks of the network are cut into K parts, and
each part k gets a meta network:
    x_k = part_k(x~_{k-1}),   x~_k = BN_k(x_k) + ReLU(BN(conv3x3_k(x~_{k-1})))
Warm-up on source images, the network frozen: cross-entropy, SGD. Then for each batch
    L = mean over {b: H(z_b) < 0.4 ln C} of H(z_b) + lambda sum_k mean |x~_k - stopgrad(x_k)|
and one step of the meta networks; logits from before it. All BatchNorm layers use batch statistics.

No official code is public; equations and constants are partly from memory and from a community
implementation, which two_steps=True follows: first the second term, each part by itself, one step;
then, in a second pass, the first term and another step; logits of the second pass.
Cut points: 12 blocks (WRN-28) 2,2,2,2,4 or 2,2,4,4; 16 (ResNet-50) 2,2,4,4,4 or 3,3,5,5 for K = 5
and 4. Other numbers, among them ResNeXt-29's 9, are not the paper's: cut evenly, larger parts last.
Known deviations: lambda 0.5 is from memory (0.25 in the community's code); the warm-up too uses
batch statistics, the community's moves the running ones; of ResNets in torchvision's form the
stem's pooling counts as stem. Networks without a sequence of convolutional blocks have no meaning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, TrainingConfig, at_least, choose
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.image_views import WARM_UP, random_view
from tttlib.adapt.common.losses import reliable_entropy
from tttlib.adapt.common.optimizers import Sgd

CUTS = {
    (12, 5): (2, 2, 2, 2, 4),
    (12, 4): (2, 2, 4, 4),
    (16, 5): (2, 2, 4, 4, 4),
    (16, 4): (3, 3, 5, 5),
}
_BLOCK = re.compile(r"(^|\.)(block\d+\.layer|layer\d+|stage_\d+)\.\d+$")


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """Constants of the warm-up.

    schedule  "steps": times 0.2 after 0.3, 0.6 and 0.8 of the epochs | "cosine": to 0. Both rise
              linearly over the first epoch ("steps") or not at all ("cosine")
    """

    epochs: int = 10
    lr: float = 0.05
    momentum: float = 0.9
    batch_size: int = 64
    schedule: str = "steps"

    def __post_init__(self) -> None:
        at_least("epochs", self.epochs, 0)
        at_least("lr", self.lr, 0)
        at_least("batch_size", self.batch_size, 1)
        choose("schedule", self.schedule, ("steps", "cosine"))

    def rate(self, progress: float) -> float:
        """Learning rate after `progress` epochs."""
        done = progress / max(self.epochs, 1)
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * done)) / 2
        return self.lr * min(progress, 1) * 0.2 ** sum(done >= part for part in (0.3, 0.6, 0.8))


@dataclass(frozen=True, kw_only=True)
class EcottaConfig(TrainingConfig):
    """Constants.

    source          source images for the warm-up: an `ImageSet`, or a callable epoch -> batches,
                    (images [B,3,H,W] in [0,1] or uint8, labels [B]) each, as a list or DataLoader.
                    One that draws random numbers seeds them itself
    warmed          `state_dict()` of an earlier adapter of the same network, instead of `source`:
                    the warm-up is not repeated. `reset` goes back to just after the warm-up
    parts           K, or how many blocks each part has
    blocks          names of the modules to cut between, called one after the other; None: the
                    residual blocks
    margin          in nats, None is 0.4 ln C
    regularisation  lambda
    two_steps       as the community implementation
    warm_up         constants of the warm-up; warm_up_augment replaces its random views
    seed            of meta networks, order and views in the warm-up
    progress        a bar while it warms up
    """

    lr: float = 5e-3
    optimizer: str = "sgd"
    nesterov: bool = False
    source: Any = None
    warmed: Mapping[str, Any] | None = None
    parts: int | Sequence[int] = 5
    blocks: Sequence[str] | None = None
    margin: float | None = None
    regularisation: float = 0.5
    two_steps: bool = False
    warm_up: WarmUp = field(default_factory=WarmUp)
    warm_up_augment: Callable[[Tensor], Tensor] | None = None
    seed: int = 0
    progress: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("regularisation", self.regularisation, 0)


class Ecotta(Adapter, name="ecotta"):
    """The meta networks are `model.meta`. diagnostics: loss, reliable (number of images),
    distance [K] (mean |x~_k - x_k|)."""

    presets: ClassVar = {
        "cifar10-c": EcottaConfig(),
        "cifar100-c": EcottaConfig(),
        "imagenet-c": EcottaConfig(warm_up=WarmUp(epochs=3, batch_size=256, schedule="cosine")),
    }

    def configure(self) -> list[str]:
        config = self.config
        if (config.source is None) == (config.warmed is None):
            raise ValueError(
                "ecotta warms up on source images: pass source=data.load(...), or a callable that "
                "gives batches for an epoch, or warmed=state_dict() of an earlier adapter"
            )
        blocks = list(config.blocks or _residual_blocks(self.model))
        ends = _ends(blocks, config.parts)
        self._inputs: list[Tensor | None] = [None] * len(ends)
        self._distances: list[Tensor] = []
        self._detached = False
        use_batch_statistics(self.model)
        if config.warmed is None:
            first = self._received(next(iter(self._epoch(0)))[0][:2])
            shapes = _shapes(self.model, ends, first)
        else:
            if config.warmed.get("method") != self.name:
                raise ValueError("warmed must be the state_dict() of an ecotta adapter")
            shapes = config.warmed["memory"]["shapes"]
        self.memory["shapes"] = shapes
        meta = nn.ModuleList(MetaNetwork(*shape, self.generator) for shape in shapes)
        self.model.meta = meta.to(next(self.model.parameters())).to(memory_format=self._format)
        use_batch_statistics(self.model)
        for k, (start, end) in enumerate(ends):
            self.model.get_submodule(start).register_forward_pre_hook(self._enter(k))
            self.model.get_submodule(end).register_forward_hook(self._leave(k))
        if config.warmed is None:
            self._warm_up()
        else:
            _take_over(self.model, config.warmed)
        return [n for n in parameters.all_weights(self.model) if n.startswith("meta.")]

    # -- one batch -------------------------------------------------------------------------------

    def step(self, images: Tensor) -> Tensor:
        config = self.config
        assert self.optimizer is not None
        if config.two_steps:
            self._through(images, detached=True)
            self.optimizer.step(self.gradients(config.regularisation * self._distance().sum()))
        logits = self._through(images)
        loss, reliable = reliable_entropy(logits, config.margin)
        distance = self._distance()
        if not config.two_steps:
            loss = loss + config.regularisation * distance.sum()
        self.optimizer.step(self.gradients(loss))
        self.diagnostics = {"loss": loss.detach(), "reliable": reliable.sum()}
        self.diagnostics["distance"] = distance.detach()
        self._forget()
        return logits

    def predict(self, images: Tensor) -> Tensor:
        """The network with its meta networks, as they are."""
        logits = super().predict(images)
        self._forget()
        return logits

    def _through(self, images: Tensor, *, detached: bool = False) -> Tensor:
        """Logits; the parts' distances remain. detached: no gradient passes between parts."""
        self._detached = detached
        try:
            return self.model(images)
        finally:
            self._detached = False

    def _distance(self) -> Tensor:
        """mean |x~_k - stopgrad(x_k)| of each part: [K]."""
        return torch.stack(self._distances)

    def _forget(self) -> None:
        """Let go of the last pass and its graph."""
        self._distances = []
        self._inputs = [None] * len(self._inputs)

    def _enter(self, k: int) -> Callable[..., tuple[Tensor, ...]]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            if k == 0:
                self._forget()
            x = inputs[0].detach() if self._detached else inputs[0]
            self._inputs[k] = x
            return (x, *inputs[1:])

        return hook

    def _leave(self, k: int) -> Callable[..., Tensor]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            meta: MetaNetwork = self.model.meta[k]  # type: ignore[index, assignment]
            changed = meta(output, self._inputs[k])
            self._distances.append((changed - output.detach()).abs().mean())
            return changed

        return hook

    # -- before the stream -----------------------------------------------------------------------

    def _warm_up(self) -> None:
        how = self.config.warm_up
        trained = [p for n, p in self.model.named_parameters() if n.startswith("meta.")]
        for parameter in trained:
            parameter.requires_grad_(True)
        optimizer = Sgd(trained, how.lr, how.momentum, nesterov=False)
        with torch.inference_mode(False), torch.enable_grad():
            for epoch in tqdm(range(how.epochs), "warm-up", disable=not self.config.progress):
                batches = self._epoch(epoch)
                for n, (images, labels) in enumerate(batches, 1):
                    optimizer.lr = how.rate(epoch + n / len(batches))
                    x = self._received(images)
                    augment = self.config.warm_up_augment
                    x = augment(x) if augment else random_view(x, self.generator, WARM_UP)
                    loss = F.cross_entropy(self._through(x), labels.to(x.device))
                    optimizer.step(torch.autograd.grad(loss, trained))
        self._forget()

    def _epoch(self, epoch: int) -> Any:
        """Batches of an epoch: of the callable, or of the image set in a random order."""
        source = self.config.source
        if not callable(source):
            order = torch.randperm(len(source), generator=self.generator)
            return _Shuffled(source, order.split(self.config.warm_up.batch_size))
        batches = source(epoch)
        return batches if hasattr(batches, "__len__") else list(batches)


@dataclass(frozen=True)
class _Shuffled:
    """Batches of an image set."""

    source: Any
    rows: Sequence[Tensor]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in self.rows:
            yield self.source.images[rows], self.source.labels[rows]


class MetaNetwork(nn.Module):
    """BN(x) + ReLU(BN(conv3x3(before))): x is what a part gives, `before` what it was given.

    x [B,outside,h,w], before [B,inside,h*stride,w*stride].
    """

    def __init__(self, inside: int, outside: int, stride: int, random: torch.Generator) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(outside)
        # Its own initialisation would draw from PyTorch's global generator
        self.conv = nn.utils.skip_init(
            nn.Conv2d, inside, outside, 3, stride=stride, padding=1, bias=False
        )
        self.conv_norm = nn.BatchNorm2d(outside)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu", generator=random)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        return self.norm(x) + F.relu(self.conv_norm(self.conv(before)))


def _residual_blocks(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_modules() if _BLOCK.search(name)]


def _ends(blocks: Sequence[str], parts: int | Sequence[int]) -> list[tuple[str, str]]:
    """First and last block of every part."""
    if not blocks:
        raise ValueError(
            "ecotta cuts a sequence of convolutional blocks, which it knows by the names "
            "block1.layer.0, layer1.0 or stage_1.0; this model has none of them. Name those of "
            "another convolutional network with blocks=(...); transformers have no feature maps "
            "to convolve, for them use source, tent or cotta"
        )
    n = len(blocks)
    if isinstance(parts, int):
        k = max(1, min(parts, n))
        parts = CUTS.get((n, k)) or [n // k] * (k - n % k) + [n // k + 1] * (n % k)
    if sum(parts) != n or min(parts) < 1:
        raise ValueError(f"parts {tuple(parts)} must be positive and add up to {n} blocks")
    cuts = [0]
    for size in parts:
        cuts.append(cuts[-1] + size)
    return [(blocks[a], blocks[b - 1]) for a, b in pairwise(cuts)]


@torch.no_grad()
def _shapes(
    model: nn.Module, ends: Sequence[tuple[str, str]], images: Tensor
) -> list[tuple[int, int, int]]:
    """(channels in, channels out, stride) of every part, as measured on images."""
    before: dict[int, Tensor] = {}
    found: dict[int, tuple[int, int, int]] = {}
    handles = []
    for k, (start, end) in enumerate(ends):

        def enter(module: nn.Module, inputs: tuple[Tensor, ...], k: int = k) -> None:
            before[k] = inputs[0]

        def leave(module: nn.Module, inputs: Any, output: Tensor, k: int = k) -> None:
            x = before[k]
            if x.ndim != 4 or output.ndim != 4:
                raise ValueError(
                    f"ecotta needs feature maps [B,C,H,W], but between {ends[k][0]} and "
                    f"{ends[k][1]} there are {list(x.shape)} and {list(output.shape)}"
                )
            found[k] = x.shape[1], output.shape[1], round(x.shape[2] / output.shape[2])

        handles.append(model.get_submodule(start).register_forward_pre_hook(enter))
        handles.append(model.get_submodule(end).register_forward_hook(leave))
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return [found[k] for k in range(len(ends))]


def _take_over(model: nn.Module, state: Mapping[str, Any]) -> None:
    """The meta networks of an earlier adapter as they are in its state."""
    own = model.state_dict()
    other = state["networks"]["model"]
    wrong = [n for n in own if n not in other or own[n].shape != other[n].shape]
    if wrong:
        raise ValueError(f"warmed belongs to another architecture: {', '.join(wrong[:3])} …")
    same = all(torch.equal(own[n].cpu(), other[n].cpu()) for n in own if not n.startswith("meta."))
    if not same:
        raise ValueError(
            "warmed belongs to another network: its frozen weights differ; warm up on source again"
        )
    model.load_state_dict(dict(other))
