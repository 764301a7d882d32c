"""T3A: the last layer's weights are replaced by prototypes of the stream's most certain features.

Paper: Iwasawa and Matsuo, Test-Time Classifier Adjustment Module for Model-Agnostic Domain
Generalization, NeurIPS 2021. The source model runs with its running statistics; f are features,
z = W f + b. Kept are supports s_m with a class k_m and an entropy H_m:
    at the start the rows of W, with z = W s + b, k = argmax z, H = H(softmax(z))
    each batch   add (f_b, argmax z_b, H_b); then of every class keep the K supports of least H
    prototype    w_c = sum_{k_m = c} s_m/|s_m|, divided by its norm; 0 for a class without supports
    answer       w_c . f_b, with f_b as it is and without a bias
The batch's own images are supports already when it is answered.

The paper chooses K for each dataset from {1, 5, 20, 50, 100, all}; 20 is what later comparisons
take for ImageNet-C. Traps: row c of W need not be of class c; keep=-1, "all" in the released code,
drops the least certain support of every class in every batch, and does so here; None keeps all.
Of equal entropies the earlier support stays. Known deviations: features that are not finite are not
kept. Memory grows to C K d numbers; one wait for the device in each batch, to select.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.adapt.common.adapter import Adapter, Config, everywhere
from tttlib.adapt.common.config import Limits
from tttlib.adapt.common.last_layer import LastLayer
from tttlib.adapt.common.losses import entropy


@dataclass(frozen=True, kw_only=True)
class T3AConfig(Config):
    """Constants.

    Attributes
    ----------
    keep
        K; None keeps all, -1 all but one of each class.
    """

    keep: Annotated[int, Limits(-1)] | None = 20


class T3A(Adapter, name="t3a"):
    """Diagnostics: supports, their number, and changed, the share of classes not the source's.

    memory holds supports [M,d], classes [M] and entropies [M], of equal classes side by side from
    the first batch on.
    """

    answer: ClassVar = "of prototypes of the source network's features, this batch's among them"
    needs = ("last linear layer",)
    presets: ClassVar = everywhere(T3AConfig())

    def configure(self) -> list[str]:
        """Begin with the last layer's rows as supports; nothing is trained."""
        if self.config.keep == 0:
            raise ValueError("keep must be 1 or more, None for all, or -1 as released, not 0")
        self._last = LastLayer(self.model, self.name)
        layer = self._last.of(self.model)
        w = layer.weight.detach().to(torch.promote_types(layer.weight.dtype, torch.float32))
        self._classes = len(w)
        z = F.linear(w, w, None if layer.bias is None else layer.bias.detach().to(w))  # [C,C]
        self.memory |= {"supports": w.clone(), "classes": z.argmax(1), "entropies": entropy(z)}
        return []

    @torch.no_grad()
    def step(self, images: Tensor) -> Tensor:
        """Take the batch's features for supports, and answer it."""

        def adjusted(f: Tensor, z: Tensor) -> Tensor:
            self._add(f, z)
            answer = self._compared(f)
            changed = answer.argmax(1) != z.argmax(1)
            self.diagnostics = {
                "supports": changed.new_tensor(len(self.memory["supports"]), dtype=torch.long),
                "changed": changed.to(f.dtype).mean(),
            }
            return answer

        return self._last.through(self.model, images, adjusted)[1]

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Return the logits by the supports as they are."""
        images = self._received(images)
        return self._last.through(self.model, images, lambda f, z: self._compared(f))[1]

    def _add(self, f: Tensor, z: Tensor) -> None:
        """Add features [B,d] with logits z [B,C], and keep the most certain of every class."""
        memory, keep, c = self.memory, self.config.keep, self._classes
        h = entropy(z)
        finite = f.isfinite().all(1) & h.isfinite()
        s = torch.cat([memory["supports"], f.to(memory["supports"])])  # [M+B,d]
        k = torch.cat([memory["classes"], torch.where(finite, z.argmax(1), c)])  # c: nobody's
        h = torch.cat([memory["entropies"], h.to(memory["entropies"])])
        # By class, and by entropy within it; the sorts leave equals in their order
        order = h.argsort(stable=True)
        order = order[k[order].argsort(stable=True)]
        s, k, h = s[order], k[order], h[order]
        number = (k[:, None] == torch.arange(c + 1, device=k.device)).sum(0)  # [C+1]
        place = torch.arange(len(k), device=k.device) - (number.cumsum(0) - number)[k]
        kept = k < c
        if keep is not None:
            kept &= place < (number[k] - 1 if keep == -1 else keep)
        memory |= {"supports": s[kept], "classes": k[kept], "entropies": h[kept]}

    def _compared(self, f: Tensor) -> Tensor:
        """Return logits [B,C] of features [B,d]: products with the prototypes."""
        s, k = self.memory["supports"], self.memory["classes"]
        of_class = F.one_hot(k, self._classes).to(s)  # [M,C]
        prototypes = F.normalize(of_class.T @ F.normalize(s, dim=1), dim=1)  # [C,d]
        return f @ prototypes.to(f).T
