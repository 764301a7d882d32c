"""Networks of the caller's own: judged by their logits, or refused by name in every loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import same, scenes, state, toy

from tttlib import evaluate, results, streams
from tttlib.models import RotationNet

RUN = {"steps": 1, "batch_size": 1, "lr": 0.1}


def network(outputs: int = 10) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, outputs),
    )  # fmt: skip


class Answering(nn.Module):
    """Hands over the logits in some form of its own."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body, self.form = network(), form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.body(x))


def stream(dataset: Any = None) -> streams.Stream:
    return streams.continual(dataset or scenes(), ["fog"], batch_size=3)


def adaptation(net: nn.Module, folder: Path) -> Any:
    return evaluate.adaptation(net, stream(), "tent", store=results.Store(folder), progress=False)


def test_a_network_without_extras_is_judged_by_its_logits() -> None:
    net, dataset = network().train(), scenes(7)
    before = state(net)
    rows = evaluate.source(net, stream(dataset))
    assert net.training and same(state(net), before)
    logits = net.eval()(stream(dataset).images())
    assert rows["prediction"].tolist() == logits.argmax(1).tolist()
    assert rows["correct"].tolist() == (logits.argmax(1) == dataset.labels).tolist()


def too_few(net: nn.Module) -> dict[str, Callable[[Path], Any]]:
    shared = {"progress": False, **RUN}
    return {
        "source": lambda folder: evaluate.source(net, stream()),
        "standard": lambda folder: evaluate.standard(
            net, stream(), store=results.Store(folder), **shared
        ),
        "online": lambda folder: evaluate.online(
            net, stream(), store=results.Store(folder), **shared
        ),
        "adaptation": lambda folder: adaptation(net, folder),
        "alignment": lambda folder: evaluate.gradient_alignment(net, scenes(), ["fog"], masks=1),
    }


@pytest.mark.parametrize("loop", ["source", "standard", "online", "adaptation", "alignment"])
@pytest.mark.parametrize(
    "make", [lambda: toy(num_classes=4), lambda: RotationNet(stem_stride=2, num_classes=4)],
    ids=["autoencoder", "rotation"],
)  # fmt: skip
def test_fewer_outputs_than_classes_are_refused(
    make: Callable[[], nn.Module], loop: str, tmp_path: Path
) -> None:
    net = make().eval()
    with pytest.raises(ValueError, match="4 outputs but scenes has 10 classes"):
        too_few(net)[loop](tmp_path)
    assert not list(tmp_path.glob("*.parquet"))


def test_more_outputs_than_classes_are_taken() -> None:
    assert len(evaluate.source(network(1000), stream())) == 6


@pytest.mark.parametrize(
    "form",
    [lambda z: {"logits": z}, lambda z: SimpleNamespace(logits=z, hidden=z[:, :3])],
    ids=["dict", "attribute"],
)
def test_logits_are_found_in_an_answer(form: Callable[[Tensor], Any], tmp_path: Path) -> None:
    net = Answering(form)
    plain = evaluate.source(net.body, stream())
    assert evaluate.source(net, stream())["prediction"].tolist() == plain["prediction"].tolist()
    assert len(adaptation(net, tmp_path).rows) == 6


@pytest.mark.parametrize(
    "form",
    [
        lambda z: (z, z), lambda z: [z], lambda z: {"output": z}, lambda z: z[:, 0],
        lambda z: z[:, :1], lambda z: z.argmax(1), lambda z: z[:2], lambda z: z[:, :, None],
        lambda z: None,
    ],
    ids=["tuple", "list", "other key", "[B]", "[B,1]", "labels", "fewer rows", "map", "nothing"],
)  # fmt: skip
def test_other_answers_are_refused_at_the_first_call(
    form: Callable[[Tensor], Any], tmp_path: Path
) -> None:
    net = Answering(form)
    for loop in (lambda: evaluate.source(net, stream()), lambda: adaptation(net, tmp_path)):
        with pytest.raises(ValueError, match="the network answers"):
            loop()


@pytest.mark.parametrize("wrong", [torch.zeros(1, 32, 32), torch.zeros(3, 32, 32).long()])
def test_one_image_step_by_step_must_be_an_image(wrong: Tensor) -> None:
    with pytest.raises(ValueError, match="image"):
        evaluate.adaptation_steps(toy(), wrong, **RUN)


def test_grey_levels_and_numbers_from_0_to_1_are_the_same_image() -> None:
    levels = scenes(1).images[0]
    a, b = (evaluate.adaptation_steps(toy(), x, **RUN) for x in (levels, levels.double() / 255))
    torch.testing.assert_close(a.probabilities, b.probabilities)


LOOPS_OF_AUTOENCODERS: dict[str, Callable[[Any, results.Store], Any]] = {
    "standard": lambda net, store: evaluate.standard(net, stream(), store=store, **RUN),
    "online": lambda net, store: evaluate.online(net, stream(), store=store, **RUN),
    "alignment": lambda net, store: evaluate.gradient_alignment(net, scenes(2), ["fog"]),
    "latents": lambda net, store: evaluate.latents(net, scenes(2), ["fog"]),
    "adapted": lambda net, store: evaluate.adapted_latents(net, scenes(2), ["fog"], **RUN),
    "map": lambda net, store: evaluate.latent_map(net, scenes(2), ["fog"], store=store),
    "pictures": lambda net, store: evaluate.reconstructions(net, scenes(2), ["fog"], **RUN),
    "steps": lambda net, store: evaluate.adaptation_steps(net, scenes(1).images[0], **RUN),
    "masks": lambda net, store: evaluate.hidden_by_masks(net, scenes(2), steps=1, batch_size=1),
}


@pytest.mark.parametrize("loop", LOOPS_OF_AUTOENCODERS)
@pytest.mark.parametrize(
    ("make", "name"),
    [(network, "Sequential"), (lambda: nn.DataParallel(toy()), "DataParallel")],
    ids=["classifier", "wrapped"],
)
def test_networks_that_do_not_reconstruct_are_refused(
    make: Callable[[], nn.Module], name: str, loop: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"MaskedAutoencoder.*, not a {name}"):
        LOOPS_OF_AUTOENCODERS[loop](make(), results.Store(tmp_path))
    assert not list(tmp_path.iterdir())
