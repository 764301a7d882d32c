"""T3A: which supports stay, and what is made of them."""

from __future__ import annotations

import pytest
import torch
from small_networks import convolutional
from small_networks import exact_images as images
from torch import Tensor, nn
from torch.nn import functional as F

from tttlib import adapt


class Given(nn.Module):
    """Features are the means of the colours; three classes, identity weights."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)
        with torch.no_grad():
            self.fc.weight.copy_(torch.eye(3))
            self.fc.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


def of(*colours: tuple[float, float, float]) -> Tensor:
    return torch.tensor(colours).float()[:, :, None, None].expand(-1, -1, 2, 2)


def supports(adapter: adapt.Adapter) -> list[tuple[int, list[float]]]:
    memory = adapter.memory
    rows = [[round(v, 4) for v in s.tolist()] for s in memory["supports"]]
    return list(zip(memory["classes"].tolist(), rows, strict=True))


ROWS = [(0, [1, 0, 0]), (1, [0, 1, 0]), (2, [0, 0, 1])]


def test_the_most_certain_of_every_class_stay() -> None:
    adapter = adapt.create("t3a", Given(), keep=2)
    assert supports(adapter) == ROWS
    # Two of class 0: the first less certain than the row, the second least of all
    adapter(of((0.9, 0.1, 0), (0.5, 0.25, 0.25)))
    assert supports(adapter) == [ROWS[0], (0, [0.9, 0.1, 0]), *ROWS[1:]]
    adapter(of((0.95, 0, 0)))
    assert supports(adapter)[1] == (0, [0.95, 0, 0])  # for good
    adapter.reset()
    assert supports(adapter) == ROWS


def test_prototypes_by_hand() -> None:
    adapter = adapt.create("t3a", Given(), keep=2)
    x = of((0.6, 0.8, 0))  # of class 1, length 1
    prototype = F.normalize(torch.tensor([0.6, 1.8, 0]), dim=0)
    expected = torch.tensor([[0.6, prototype[:2] @ torch.tensor([0.6, 0.8]), 0]])
    torch.testing.assert_close(adapter(x), expected)
    torch.testing.assert_close(adapter.predict(x / 2), expected / 2)  # f as it is


def test_of_equal_entropies_the_earlier_stays() -> None:
    adapter = adapt.create("t3a", Given(), keep=1)
    adapter(of((1, 0, 0), (0, 1, 0)))
    assert supports(adapter) == ROWS
    adapter.memory["supports"][0] = torch.tensor([7.0, 0, 0])  # marks the first
    adapter(of((1, 0, 0)))
    assert supports(adapter)[0] == (0, [7, 0, 0])


def test_minus_one_drops_the_least_certain_of_every_class_each_time() -> None:
    adapter = adapt.create("t3a", Given(), keep=-1)
    answer = adapter(of((0.9, 0, 0), (0.8, 0, 0)))
    assert supports(adapter) == [ROWS[0], (0, [0.9, 0, 0])]  # classes 1 and 2 have none left
    torch.testing.assert_close(answer, torch.tensor([[0.9, 0, 0], [0.8, 0, 0]]))
    adapter(of((0.1, 0.2, 0.2)))
    assert supports(adapter) == [ROWS[0]]


def test_all_stay_with_none() -> None:
    adapter = adapt.create("t3a", convolutional(), keep=None)
    for t in range(3):
        adapter(images(5, t))
    assert len(adapter.memory["supports"]) == 4 + 15 == int(adapter.diagnostics["supports"])


def test_a_row_need_not_be_of_its_class() -> None:
    net = Given()
    with torch.no_grad():
        net.fc.bias.copy_(torch.tensor([0, 0, 5.0]))
    adapter = adapt.create("t3a", net, keep=1)
    assert adapter.memory["classes"].tolist() == [2, 2, 2]  # more than keep, until a batch comes
    adapter(of((1, 0, 0)))
    assert len(adapter.memory["supports"]) == 1


def test_constants_without_meaning() -> None:
    for keep in (0, -2):
        with pytest.raises(ValueError, match="keep must"):
            adapt.create("t3a", Given(), keep=keep)
