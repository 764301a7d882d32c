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

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib.models.rotation_net import RotationNet
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
    names = trained_parameters(model, finetune)
    ids = check_inputs(model, images, ids, heldout)
    settings = RotationSettings(
        steps, batch_size, lr, shift, flip, border, threshold, seed, evaluate_at
    )
    settings.check(images)
    if parallel is not None and parallel < 1:
        raise ValueError(f"parallel must be 1 or more, or None, not {parallel}")
    check_heldout(heldout, online, evaluate_every)
    stack = 1 if online else parallel or (1 if model.mean.device.type == "cpu" else 16)
    net: StackedRotationNet | None = None
    parts, evaluations = [], HeldOut()
    with tqdm(total=len(images), desc="TTT", unit="image", disable=not progress) as bar:
        for index in torch.arange(len(images)).split(stack):
            if net is None or net.replicas != len(index):
                net = StackedRotationNet(model, names, len(index))
            elif not online:
                net.set_weights()
            if heldout is not None and int(index[0]) % evaluate_every == 0:
                evaluations.add(int(index[0]), _classify(net, heldout))
            parts.append(adapt(net, to_network(images[index], model), ids[index], settings))
            bar.update(len(index))
    if online and net is not None:
        net.write_to_model()
    if heldout is not None and net is not None:
        evaluations.add(len(images), _classify(net, heldout))
    return join(parts, settings.times, evaluations)


def run_streams(
    model: RotationNet,
    images: Sequence[Tensor],
    *,
    ids: Sequence[Tensor],
    steps: int = 1,
    batch_size: int = 32,
    lr: float = 1e-3,
    finetune: str = "all",
    shift: int = 4,
    flip: bool = True,
    border: str = "black",
    threshold: float | None = None,
    seed: int = 0,
    evaluate_at: Sequence[int] | None = None,
    progress: bool = False,
) -> list[TTTResult]:
    """Adapt to several streams at once, each with weights of its own that stay from image to image.

    One stack advances all streams together, which on a GPU takes little longer than one stream.

    Parameters
    ----------
    model
        The network, which is left as it is.
    images
        One tensor [N,3,H,H] in [0,1] for each stream; all have as many images.
    ids
        One tensor [N] for each stream. The views are drawn from the seed and the id of the image.
    steps, batch_size, lr, finetune, shift, flip, border, threshold, seed, evaluate_at, progress
        As for `run`.

    Returns
    -------
    list of TTTResult
        For each stream what `run(online=True)` gives on it alone, up to rounding.

    Raises
    ------
    ValueError
        For streams of different lengths, and for values out of range, naming them.
    """
    names = trained_parameters(model, finetune)
    if len({len(x) for x in [*images, *ids]}) != 1 or len(images) != len(ids):
        raise ValueError(
            f"streams that run together must be equally long and have as many ids as images, not "
            f"{[len(x) for x in images]} images and {[len(x) for x in ids]} ids; run others alone"
        )
    settings = RotationSettings(
        steps, batch_size, lr, shift, flip, border, threshold, seed, evaluate_at
    )
    checked = []
    for stream, stream_ids in zip(images, ids, strict=True):
        checked.append(check_inputs(model, stream, stream_ids, None))
        settings.check(stream)
    net = StackedRotationNet(model, names, len(images))
    arrivals = torch.stack(list(images), 1)  # [N,S,3,H,H]
    ids_of_arrivals = torch.stack(checked, 1)  # [N,S]
    parts = []
    for i in tqdm(range(len(arrivals)), "online TTT", disable=not progress):
        parts.append(adapt(net, to_network(arrivals[i], model), ids_of_arrivals[i], settings))
    losses, logits, failed = (torch.stack(part, 1) for part in zip(*parts, strict=True))
    return [
        TTTResult(losses[s], logits[s], failed[s], evaluated_at=settings.times)
        for s in range(len(images))
    ]


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


@torch.no_grad()
def _classify(net: StackedRotationNet, images: Tensor, batch_size: int = 250) -> Tensor:
    """Return logits [M,C] of a stack of one as it is, on the CPU."""
    net.write_to_model()
    batches = (to_network(x, net.model) for x in images.split(batch_size))
    return torch.cat([net.model.classify(x).float().cpu() for x in batches])
