"""A network as features f and its last linear layer, z = W f + b: for methods that look in between.

f [B,d] is what the last linear layer is given: after the pooling of a convolutional network, the
class token after the last norm of a transformer. The layer is found by its place, the last
`nn.Linear` that the logits depend on (`parameters.classifying`), so it is `fc` here, `head` or
`head.fc` in timm, `network.fc` in a wrapped network. Its name alone does not show that it makes the
logits. So the first images are also asked with the layer's answer replaced by zeros: if the logits
still differ between images, something else makes them (a convolution, or two heads).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tttlib.adapt.common import parameters

Instead = Callable[[Tensor, Tensor], Tensor]
_COARSE = (torch.float16, torch.bfloat16)


class LastLayer:
    """Where the last linear layer of a network, and of its copies, is.

    Parameters
    ----------
    model
        The network.
    method
        Who asks, for messages.

    Attributes
    ----------
    name
        Of the layer in the network.

    Raises
    ------
    ValueError
        For a network without linear layers; at the first images for one whose logits do not come
        from the last of them.
    """

    def __init__(self, model: nn.Module, method: str) -> None:
        linear = [n for n, m in parameters.classifying(model) if isinstance(m, nn.Linear)]
        if not linear:
            raise ValueError(
                f"{method} works on the features before the last linear layer, and this model has "
                f"no linear layer"
            )
        self.name, self.method = linear[-1], method
        self._checked = False

    def of(self, network: nn.Module) -> nn.Linear:
        """Return the layer of the network or of a copy."""
        layer = network.get_submodule(self.name)
        assert isinstance(layer, nn.Linear)
        return layer

    def classes(self, network: nn.Module) -> int:
        """Return the number of logits; a wrapped network may answer with a part of the layer's."""
        kept = getattr(network, "outputs", None)
        return len(kept) if isinstance(kept, Tensor) else self.of(network).out_features

    def through(
        self, network: nn.Module, images: Tensor, instead: Instead | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return features [B,d] and logits [B,C] of images, in at least single precision.

        Parameters
        ----------
        network
            The model or a copy.
        images
            [B,3,H,W].
        instead
            Maps f [B,d] and z = W f + b [B,C] to what the layer answers in place of z.
        """
        self.check(network, images)
        return self._through(network, images, instead)

    @torch.no_grad()
    def check(self, network: nn.Module, images: Tensor) -> None:
        """Raise ValueError unless the logits come from this layer; looks once."""
        if self._checked:
            return
        x = images[:1]
        different = torch.cat([x, 1 - x, x / 2])
        _, logits = self._through(network, different, lambda f, z: torch.zeros_like(z))
        if not torch.equal(logits, logits[:1].expand_as(logits)):
            raise ValueError(
                f"{self.method} takes the last linear layer, {self.name}, for the classifier; here "
                f"the logits also depend on something else"
            )
        self._checked = True

    def _through(
        self, network: nn.Module, images: Tensor, instead: Instead | None
    ) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []

        def look(layer: nn.Module, inputs: tuple[Tensor, ...], z: Tensor) -> Tensor:
            f = inputs[0].float() if inputs[0].dtype in _COARSE else inputs[0]
            seen.append(f)
            if instead is None or f.ndim != 2:
                return z
            return instead(f, z.to(f.dtype)).to(z.dtype)

        with self.of(network).register_forward_hook(look):
            logits = network(images)
        if len(seen) != 1 or seen[0].ndim != 2 or logits.ndim != 2:
            raise ValueError(
                f"{self.method} takes the last linear layer, {self.name}, for the classifier; here "
                f"it is called {len(seen)} times or not with features [B,d]"
            )
        return seen[0], logits
