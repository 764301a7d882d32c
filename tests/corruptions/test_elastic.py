"""The affine warp and the displacement of the elastic transform."""

from __future__ import annotations

import torch

from tttlib.corruptions import elastic
from tttlib.corruptions.fields import CounterFields


class Fixed(CounterFields):
    """Returns given fields in turn."""

    def __init__(self, *draws: torch.Tensor) -> None:
        self.draws = list(draws)

    def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> torch.Tensor:
        draw = self.draws.pop(0)
        assert draw.shape[1:] == shape
        return draw


def random_images() -> torch.Tensor:
    return torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def test_no_draw_no_change() -> None:
    x, zero = random_images(), torch.zeros(2, 24, 24)
    out = elastic.elastic_transform(x, Fixed(torch.zeros(2, 3, 2), zero, zero), 2, 1, 3)
    assert (out - x).abs().max() < 1e-4


def test_moving_all_corners_moves_the_image() -> None:
    x, zero = random_images(), torch.zeros(2, 24, 24)
    move = torch.tensor([2.0, -1.0]).expand(2, 3, 2)  # (x,y): right and up
    out = elastic.elastic_transform(x, Fixed(move, zero, zero), 0, 1, 3)
    assert (out[:, :, :-1, 2:] - x[:, :, 1:, :-2]).abs().max() < 1e-4
    mirrored = x[:, :, 1:, [2, 1]]  # the border is mirrored without its edge
    assert (out[:, :, :-1, :2] - mirrored).abs().max() < 1e-4


def test_displacement_mirrors_with_the_edge() -> None:
    x, zero = random_images(), torch.zeros(2, 24, 24)
    left = torch.full((2, 24, 24), -1.0)
    out = elastic.elastic_transform(x, Fixed(torch.zeros(2, 3, 2), left, zero), 1, 0.5, 1)
    assert (out[..., 1:] - x[..., :-1]).abs().max() < 1e-4
    assert (out[..., 0] - x[..., 0]).abs().max() < 1e-4


then = elastic.elastic_transform_2018


def test_the_libraries_of_2018_rounded_to_a_thirty_second() -> None:
    x, zero = random_images(), torch.zeros(2, 24, 24)
    for move, want in ((1.01, 1.0), (1.02, 1 + 1 / 32)):  # half of a 32nd is 0.0156
        out, rounded = (
            way(x.clone(), Fixed(torch.tensor([m, 0.0]).expand(2, 3, 2), zero, zero), 0, 1, 3)
            for way, m in ((then, move), (elastic.elastic_transform, want))
        )
        assert (out - rounded).abs().max() < 1e-4


def test_the_libraries_of_2018_mixed_the_edge_with_its_neighbour() -> None:
    x, zero = random_images(), torch.zeros(2, 24, 24)
    left = torch.full((2, 24, 24), -0.3)
    out = then(x, Fixed(torch.zeros(2, 3, 2), left, zero), 1, 0.5, 1)
    assert (out[..., 0] - (0.3 * x[..., 0] + 0.7 * x[..., 1])).abs().max() < 1e-4
    assert (out[..., 1:] - torch.lerp(x[..., 1:], x[..., :-1], 0.3)).abs().max() < 1e-4
    right = then(x, Fixed(torch.zeros(2, 3, 2), -left, zero), 1, 0.5, 1)
    assert (right[..., -1] - (0.7 * x[..., -1] + 0.3 * x[..., -2])).abs().max() < 1e-4
