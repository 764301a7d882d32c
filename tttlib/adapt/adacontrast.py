"""AdaContrast: contrastive learning with pseudo-labels that nearest neighbours have refined.

Paper: Chen et al., Contrastive Test-Time Adaptation, CVPR 2022, arXiv 2204.10377; here its online
form, as in the published continual benchmarks. For each batch, views w (weak), q and k (strong),
features f and logits z of the student, f' and z' of its momentum copy (m = 0.999):
    y = argmax of the mean probability of the 10 nearest features of the bank (cosine), from the
        second thousand images on (1024); before, y = argmax z(w)
    L = CE(z(q), y) + L_ins + sum_c pbar_c log(pbar_c + 1e-8),   pbar = mean_b softmax(z(q))
    L_ins = CE of [Q.K', Q.M] / 0.07 with K' in place 0; Q = f(q), K' = f'(k), both of length 1;
        M is a ring of 16384 earlier K' with their y; those with y equal to the image's are left out
One step; (f'(w), softmax z'(w)) goes into the bank. All weights and biases are trained. BatchNorm
layers use the statistics of the batch in all of this and move their running ones, with which the
answer is given: it comes after the update, from the images themselves, unlike all other methods'.
So with lr 0 the answers still move with the running statistics.

Features are what the last linear layer is given. Followed is the online code where it and the paper
differ: no pass over the target set before, one learning rate, views without a random crop.
Known deviations: `image_views`; images are not rounded to 256 levels before; the bank is a ring
from the start and holds exactly 16384 (the code's may hold up to B-1 more); only BatchNorm layers
go into training mode, so dropout stays off; a layer that sees one value per channel keeps its
running statistics; what is not finite enters neither bank, ring nor statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, TrainingConfig, ViewConfig, at_least, copy_of
from tttlib.adapt.common.image_views import random_flip, random_view
from tttlib.adapt.common.optimizers import finite

EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class AdaContrastConfig(TrainingConfig, ViewConfig):
    """Constants; `augment` is the strong view, asked first for the query, then for the key.

    weak              images -> weak view of them; a random flip unless given
    memory_size       of ring and bank, in images
    neighbours        whose probabilities are averaged
    refine_after      images without refinement
    temperature       of L_ins
    encoder_momentum  m of the momentum copy
    """

    lr: float = 2e-4
    optimizer: str = "sgd"
    weight_decay: float = 1e-4
    weak: Callable[[Tensor], Tensor] | None = None
    memory_size: int = 16384
    neighbours: int = 10
    refine_after: int = 1024
    temperature: float = 0.07
    encoder_momentum: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("memory_size", "neighbours"):
            at_least(name, getattr(self, name), 1)
        at_least("refine_after", self.refine_after, 0)
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")
        if not 0 <= self.encoder_momentum <= 1:
            raise ValueError(f"encoder_momentum must lie in [0,1], not {self.encoder_momentum}")


class AdaContrast(Adapter, name="adacontrast"):
    """diagnostics: loss, loss_class, loss_instance, loss_diversity."""

    answer: ClassVar = "of the adapting network, after this batch's update, with running statistics"
    presets: ClassVar = dict.fromkeys(
        ("cifar10-c", "cifar100-c", "imagenet-c"), AdaContrastConfig()
    )

    def configure(self) -> list[str]:
        linear = [n for n, m in parameters.classifying(self.model) if isinstance(m, nn.Linear)]
        if not linear:
            raise ValueError(
                "adacontrast compares the features before the last linear layer, and this model "
                "has no linear layer"
            )
        self._head = linear[-1]
        for module in _batch_norms(self.model):
            module.register_forward_pre_hook(_spare_single_values)
        self.momentum = self.networks["momentum"] = copy_of(self.model)
        names = parameters.all_weights(self.model)
        copied = dict(self.momentum.named_parameters())
        self._followers: list[Tensor] = [copied[name] for name in names]
        head = self.model.get_submodule(self._head)
        assert isinstance(head, nn.Linear)
        size, width, classes = self.config.memory_size, head.in_features, head.out_features
        like, random = head.weight.detach(), self.generator
        self.memory |= {
            "keys": F.normalize(torch.randn(size, width, generator=random), dim=1).to(like),  # M
            "labels": torch.randint(classes, (size,), generator=random).to(like.device),
            "key_at": 0,
            "features": like.new_zeros(size, width),
            "probabilities": like.new_zeros(size, classes),
            "bank_at": 0,
            "seen": 0,
        }
        return names

    def augment(self, images: Tensor) -> Tensor:
        """The strong view."""
        if self.config.augment is not None:
            return self.config.augment(images)
        return random_view(images, self.generator)

    # -- one batch -------------------------------------------------------------------------------

    def step(self, images: Tensor) -> Tensor:
        weak = self.config.weak(images) if self.config.weak else random_flip(images, self.generator)
        query, key = self.augment(images), self.augment(images)
        statistics = _Statistics(self.model, self.momentum)
        try:
            self._learn(weak, query, key)
        finally:
            for network in (self.model, self.momentum):
                network.eval()
        statistics.keep_if_finite()
        with torch.no_grad():
            return self.model(images)

    def _learn(self, weak: Tensor, query: Tensor, key: Tensor) -> None:
        for module in (*_batch_norms(self.model), *_batch_norms(self.momentum)):
            module.train()
        with torch.no_grad():
            weakly = self._through(self.model, weak)
            labels = self._pseudo_labels(*weakly)  # [B]
            trust = torch.where(weakly[1].isfinite().all(), 1.0, torch.nan)  # NaN: no update
        features, logits = self._through(self.model, query)
        with torch.no_grad():
            lag = 1 - self.config.encoder_momentum
            torch._foreach_lerp_(self._followers, self.parameters, lag)
            keys = F.normalize(self._through(self.momentum, key)[0], dim=1)  # [B,D]
            places, good = self._write_labels(labels, keys)
        losses = {
            "loss_class": F.cross_entropy(logits, labels),
            "loss_instance": self._instance_loss(F.normalize(features, dim=1), keys, labels),
            "loss_diversity": negative_entropy_of_mean(logits),
        }
        loss = torch.stack(list(losses.values())).sum() * trust
        assert self.optimizer is not None
        self.optimizer.step(self.gradients(loss))
        self.diagnostics = {name: value.detach() for name, value in losses.items()}
        self.diagnostics["loss"] = loss.detach()
        with torch.no_grad():
            self._replace("keys", places, keys[-len(places) :], good)
            self._remember(*self._through(self.momentum, weak))

    def _through(self, network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B,D] and logits [B,C]."""
        seen: list[Tensor] = []
        head = network.get_submodule(self._head)
        with head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0])):
            logits = network(images)
        if len(seen) != 1 or seen[0].ndim != 2 or logits.ndim != 2:
            raise ValueError(
                f"adacontrast takes the last linear layer, {self._head}, for the classifier; here "
                f"it is called {len(seen)} times or not with features [B,D]"
            )
        return seen[0], logits

    def _pseudo_labels(self, features: Tensor, logits: Tensor) -> Tensor:
        """Labels [B] of the weak view, refined once enough images have been seen."""
        memory, config = self.memory, self.config
        held = min(memory["bank_at"], config.memory_size)
        if memory["seen"] < config.refine_after or not held:
            memory["seen"] += len(features)
            return logits.argmax(1)
        likeness = F.normalize(features, dim=1) @ memory["features"][:held].T  # [B,held]
        nearest = likeness.topk(min(config.neighbours, held)).indices  # [B,neighbours]
        return memory["probabilities"][nearest].mean(1).argmax(1)

    def _instance_loss(self, query: Tensor, keys: Tensor, labels: Tensor) -> Tensor:
        positive = (query * keys).sum(1, keepdim=True)  # [B,1]
        negative = query @ self.memory["keys"].T  # [B,memory_size]
        same = self.memory["labels"] == labels[:, None]
        logits = torch.cat([positive, negative.masked_fill(same, -torch.inf)], 1)
        return F.cross_entropy(logits / self.config.temperature, torch.zeros_like(labels))

    # -- ring and bank ---------------------------------------------------------------------------

    def _write_labels(self, labels: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Labels into the ring before the loss, their keys only after it: where, and which rows."""
        places = self._places("key_at", len(labels))
        good = keys[-len(places) :].isfinite().all(1)
        self._replace("labels", places, labels[-len(places) :], good)
        return places, good

    def _remember(self, features: Tensor, logits: Tensor) -> None:
        """Into the bank; a row that is not finite leaves what was there."""
        places = self._places("bank_at", len(features))
        features, logits = features[-len(places) :], logits[-len(places) :]
        good = features.isfinite().all(1) & logits.isfinite().all(1)
        self._replace("features", places, F.normalize(features, dim=1), good)
        self._replace("probabilities", places, logits.softmax(1), good)

    def _places(self, pointer: str, rows: int) -> Tensor:
        """Where the last of `rows` rows go in a ring; moves its pointer."""
        size, start = self.config.memory_size, self.memory[pointer]
        self.memory[pointer] = start + rows
        kept = min(rows, size)
        device = self.memory["keys"].device
        return torch.arange(start + rows - kept, start + rows, device=device) % size

    def _replace(self, name: str, places: Tensor, rows: Tensor, good: Tensor) -> None:
        old = self.memory[name][places]
        wide = good.view(-1, *[1] * (rows.ndim - 1))
        self.memory[name].index_copy_(0, places, torch.where(wide, rows, old))


class _Statistics:
    """Running statistics of networks as they are now, to go back to."""

    def __init__(self, *networks: nn.Module) -> None:
        self.buffers = [
            buffer
            for network in networks
            for module in _batch_norms(network)
            for buffer in (module.running_mean, module.running_var)
            if buffer is not None
        ]
        self.before = [buffer.clone() for buffer in self.buffers]

    @torch.no_grad()
    def keep_if_finite(self) -> None:
        """Undo what has happened since if that is not finite, without asking the device."""
        if not self.buffers:
            return
        ok = finite(self.buffers)
        kept = [torch.where(ok, b, old) for b, old in zip(self.buffers, self.before, strict=True)]
        torch._foreach_copy_(self.buffers, kept)


def _batch_norms(network: nn.Module) -> list[_BatchNorm]:
    return [m for m in network.modules() if isinstance(m, _BatchNorm)]


def _spare_single_values(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """A batch with one value per channel has no variance: running statistics instead."""
    if module.training and inputs[0].numel() == inputs[0].shape[1]:
        module.eval()


def negative_entropy_of_mean(logits: Tensor) -> Tensor:
    """sum_c pbar_c log(pbar_c + 1e-8), least where the batch's predictions are spread evenly."""
    mean = logits.softmax(1).mean(0)
    return (mean * torch.log(mean + EPS)).sum()
