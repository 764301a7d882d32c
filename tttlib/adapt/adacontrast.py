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

Features are what the last linear layer is given. The online code is followed where it and the paper
differ: no pass over the target set before, one learning rate, views without a random crop.
Known deviations: those of `image_views`; images are not rounded to 256 levels before; the bank is a
ring from the start and holds exactly 16384 (the code's may hold up to B-1 more); only BatchNorm
layers go into training mode, so dropout stays off; a layer that sees one value per channel keeps
its running statistics; what is not finite enters neither bank, ring nor statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tttlib.adapt.common import parameters, ring
from tttlib.adapt.common.adapter import Adapter, TrainingConfig, ViewConfig, everywhere
from tttlib.adapt.common.config import AdamOrSgd, Count, Fraction, NotNegative, Positive
from tttlib.adapt.common.image_views import random_flip, random_view
from tttlib.adapt.common.last_layer import LastLayer
from tttlib.adapt.common.networks import copy_of
from tttlib.adapt.common.running_statistics import moving_statistics, spare_single_values

EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class AdaContrastConfig(TrainingConfig, ViewConfig):
    """Constants; `augment` is the strong view, asked first for the query, then for the key.

    Attributes
    ----------
    weak
        Maps images to a weak view of them; None is a random flip.
    memory_size
        Of ring and bank, in images.
    neighbours
        How many nearest features have their probabilities averaged.
    refine_after
        How many images are seen before labels are refined.
    temperature
        Of L_ins.
    encoder_momentum
        m of the momentum copy.
    """

    lr: NotNegative = 2e-4
    optimizer: AdamOrSgd = "sgd"
    weight_decay: NotNegative = 1e-4
    weak: Callable[[Tensor], Tensor] | None = None
    memory_size: Count = 16384
    neighbours: Count = 10
    refine_after: NotNegative = 1024
    temperature: Positive = 0.07
    encoder_momentum: Fraction = 0.999


class AdaContrast(Adapter, name="adacontrast"):
    """Diagnostics: loss and its parts loss_class, loss_instance, loss_diversity."""

    trains: ClassVar = "weights and biases"
    answer: ClassVar = "of the adapting network, after this batch's update, with running statistics"
    needs = ("several images", "last linear layer")
    presets: ClassVar = everywhere(AdaContrastConfig())

    def configure(self) -> list[str]:
        """Make the momentum copy, the ring and the bank; all weights and biases are trained."""
        self._last = LastLayer(self.model, self.name)
        spare_single_values(self.model)
        self.momentum = self.networks["momentum"] = copy_of(self.model)
        names = parameters.all_weights(self.model)
        self._followers: list[Tensor] = [self.momentum.get_parameter(name) for name in names]
        head = self._last.of(self.model)
        classes = self._last.classes(self.model)
        size, width = self.config.memory_size, head.in_features
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
        """Return the strong view."""
        if self.config.augment is not None:
            return self.config.augment(images)
        return random_view(images, self.generator)

    def step(self, images: Tensor) -> Tensor:
        """Learn from views of the batch, then answer it with the running statistics."""
        self._last.check(self.model, images)  # while running statistics stay
        weak = self.config.weak(images) if self.config.weak else random_flip(images, self.generator)
        query, key = self.augment(images), self.augment(images)
        with moving_statistics(self.model, self.momentum):
            self._learn(weak, query, key)
        with torch.no_grad():
            return self.model(images)

    def _learn(self, weak: Tensor, query: Tensor, key: Tensor) -> None:
        with torch.no_grad():
            # Pseudo-labels of the weak view
            features, logits = self._through(self.model, weak)
            labels = self._pseudo_labels(features, logits)  # [B]
            trust = torch.where(logits.isfinite().all(), 1.0, torch.nan)  # NaN: no update
        features, logits = self._through(self.model, query)
        with torch.no_grad():
            # Momentum copy, and its keys; labels enter the ring before the loss, keys after it
            lag = 1 - self.config.encoder_momentum
            torch._foreach_lerp_(self._followers, self.parameters, lag)
            keys = F.normalize(self._through(self.momentum, key)[0], dim=1)  # [B,D]
            places = ring.next_places(self.memory, "key_at", len(labels), "keys")
            good = keys[-len(places) :].isfinite().all(1)
            ring.replace(self.memory["labels"], places, labels, good)
        losses = {
            "loss_class": F.cross_entropy(logits, labels),
            "loss_instance": self._instance_loss(F.normalize(features, dim=1), keys, labels),
            "loss_diversity": negative_entropy_of_mean(logits),
        }
        loss = torch.stack(list(losses.values())).sum() * trust
        self.learn(loss)
        self.diagnostics = {name: value.detach() for name, value in losses.items()}
        self.diagnostics["loss"] = loss.detach()
        with torch.no_grad():
            ring.replace(self.memory["keys"], places, keys, good)
            self._remember(*self._through(self.momentum, weak))

    def _through(self, network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B,D] and logits [B,C]."""
        features, logits = self._last.through(network, images)
        return features.to(logits.dtype), logits

    def _pseudo_labels(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return labels [B] of the weak view, refined once enough images have been seen."""
        memory, config = self.memory, self.config
        held = min(memory["bank_at"], config.memory_size)
        if memory["seen"] < config.refine_after or not held:
            memory["seen"] += len(features)
            return logits.argmax(1)
        likeness = F.normalize(features, dim=1) @ memory["features"][:held].T  # [B,held]
        nearest = likeness.topk(min(config.neighbours, held)).indices  # [B,neighbours]
        return memory["probabilities"][nearest].mean(1).argmax(1)

    def _instance_loss(self, query: Tensor, keys: Tensor, labels: Tensor) -> Tensor:
        """Return L_ins: the own key against the ring's of other labels."""
        positive = (query * keys).sum(1, keepdim=True)  # [B,1]
        negative = query @ self.memory["keys"].T  # [B,memory_size]
        same = self.memory["labels"] == labels[:, None]
        logits = torch.cat([positive, negative.masked_fill(same, -torch.inf)], 1)
        return F.cross_entropy(logits / self.config.temperature, torch.zeros_like(labels))

    def _remember(self, features: Tensor, logits: Tensor) -> None:
        """Write into the bank; a row that is not finite leaves what was there."""
        places = ring.next_places(self.memory, "bank_at", len(features), "features")
        finite = features.isfinite().all(1) & logits.isfinite().all(1)
        good = finite[-len(places) :]
        ring.replace(self.memory["features"], places, F.normalize(features, dim=1), good)
        ring.replace(self.memory["probabilities"], places, logits.softmax(1), good)


def negative_entropy_of_mean(logits: Tensor) -> Tensor:
    """Return sum_c pbar_c log(pbar_c + 1e-8), least where predictions are spread over classes."""
    mean = logits.softmax(1).mean(0)
    return (mean * torch.log(mean + EPS)).sum()
