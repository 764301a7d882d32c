"""Online test-time training: image i starts where image i-1 ended, in one stream or in several.

`ttt.run(online=True)` and `ttt.run_streams` are the ways in. Online TTT: Sun et al., ICML 2020,
section 2, with the reconstruction loss of Gandelsman et al., NeurIPS 2022.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tttlib.models.mae import MaskedAutoencoder
from tttlib.ttt.anchoring import Brakes
from tttlib.ttt.arrivals import OnlineStream, advance, stacks_of
from tttlib.ttt.batching import fitting, images_at_once
from tttlib.ttt.entrance import to_network
from tttlib.ttt.loop import Part, adapt, predictions, tokens_of
from tttlib.ttt.result import TTTResult
from tttlib.ttt.settings import MaskOrders, Settings, trained_parameters
from tttlib.ttt.sgd import StackedOptimizer
from tttlib.ttt.stacked import StackedAutoencoder


def stream_of(
    images: Tensor, masks: MaskOrders, settings: Settings, heldout: Tensor | None
) -> OnlineStream:
    """Return what arrives and how to adapt to it; a stack shares all but rates and seeds.

    A stream with pixels that are not finite, which will fail, is of a kind of its own.
    """
    kind: object = replace(
        settings,
        lr=0.0,
        seed=0,
        parallel=None,
        evaluate_at=settings.times,
        evaluate_every=1,
        progress=False,
    )
    kind = kind if torch.isfinite(images).all() else object()
    return OnlineStream(images, lambda i: masks[i : i + 1][0], settings, kind, heldout)


def run_online(model: MaskedAutoencoder, stream: OnlineStream) -> TTTResult:
    """Adapt `model` to the arrivals one after the other; weights and momenta stay."""
    learner = _Alone(model, [stream])
    try:
        ((_, result),) = advance(learner, stream.settings.progress)
    finally:
        learner.brakes.predictor.write_to_model()
    return result


def run_together(
    model: MaskedAutoencoder, streams: Sequence[OnlineStream], progress: bool
) -> Iterator[tuple[int, TTTResult]]:
    """Yield what `run_online` gives for each stream, as they end; `model` is left as it is.

    A stream with a failure is run alone from its start: it may have to take steps back or start
    again from the source, which the others on its stack do not.
    """
    most = min((fitting(model, stream.settings) for stream in streams), default=1)
    for group in stacks_of(streams, most):
        alone = group if len(group) == 1 else []
        if not alone:
            learner = _Learner(copy.deepcopy(model), [streams[s] for s in group])
            for i, result in advance(learner, progress):
                if result.failed.any():
                    alone.append(group[i])
                else:
                    yield group[i], result
        for s in alone:
            yield s, run_online(copy.deepcopy(model), streams[s])


class _Learner:
    """The weights of S streams, with what updates, brakes and reads them.

    What a stream gets that fails is not meant to be used; see `_Alone`.
    """

    def __init__(self, model: MaskedAutoencoder, streams: Sequence[OnlineStream]) -> None:
        self.streams = list(streams)
        self.settings: Settings = streams[0].settings
        names = trained_parameters(model, self.settings.finetune)
        self.net = StackedAutoencoder(model, names, len(streams))
        rates = [stream.settings.lr for stream in streams]
        self.optimizer = StackedOptimizer(self.net, self.settings.rule, rates)
        seeds = [stream.settings.seed for stream in streams]
        self.brakes = Brakes(self.net, self.settings.brakes, seeds)

    def narrow(self, replicas: int) -> None:
        """Go on with the first streams alone."""
        del self.streams[replicas:]
        self.net.narrow(replicas)
        self.optimizer.narrow(replicas)
        self.brakes.narrow(replicas)

    def learn(self, number: int) -> Part:
        """Adapt to an arrival of every stream."""
        return self._steps(*self._arrivals(number))

    def _arrivals(self, number: int) -> tuple[Tensor, Tensor]:
        """Return images [S,3,H,W] and patch orders [S,steps,b,L], ready to adapt to."""
        if self.settings.reset_optimizer:
            self.optimizer.restart()
        model = self.net.model
        images = torch.stack([to_network(stream.images[number], model) for stream in self.streams])
        return images, torch.stack([stream.draw(number) for stream in self.streams])

    @torch.no_grad()
    def classify(self, images: Tensor, replica: int = 0) -> Tensor:
        """Return logits [M,C] of images [M,3,H,W] by the weights of a replica as they are."""
        self.brakes.predictor.write_to_model(replica)
        model = self.net.model
        with self.settings.precision(model.mean.device):
            batches = (
                to_network(x, model) for x in images.split(images_at_once(model.mean.device))
            )
            return torch.cat([model.classify(x).float().cpu() for x in batches])

    def _steps(
        self, images: Tensor, orders: Tensor, undo: Callable[[], None] = lambda: None
    ) -> Part:
        return adapt(
            self.net,
            self.optimizer,
            images,
            orders,
            self.settings,
            undo,
            predictor=self.brakes.predictor,
            after_update=self.brakes.after_update,
        )


class _Alone(_Learner):
    """One stream, with what is needed to take back the steps on one image."""

    def __init__(self, model: MaskedAutoencoder, streams: Sequence[OnlineStream]) -> None:
        super().__init__(model, streams)
        self.before = self.brakes.fresh_copy()

    def learn(self, number: int) -> Part:
        """Adapt to one image [1,3,H,W]; a failure leaves the weights before it, or the source's."""
        image, orders = self._arrivals(number)
        if not torch.isfinite(image).all():
            return self._skip(image)
        part = self._adapt(image, orders)
        if not part[2]:
            return part
        if torch.isfinite(part[0][0, 0]):  # its own updates made the weights bad
            self._take_back()
            return part
        self.brakes.reset()  # the weights it met were already beyond use
        self.optimizer.restart()
        part = self._adapt(image, orders)
        if part[2]:
            self._take_back()
        return (*part[:2], torch.ones(1, dtype=torch.bool), *part[3:])

    def _skip(self, image: Tensor) -> Part:
        """Return what an image [1,3,H,W] with non-finite pixels gets: no update."""
        times = self.settings.times
        tokens = tokens_of(self.brakes.predictor, image, self.settings)
        logits, latents = predictions(self.net.model, [tokens] * len(times), self.settings)
        losses = torch.full((1, self.settings.steps), float("nan"))
        part = (losses, logits, torch.ones(1, dtype=torch.bool))
        return (*part, latents) if self.settings.record_latents else part

    def _adapt(self, image: Tensor, orders: Tensor) -> Part:
        self.brakes.copy_of_weights(into=self.before)
        return self._steps(image, orders, lambda: self.brakes.set_weights(self.before))

    def _take_back(self) -> None:
        self.brakes.set_weights(self.before)
        self.optimizer.restart()
