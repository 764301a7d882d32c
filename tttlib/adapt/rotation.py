"""TTT by rotation on batches: trunk and rotation branch learn by how much views were turned.

Paper: Sun et al., Test-Time Training with Self-Supervision for Generalization under Distribution
Shifts, ICML 2020, arXiv 1909.13231, section 2, here as a method of continual adaptation. For each
batch of different images x_b, trunk e, rotation branch r and class branch h of a `RotationNet`,
with V views of every image, each turned by a random multiple t of 90 degrees:
    L = mean_b mean_v CE(r(e(turn_t(view_v(x_b)))), t),   one step,   z_b = h(e(x_b))
Weights stay from batch to batch, the online form; the answer comes after the update. Views, loss
and trained parameters are those of `tttlib.ttt.rotation`: a stream of single images, with V = 32,
is `ttt.rotation.run(online=True, steps=1)` with its random numbers.

Constants are the released ones: SGD 1e-3 without momentum or decay, views by 4 pixels and flips.
The paper's step sees 32 views of one image. n_views=None takes as many of each image as make up 32
or more in the batch: 32 of one, 1 of each of 200. A batch makes one step where the paper makes one
for each image, so the same rate moves less. Known deviations: a loss that is not finite leaves the
weights as they were, for the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.adapt.common.adapter import Adapter, TrainingConfig, everywhere
from tttlib.adapt.common.config import AdamOrSgd, Count, Limits, NotNegative
from tttlib.models.rotation_net import RotationNet
from tttlib.ttt import rotation
from tttlib.ttt.rotation_views import Views, draw_views, views_of

VIEWS = 32  # of the paper's step


@dataclass(frozen=True, kw_only=True)
class RotationConfig(TrainingConfig):
    """Constants.

    Attributes
    ----------
    n_views
        V; None is 32 divided by the images of the batch, rounded up.
    finetune
        "all" trains trunk and rotation branch, "shared" the trunk alone.
    shift, flip, border
        Of the views, as in `ttt.rotation.run`; use what the network was trained with.
    predict_first
        Whether the answer is from before the update.
    seed
        Of the views: the n-th image of the stream gets those of image n there.
    """

    optimizer: AdamOrSgd = "sgd"
    momentum: NotNegative = 0.0
    nesterov: bool = False
    n_views: Count | None = None
    finetune: Literal["all", "shared"] = "all"
    shift: Annotated[int, Limits(0)] = 4
    flip: bool = True
    border: Literal["black", "mirror"] = "black"
    predict_first: bool = False
    seed: int = 0


class Rotation(Adapter, name="rotation"):
    """Diagnostics: loss, and recognised, the share of views whose turn was, before the update."""

    trains: ClassVar = "trunk and rotation branch"
    answer: ClassVar = "of the adapting network, after this batch's update unless predict_first"
    needs = ("self-supervision",)
    presets: ClassVar = everywhere(RotationConfig())
    model: RotationNet

    def configure(self) -> list[str]:
        """Train what `ttt.rotation.run` does; refuse other networks."""
        self.memory["seen"] = 0  # images
        return list(rotation.trained_parameters(self.model, self.config.finetune))

    def step(self, images: Tensor) -> Tensor:
        """Follow the rotation loss of views of the batch, and answer it.

        Raises
        ------
        ValueError
            For images that cannot be turned or moved by `shift`.
        """
        config, side = self.config, images.shape[-1]
        if images.shape[-2] != side or side <= config.shift:
            raise ValueError(
                f"images to turn must be square and larger than shift ({config.shift}), not "
                f"{list(images.shape[2:])}"
            )
        before = self.predict(images) if config.predict_first else None
        views = self._draw(len(images))
        turned = views_of(images, views, config.shift, config.border).flatten(0, 1)  # [B V,3,H,H]
        logits = self.model.rotation_logits(turned)  # [B V,4]
        turns = views.turns.flatten().to(logits.device)
        loss = F.cross_entropy(logits, turns)
        self.learn(loss)
        recognised = (logits.argmax(1) == turns).to(logits.dtype).mean()
        self.diagnostics = {"loss": loss.detach(), "recognised": recognised}
        return self.predict(images) if before is None else before

    def _draw(self, b: int) -> Views:
        """Draw views [B,V] of the next b images of the stream."""
        config, seen = self.config, self.memory["seen"]
        self.memory["seen"] = seen + b
        number = config.n_views or -(-VIEWS // b)
        how = (1, number, config.shift, config.flip, config.seed)
        drawn = [draw_views(*how, image) for image in range(seen, seen + b)]
        return Views(*(torch.cat(parts) for parts in zip(*drawn, strict=True)))  # [B,V]
