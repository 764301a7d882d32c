"""How many images adapt at once: as many as pay, and never more than memory holds."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from tttlib.models.mae import MaskedAutoencoder
from tttlib.ttt.settings import Settings, trained_parameters

log = logging.getLogger(__name__)

_FIRST = 4  # images
_WORTH = 1.05  # a larger stack must be so much faster
_SHARE = 0.25  # of the free memory
_ACTIVATIONS = 2**31  # bytes
_FLOATS_PER_TOKEN = 20  # kept for the backward pass by a block, in widths


class StackSize:
    """The number S of images of the next stack.

    S is doubled while the images per second rise by 5 % and `most` allows it, measured on the work
    itself, and then stays. Results do not depend on it (`ttt.run`).
    """

    def __init__(self, most: int, fixed: int | None = None) -> None:
        self.most = max(1, most)
        self._now = fixed or min(_FIRST, self.most)
        self._settled = fixed is not None
        self._best = (0.0, self._now)  # images/s, S
        self._warned = False

    @classmethod
    def of(cls, model: MaskedAutoencoder, settings: Settings, images: int) -> StackSize:
        """Start with the fixed size of `settings`, else a small one that may grow."""
        if settings.parallel not in (None, "auto"):
            return cls(images, min(int(settings.parallel), images))
        return cls(min(images, fitting(model, settings)))

    def next(self) -> int:
        """Return S of the next stack."""
        return self._now

    @contextmanager
    def measuring(self, n: int) -> Iterator[None]:
        """Measure the work on n images, done inside the block."""
        start = time.perf_counter()
        yield
        if self._settled or n != self._now:
            return
        rate = n / (time.perf_counter() - start)
        if rate > _WORTH * self._best[0]:
            self._best = (rate, n)
            self._now = min(2 * n, self.most)
            self._settled = self._now == n
        else:
            self._now, self._settled = self._best[1], True

    def shrink(self, n: int, error: RuntimeError) -> None:
        """Take half of n from now on if `error` says that memory ran out; raise it otherwise."""
        if n == 1 or not out_of_memory(error):
            raise error
        if not self._warned:
            log.warning("out of memory with %d images at once; going on with %d", n, n // 2)
            self._warned = True
        self._now = self.most = n // 2
        self._settled = True
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def out_of_memory(error: Exception) -> bool:
    """Tell whether PyTorch could not allocate; on the CPU it says so in words only."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in words)


def fitting(model: MaskedAutoencoder, settings: Settings) -> int:
    """Return how many replicas fit into a quarter of the free memory, by a rough account.

    Each has weights, momentum (with Adam two, and gradients) and the activations of its masks. The
    number is at least 1.
    """
    names = trained_parameters(model, settings.finetune)
    visible = model.num_visible(settings.mask_ratio)
    copies = 2 if settings.optimizer == "sgd" else 4
    weights = sum(model.get_parameter(name).nbytes for name in names)
    masks = masks_at_once(model, settings.batch_size, visible)
    each = copies * weights + masks * activations(model, visible)
    return max(1, int(_SHARE * free_memory(model.cls_token.device) / each))


def masks_at_once(model: MaskedAutoencoder, batch_size: int, visible: int) -> int:
    """Return how many of an image's masks go through the network together: 2 GiB of activations.

    Their gradients are summed, so only rounding depends on it; and a constant number of bytes, not
    the free memory, decides, so that a run can be repeated to the bit.
    """
    most = max(1, _ACTIVATIONS // activations(model, visible))
    groups = -(-batch_size // most)
    return -(-batch_size // groups)


def activations(model: MaskedAutoencoder, visible: int) -> int:
    """Return the bytes kept for the backward pass of one mask, roughly."""
    width, decoder = model.cls_token.shape[-1], model.mask_token.shape[-1]
    numbers = sum(
        tokens * depth * (_FLOATS_PER_TOKEN * width + 2 * heads * tokens)
        for tokens, depth, width, heads in (
            (1 + visible, len(model.blocks), width, model.num_heads),
            (1 + model.num_patches, len(model.decoder_blocks), decoder, model.decoder_num_heads),
        )
    )
    return model.cls_token.element_size() * numbers


def images_at_once(device: torch.device) -> int:
    """Return how many images to classify in a batch, where nothing is learned from them.

    On a CPU, small networks answer up to 1.4 times as fast when the activations fit its caches; no
    bit of the logits depends on it there.
    """
    return 64 if device.type == "cpu" else 250


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be allocated on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
