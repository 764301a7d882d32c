"""What every entrance takes as images, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from tttlib.runtime.images import check_images

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
NAN = X.clone().index_fill_(0, torch.tensor([1]), torch.nan)


@pytest.mark.parametrize(
    "images",
    [X, X.double(), X.half(), X.bfloat16(), (X * 255).byte(), X.round() * (1 + 5e-7),
     X.to(memory_format=torch.channels_last), X.clone().requires_grad_()],
)  # fmt: skip
def test_taken(images: torch.Tensor) -> None:
    check_images(images)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (X.numpy(), "NumPy array"),
        (X.permute(0, 2, 3, 1).numpy(), r"permute\(0, 3, 1, 2\)"),
        ([X[0], X[1]], r"torch\.stack"),
        ("photo.png", "str"),
        (None, "NoneType"),
        (X[0], r"images\[None\]"),
        (X[:, 0], r"\[2, 8, 8\]"),
        (X.permute(0, 2, 3, 1), "channels first"),
        (torch.cat([X, X[:, :1]], 1), "alpha"),
        (X[:, :1], "grey"),
        (X[:, :, None], r"\[2, 3, 1, 8, 8\]"),
        (X[:0], "1 or more"),
        ((X * 255).long(), "int64"),
        ((X * 255).int(), r"torch\.uint8"),
        (X > 0.5, "bool"),
        (X * (1 + 0j), "complex64"),
        (X * 255, "255"),
        ((X - 0.5) / 0.5, "normalis"),
        (X * 1.01, "clamp"),
        (NAN, "nan"),
        (X / 0, "inf"),
    ],
)
def test_refused(images: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_images(images)


def test_options() -> None:
    check_images(X[:0], empty=True)
    check_images(NAN, finite=False)
    check_images(X / 0, finite=False)
    check_images(X * 255, values=False)
    with pytest.raises(ValueError, match="heldout must"):
        check_images(None, name="heldout")
    with pytest.raises(ValueError, match=">= 9"):
        check_images(X, smallest_side=9)
    with pytest.raises(ValueError, match=r"\[0,1\]"):
        check_images(NAN * 255, finite=False)
