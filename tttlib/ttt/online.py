"""Online test-time training: image i starts where image i-1 ended.

`ttt.run(online=True)` is the way in. Online TTT: Sun et al., ICML 2020, section 2, with the
reconstruction loss of Gandelsman et al., NeurIPS 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib.models.mae import MaskedAutoencoder
from tttlib.ttt.anchoring import Brakes
from tttlib.ttt.entrance import to_network
from tttlib.ttt.loop import Part, adapt, predictions, tokens_of
from tttlib.ttt.result import HeldOut, TTTResult, join
from tttlib.ttt.settings import MaskOrders, Settings, trained_parameters
from tttlib.ttt.sgd import StackedOptimizer
from tttlib.ttt.stacked import StackedAutoencoder


def run_online(
    model: MaskedAutoencoder,
    images: Tensor,
    masks: MaskOrders,
    settings: Settings,
    heldout: Tensor | None,
) -> TTTResult:
    """Adapt to `images` [N,3,H,W] one after the other, a stack of one; weights and momenta stay."""
    learner = _Learner(model, settings)
    parts: list[Part] = []
    evaluations = HeldOut()
    try:
        for i in tqdm(
            range(len(images)), "online TTT", unit="image", disable=not settings.progress
        ):
            if heldout is not None and i % settings.evaluate_every == 0:
                evaluations.add(i, learner.classify(heldout))
            if settings.reset_optimizer:
                learner.optimizer.restart()
            image = to_network(images[i : i + 1], model)
            if torch.isfinite(image).all():
                parts.append(learner.learn(image, masks[i : i + 1]))
            else:
                parts.append(learner.skip(image))
        if heldout is not None:
            evaluations.add(len(images), learner.classify(heldout))
    finally:
        learner.brakes.predictor.write_to_model()
    return join(parts, settings.times, evaluations)


class _Learner:
    """The weights of the stream, with what is needed to take back the steps on one image."""

    def __init__(self, model: MaskedAutoencoder, settings: Settings) -> None:
        self.settings = settings
        self.net = StackedAutoencoder(model, trained_parameters(model, settings.finetune), 1)
        self.optimizer = StackedOptimizer(self.net, settings.rule)
        self.brakes = Brakes(self.net, settings.brakes, settings.seed)
        self.before = self.brakes.fresh_copy()

    def learn(self, image: Tensor, orders: Tensor) -> Part:
        """Adapt to one image [1,3,H,W]; a failure leaves the weights before it, or the source's."""
        part = self._steps(image, orders)
        if not part[2]:
            return part
        if torch.isfinite(part[0][0, 0]):  # its own updates made the weights bad
            self._take_back()
            return part
        self.brakes.reset()  # the weights it met were already beyond use
        self.optimizer.restart()
        part = self._steps(image, orders)
        if part[2]:
            self._take_back()
        return (*part[:2], torch.ones(1, dtype=torch.bool), *part[3:])

    def skip(self, image: Tensor) -> Part:
        """Return what an image [1,3,H,W] with non-finite pixels gets: no update."""
        times = self.settings.times
        tokens = tokens_of(self.brakes.predictor, image, self.settings)
        logits, latents = predictions(self.net.model, [tokens] * len(times), self.settings)
        losses = torch.full((1, self.settings.steps), float("nan"))
        part = (losses, logits, torch.ones(1, dtype=torch.bool))
        return (*part, latents) if self.settings.record_latents else part

    @torch.no_grad()
    def classify(self, images: Tensor, batch_size: int = 250) -> Tensor:
        """Return logits [M,C] of images [M,3,H,W] by the weights as they are."""
        self.brakes.predictor.write_to_model()
        model = self.net.model
        with self.settings.precision(model.mean.device):
            batches = (to_network(x, model) for x in images.split(batch_size))
            return torch.cat([model.classify(x).float().cpu() for x in batches])

    def _steps(self, image: Tensor, orders: Tensor) -> Part:
        self.brakes.copy_of_weights(into=self.before)
        return adapt(
            self.net,
            self.optimizer,
            image,
            orders,
            self.settings,
            lambda: self.brakes.set_weights(self.before),
            predictor=self.brakes.predictor,
            after_update=self.brakes.after_update,
        )

    def _take_back(self) -> None:
        self.brakes.set_weights(self.before)
        self.optimizer.restart()
