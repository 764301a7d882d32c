"""DeYO: the entropy of images whose label needs the shape of the object.

Paper: Lee et al., Entropy is not Enough for Test-Time Adaptation: From the Perspective of
Disentangled Factors, ICLR 2024, OpenReview 9w3iw8wDuE. For each batch, with logits z,
p = softmax(z), y = argmax z and H the entropy:
    (1)  reliable: H_b < tau_E
    (2)  x' = destroy(x) of the reliable images, z' = model(x') without gradient
    (3)  PLPD_b = p_b[y_b] - softmax(z'_b)[y_b];   selected: reliable with PLPD_b > tau_P
    (4)  L = mean over the selected of (exp(E_0 - H_b) + exp(PLPD_b)) H_b, weights without gradient
and one step of L; logits from before it. Where nothing is selected there is no step. BatchNorm
layers use batch statistics, those of x' too: of the reliable images alone. The norms of the last
stage are not trained, see `parameters.lower_norms`. To destroy, in images of side n:
    patch      P x P patches, new patch i is old patch perm[i], one permutation an image; the image
               is resized to a multiple of P and back where n is none
    occlusion  a square becomes the image's mean of each channel
    pixel      one permutation of all pixels for the whole batch

Constants are those of a collection of released codes; the official script has tau_P = 0.3 for
ResNet-50 with BatchNorm on ImageNet-C and no Nesterov momentum, and the paper resets the model at
every corruption. Since tau_E > E_0, a weight exp(E_0 - H) may be below 1.
Known deviations: without a given square the occlusion covers the middle half of each side, which is
the official (56, 56, 112) at n = 224. The number of reliable images is read back from the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, TrainingConfig
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.config import Count
from tttlib.adapt.common.losses import entropy, margin_of, mean_over


@dataclass(frozen=True, kw_only=True)
class DeyoConfig(TrainingConfig):
    """Constants.

    Attributes
    ----------
    margin
        tau_E in nats; None is 0.5 ln C.
    weight_margin
        E_0 in nats; None is 0.4 ln C.
    threshold
        tau_P.
    destroy
        How the object's shape is destroyed.
    patches
        P, patches a side.
    permutation
        Of patches, or pixels, row by row: the same for every image; None draws them.
    occlusion
        First row, first column and side of the square in pixels; None is the middle half.
    seed
        Of permutations.
    """

    margin: float | None = None
    weight_margin: float | None = None
    threshold: float = 0.2
    destroy: Literal["patch", "occlusion", "pixel"] = "patch"
    patches: Count = 4
    permutation: Sequence[int] | None = None
    occlusion: tuple[int, int, int] | None = None
    seed: int = 0


class Deyo(Adapter, name="deyo"):
    """Diagnostics: loss; reliable and selected, numbers of images; plpd, their mean if reliable."""

    trains: ClassVar = "scale and shift of normalisation layers before the last stage"
    presets: ClassVar = {
        "cifar10-c": DeyoConfig(),
        "cifar100-c": DeyoConfig(),
        "imagenet-c": DeyoConfig(optimizer="sgd", lr=2.5e-4),
    }

    def configure(self) -> list[str]:
        """Train scale and shift of the norms before the last stage, with batch statistics."""
        use_batch_statistics(self.model)
        return parameters.lower_norms(self.model)

    def step(self, images: Tensor) -> Tensor:
        """Answer a batch and follow the entropy of its selected images."""
        config = self.config
        logits = self.model(images)
        h = entropy(logits)
        # Equation 1: reliable images
        rows = (h < margin_of(logits, config.margin, 0.5)).nonzero().flatten()  # [R]
        zero = torch.zeros_like(h[0].detach())
        self.diagnostics = {"loss": zero, "reliable": torch.tensor(len(rows))}
        self.diagnostics |= {"selected": torch.tensor(0), "plpd": zero}
        if not len(rows):
            return logits
        # Equation 2: what the model says once their shape is destroyed
        with torch.no_grad():
            x = self._destroyed(images[rows])  # [R,3,H,W]
            after = self.model(x.contiguous(memory_format=self._format)).softmax(1)
        # Equation 3: by how much the probability of the label drops
        y = logits[rows].argmax(1, keepdim=True)
        plpd = (logits.detach()[rows].softmax(1) - after).gather(1, y).flatten()  # [R]
        selected = plpd > config.threshold
        # Equation 4: the entropy of those where it does
        h = h[rows]
        sure = (margin_of(logits, config.weight_margin) - h.detach()).exp()
        loss = mean_over((sure + plpd.exp()) * h, selected)
        self.learn(loss, when=selected.any())
        values = {"loss": loss.detach(), "selected": selected.sum(), "plpd": plpd.mean()}
        self.diagnostics |= values
        return logits

    def _destroyed(self, x: Tensor) -> Tensor:
        """Return images [R,3,H,W] without the shape of their objects."""
        if self.config.destroy == "occlusion":
            return self._occluded(x)
        if self.config.destroy == "pixel":
            order = self._permutations(1, x.shape[2] * x.shape[3]).to(x.device)
            return x.flatten(2)[:, :, order[0]].view_as(x)
        return self._shuffled(x)

    def _occluded(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if self.config.occlusion is None:
            rows = slice(height // 4, height - height // 4)
            columns = slice(width // 4, width - width // 4)
        else:
            row, column, side = self.config.occlusion
            if not (0 <= row < height and 0 <= column < width and side > 0):
                raise ValueError(f"occlusion {row, column, side} misses {height} x {width} pixels")
            rows, columns = slice(row, row + side), slice(column, column + side)
        x = x.clone()
        x[:, :, rows, columns] = x.mean((2, 3), keepdim=True)
        return x

    def _shuffled(self, x: Tensor) -> Tensor:
        r, channels, height, width = x.shape
        p = self.config.patches
        h, w = height // p, width // p  # of a patch
        if not h or not w:
            raise ValueError(f"patches is {p}, more than the images' {height} x {width} pixels")
        fits = (h * p, w * p) == (height, width)
        x = x if fits else _resized(x, h * p, w * p)
        patches = x.reshape(r, channels, p, h, p, w).permute(0, 2, 4, 1, 3, 5)  # [R,P,P,3,h,w]
        patches = patches.flatten(1, 2)  # [R,P P,3,h,w]
        order = self._permutations(r, p * p).to(x.device)
        patches = patches.gather(1, order.view(r, -1, 1, 1, 1).expand_as(patches))
        x = patches.view(r, p, p, channels, h, w).permute(0, 3, 1, 4, 2, 5).reshape_as(x)
        return x if fits else _resized(x, height, width)

    def _permutations(self, number: int, length: int) -> Tensor:
        """Return [number,length]: the given permutation again and again, or others."""
        if self.config.permutation is None:
            return torch.rand(number, length, generator=self.generator).argsort(1)
        order = torch.tensor(list(self.config.permutation))
        if not torch.equal(order.sort().values, torch.arange(length)):
            raise ValueError(f"permutation must have each of the numbers 0 to {length - 1} once")
        return order.expand(number, -1)


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x, (height, width), mode="bilinear", antialias=True)
