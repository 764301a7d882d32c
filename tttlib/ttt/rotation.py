"""Test-time training by predicting rotations: the original TTT, standard (reset) and online.

Sun, Wang, Liu, Miller, Efros, Hardt, "Test-Time Training with Self-Supervision for Generalization
under Distribution Shifts", ICML 2020, arXiv 1909.13231, section 2. For an image x, trunk e, frozen
class branch h and rotation branch r:

    (e,r)^s = (e,r)^{s-1} - lr * grad (1/B) sum_j CE(r(e(turn_j(view_j(x)))), turn_j),
    y^s = h(e^s(x)),  s = 1 … steps

Standard ("slow" in the released code) starts every image at the source and takes 10 steps; online
takes 1 and keeps the weights. SGD without momentum, lr 1e-3, B = 32 views of the one image. As in
the released code the views are random crops (4 pixels of black border) and flips, each turned by a
random multiple of 90 degrees, and trunk and rotation branch both move (finetune="shared": the trunk
alone). The prediction follows the update.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib.models.rotation_net import RotationNet
from tttlib.ttt.arrivals import OnlineStream, advance, stacks_of
from tttlib.ttt.batching import images_at_once
from tttlib.ttt.entrance import check_inputs, to_network
from tttlib.ttt.result import HeldOut, TTTResult, join
from tttlib.ttt.rotation_steps import RotationSettings, adapt
from tttlib.ttt.rotation_views import BORDERS, draw_views
from tttlib.ttt.settings import check_heldout
from tttlib.ttt.stacked_rotation import StackedRotationNet

__all__ = ["BORDERS", "FINETUNE", "draw_views", "run", "run_streams", "trained_parameters"]

FINETUNE = ("all", "shared")


def run(
    model: RotationNet,
    images: Tensor,
    *,
    steps: int = 10,
    batch_size: int = 32,
    lr: float = 1e-3,
    finetune: str = "all",
    online: bool = False,
    shift: int = 4,
    flip: bool = True,
    border: str = "black",
    threshold: float | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    parallel: int | None = None,
    evaluate_at: Sequence[int] | None = None,
    heldout: Tensor | None = None,
    evaluate_every: int = 100,
    progress: bool = False,
) -> TTTResult:
    """Adapt `model` to each of `images` and predict after every step.

    A loss, weight or prediction that is not finite fails that image: its updates are void, its
    predictions from then on are those before them, and `failed` says so.

    Parameters
    ----------
    model
        The network. Standard mode leaves it untouched, online mode leaves it adapted.
    images
        Images [N,3,H,H], floating point in [0,1] or uint8.
    steps, batch_size
        Updates per image, and views of the same image per step.
    lr
        Learning rate.
    finetune
        "all" moves trunk and rotation branch (released default), "shared" the trunk alone.
    online
        Keep the weights from image to image. The paper takes steps=1.
    shift, flip, border
        The views: crops moved by up to `shift` pixels in an image padded with "black" or
        "mirror", and mirrored with probability 1/2. Use what the network was trained with.
    threshold
        An image whose upright version is recognised as such with at least this probability is not
        adapted to, and its losses are NaN. None adapts to all (released default).
    ids, seed
        The views are drawn from the seed and the id of the image; ids default to 0 … N-1.
    parallel
        Images adapted at once (standard mode). None means 1 on a CPU, where a stack is slower, else
        16. Results do not depend on it beyond rounding.
    evaluate_at
        Numbers of updates, 0 … steps, after which to predict; None means after every one.
    heldout, evaluate_every
        Images [M,3,H,H] that are classified without adaptation every `evaluate_every` images of an
        online stream, and at its end.
    progress
        Show a progress bar.

    Returns
    -------
    TTTResult
        Losses, logits and failures of every image.

    Raises
    ------
    ValueError
        For a network, images or settings that cannot be used, naming them.
    """
    settings = RotationSettings(
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        finetune=finetune,
        shift=shift,
        flip=flip,
        border=border,
        threshold=threshold,
        seed=seed,
        evaluate_at=evaluate_at,
        evaluate_every=evaluate_every,
    )
    ids = _checked(model, settings, images, ids, heldout)
    if parallel is not None and parallel < 1:
        raise ValueError(f"parallel must be 1 or more, or None, not {parallel}")
    check_heldout(heldout, online, evaluate_every)
    if online:
        learner = _Learner(model, [_stream_of(images, ids, settings, heldout)])
        ((_, result),) = advance(learner, progress)
        learner.net.write_to_model()
        return result
    names = trained_parameters(model, finetune)
    stack = parallel or (1 if model.mean.device.type == "cpu" else 16)
    net: StackedRotationNet | None = None
    parts = []
    with tqdm(total=len(images), desc="TTT", unit="image", disable=not progress) as bar:
        for index in torch.arange(len(images)).split(stack):
            if net is None or net.replicas != len(index):
                net = StackedRotationNet(model, names, len(index))
            else:
                net.set_weights()
            chunk, views = (
                to_network(images[index], model),
                [settings.views(int(ids[i])) for i in index],
            )
            parts.append(adapt(net, chunk, views, settings, [lr] * len(index)))
            bar.update(len(index))
    return join(parts, settings.times, HeldOut())


def run_streams(
    model: RotationNet, streams: Sequence[Mapping[str, Any]], *, progress: bool = False
) -> Iterator[tuple[int, TTTResult]]:
    """Adapt to several streams at once, each with weights of its own that stay from image to image.

    Streams whose settings differ in nothing but the learning rate and the seed advance together,
    which on a GPU takes little longer than one stream; others take their turns. Lengths may differ.

    Parameters
    ----------
    model
        The network, which is left as it is.
    streams
        For each stream the arguments of `run` after `model`, without `online`.
    progress
        Show progress bars.

    Yields
    ------
    tuple[int, TTTResult]
        The number of a stream, and what `run(online=True)` gives on it alone, up to rounding, as it
        ends.

    Raises
    ------
    ValueError
        As for `run`.
    """
    checked = []
    for arguments in streams:
        options = dict(arguments)
        images, ids, heldout = (options.pop(k, None) for k in ("images", "ids", "heldout"))
        settings = RotationSettings(**options)
        ids = _checked(model, settings, images, ids, heldout)
        check_heldout(heldout, True, settings.evaluate_every)
        checked.append(_stream_of(images, ids, settings, heldout))
    for group in stacks_of(checked):
        learner = _Learner(copy.deepcopy(model), [checked[s] for s in group])
        for i, result in advance(learner, progress):
            yield group[i], result


def trained_parameters(model: RotationNet, finetune: str = "all") -> tuple[str, ...]:
    """Return the names of the parameters that move: the trunk, with "all" the rotation branch too.

    Raises
    ------
    ValueError
        For another kind of model or an unknown `finetune`.
    """
    if not isinstance(model, RotationNet):
        raise ValueError(
            f"rotation prediction needs a RotationNet, not {type(model).__name__}; of the bundled "
            "networks the rot-… ones"
        )
    if finetune not in FINETUNE:
        raise ValueError(f"unknown finetune {finetune!r}; known are {', '.join(FINETUNE)}")
    trunk = ["conv1.", *(f"block{k}." for k in range(1, model.split + 1))]
    trunk += ["norm."] * (model.split == 3) + ["rotation_"] * (finetune == "all")
    return tuple(name for name, _ in model.named_parameters() if name.startswith(tuple(trunk)))


def _checked(
    model: RotationNet,
    settings: RotationSettings,
    images: Tensor,
    ids: Tensor | None,
    heldout: Tensor | None,
) -> Tensor:
    """Refuse what cannot be used, and return the ids."""
    trained_parameters(model, settings.finetune)
    ids = check_inputs(model, images, ids, heldout)
    settings.check(images)
    return ids


def _stream_of(
    images: Tensor, ids: Tensor, settings: RotationSettings, heldout: Tensor | None
) -> OnlineStream:
    """Return what arrives and how to adapt to it; a stack shares all but rates and seeds."""
    kind = replace(settings, lr=0.0, seed=0, evaluate_at=settings.times, evaluate_every=1)
    side = images.shape[-1]
    return OnlineStream(
        images, lambda i: settings.views(int(ids[i])), settings, (kind, side), heldout
    )


class _Learner:
    """The weights of S streams."""

    def __init__(self, model: RotationNet, streams: Sequence[OnlineStream]) -> None:
        self.streams, self.settings = list(streams), streams[0].settings
        names = trained_parameters(model, self.settings.finetune)
        self.net = StackedRotationNet(model, names, len(streams))

    def narrow(self, replicas: int) -> None:
        """Go on with the first streams alone."""
        del self.streams[replicas:]
        self.net.narrow(replicas)

    def learn(self, number: int) -> tuple[Tensor, ...]:
        """Adapt to an arrival of every stream."""
        arrivals = [to_network(stream.images[number], self.net.model) for stream in self.streams]
        views = [stream.draw(number) for stream in self.streams]
        rates = [stream.settings.lr for stream in self.streams]
        return adapt(self.net, torch.stack(arrivals), views, self.settings, rates)

    @torch.no_grad()
    def classify(self, images: Tensor, replica: int = 0) -> Tensor:
        """Return logits [M,C] of images [M,3,H,H] by a replica as it is, on the CPU."""
        self.net.write_to_model(replica)
        model = self.net.model
        batches = images.split(images_at_once(model.mean.device))
        return torch.cat([model.classify(to_network(x, model)).float().cpu() for x in batches])
