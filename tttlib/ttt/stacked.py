"""The masked autoencoder with a leading replica axis S on every trained parameter.

S test images adapt in one pass: replica s sees b masks of image s. The sum of the S losses gives S
independent gradients (replica s enters only loss s), and element-wise optimisers then act per
replica, so the result equals S runs of the one-image loop. Frozen tensors stay shared. Copies of an
image differ only in their mask, so its patches are embedded once and gathered b times.

The arithmetic is that of `models.mae`, which is the place to read it first; a test holds both
against each other and against `vmap(grad)`. What updates the weights is in `sgd`.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.models.attention import attend
from tttlib.models.mae import LAYER_NORM_EPS, MaskedAutoencoder
from tttlib.ttt.replicas import Replicas


class StackedAutoencoder(Replicas):
    """S replicas of `model` that differ in the parameters named `trained`.

    The classifier is always shared. Shapes below: S replicas, b masks, L patches, V visible ones.

    Attributes
    ----------
    products
        By layer, a function of x [S,n,in], weight [S,out,in] and bias [S,out] that computes
        x W^T + b in training. An optimiser that works inside the backward pass puts its own here.
    """

    def __init__(self, model: MaskedAutoencoder, trained: Iterable[str], replicas: int) -> None:
        self.model: MaskedAutoencoder = model
        source = dict(model.named_parameters())
        self._source = {name: _inputs_first(source[name].detach().clone()) for name in trained}
        self.parameters: dict[str, Tensor] = {
            name: _empty(value, replicas) for name, value in self._source.items()
        }
        shared = {name: value.detach() for name, value in source.items()}
        self._tensors = ChainMap(self.parameters, shared)
        self.products: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {}
        self.reset()
        for value in self.parameters.values():
            value.requires_grad_()

    @torch.no_grad()
    def reset(self) -> None:
        """Give all replicas the model's weights back and drop the gradients."""
        for name, value in self.parameters.items():
            value.copy_(self._source[name].expand_as(value))
            value.grad = None

    @torch.no_grad()
    def copy_of_weights(self, into: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Copy the trained parameters, into tensors of their own or those of an earlier copy."""
        if into is None:
            return {name: value.detach().clone() for name, value in self.parameters.items()}
        for name, value in self.parameters.items():
            into[name].copy_(value)
        return into

    @torch.no_grad()
    def set_weights(self, values: Mapping[str, Tensor]) -> None:
        """Set the trained parameters to what `copy_of_weights` gave."""
        for name, value in self.parameters.items():
            value.copy_(values[name])

    def losses(self, images: Tensor, target: Tensor, order: Tensor, visible: int) -> Tensor:
        """Return the MAE loss of every replica, [S].

        Parameters
        ----------
        images
            One image per replica, [S,3,H,W].
        target
            What to reconstruct, [S,L,p*p*3], from `MaskedAutoencoder.target`.
        order
            Patch orders [S,b,L], of which the first `visible` patches stay.
        visible
            Number V of patches that the encoder sees.
        """
        s, b, n = order.shape
        # encode the visible patches
        embedded = self._embed(images)  # [S,L,D]
        kept = order[..., :visible]  # [S,b,V]
        x = _take(embedded, kept)  # [S,b,V,D]
        x = self._encode(x)  # [S,b,1+V,D]
        # append mask tokens, put all in the order of the image, and decode
        x = self._linear(x, "decoder_embed")  # [S,b,1+V,D']
        masks = self._per_replica("mask_token", 2).expand(s, b, n - visible, -1).to(x.dtype)
        restore = order.argsort(-1)[..., None].expand(-1, -1, -1, x.shape[-1])
        patches = torch.cat([x[:, :, 1:], masks], 2).gather(2, restore)  # [S,b,L,D']
        x = torch.cat([x[:, :, :1], patches], 2) + self._tensors["decoder_pos_embed"]
        removed = order[..., visible:]  # [S,b,L-V]: the loss looks at these only
        last = len(self.model.decoder_blocks) - 1
        for i in range(last + 1):
            only = removed + 1 if i == last else None
            x = self._block(x, f"decoder_blocks.{i}", self.model.decoder_num_heads, only)
        if last < 0:
            x = _rows(x, removed + 1)
        # compare the removed patches with their pixels
        prediction = self._linear(self._norm(x, "decoder_norm"), "decoder_pred")
        error = (prediction.to(target.dtype) - _take(target, removed)).square()  # [S,b,L-V,p*p*3]
        return error.mean(-1).mean(-1).mean(-1)  # axis by axis: S has no part in the rounding

    def tokens(self, images: Tensor) -> Tensor:
        """Return the tokens [S,1+L,D] of whole images [S,3,H,W]; replica s encodes image s."""
        return self._encode(self._embed(images)[:, None])[:, 0]

    # -- layers: `_tensors[name]` has a replica axis exactly when `name` is trained --------------

    def _per_replica(self, name: str, axes: int) -> Tensor:
        """Return a token [1,1,D] or vector [D], reshaped to broadcast over [S,<axes of them>,D]."""
        value = self._tensors[name]
        if name in self.parameters:
            return value.view(len(value), *[1] * axes, value.shape[-1])
        return value.view(*[1] * (axes + 1), value.shape[-1])

    def _linear(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        if f"{name}.weight" not in self.parameters:
            return F.linear(x, weight.flatten(1), bias)
        weight, rows = weight.flatten(2), x.flatten(1, -2)  # [S,out,in], [S,n,in]
        if name in self.products and torch.is_grad_enabled():
            out = self.products[name](rows, weight, bias)
        else:
            out = torch.baddbmm(bias[:, None], rows, weight.transpose(1, 2))
        return out.view(*x.shape[:-1], -1)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        x = F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS)
        scale = self._per_replica(f"{name}.weight", x.ndim - 2)
        return torch.addcmul(self._per_replica(f"{name}.bias", x.ndim - 2), x, scale)

    def _embed(self, images: Tensor) -> Tensor:
        """Embed images [S,3,H,W] as patches [S,L,D] with positions, by one product."""
        p, model = self.model.patch_size, self.model
        columns = F.unfold(model.normalize(images), p, stride=p).transpose(1, 2)  # [S,L,3*p*p]
        return self._linear(columns, "patch_embed.proj") + self._tensors["pos_embed"][:, 1:]

    def _encode(self, x: Tensor) -> Tensor:
        """Encode patches [S,b,V,D] to tokens [S,b,1+V,D] after the last norm."""
        cls = self._per_replica("cls_token", 2) + self._tensors["pos_embed"][:, :1]
        x = torch.cat([cls.expand(*x.shape[:2], -1, -1), x], 2)
        for i in range(len(self.model.blocks)):
            x = self._block(x, f"blocks.{i}", self.model.num_heads)
        return self._norm(x, "norm")

    def _block(self, x: Tensor, name: str, heads: int, only: Tensor | None = None) -> Tensor:
        """Apply a transformer block to [S,b,N,D]; `only` [S,b,K] says which tokens are needed."""
        attended = self._attention(self._norm(x, f"{name}.norm1"), f"{name}.attn", heads)
        if only is not None:
            attended, x = _rows(attended, only), _rows(x, only)
        x = x + self._linear(attended, f"{name}.attn.proj")
        hidden = F.gelu(self._linear(self._norm(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
        return x + self._linear(hidden, f"{name}.mlp.fc2")

    def _attention(self, x: Tensor, name: str, heads: int) -> Tensor:
        s, b, n, d = x.shape
        qkv = self._linear(x, f"{name}.qkv").view(s * b, n, 3, heads, d // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # [S*b,heads,n,d/heads] each
        return attend(q, k, v).transpose(1, 2).reshape(s, b, n, d)  # before the projection


def _take(patches: Tensor, index: Tensor) -> Tensor:
    """Take the patches `index` [S,b,K] of `patches` [S,L,D], as [S,b,K,D]."""
    s, b, k = index.shape
    flat = index.reshape(s, b * k, 1).expand(-1, -1, patches.shape[-1])
    return patches.gather(1, flat).view(s, b, k, -1)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """Take the tokens `index` [S,b,K] of `x` [S,b,N,D], as [S,b,K,D]."""
    return x.gather(2, index[..., None].expand(-1, -1, -1, x.shape[-1]))


def _inputs_first(value: Tensor) -> Tensor:
    """Lay a matrix [out,in] out as [in,out] in memory, as its gradient x^T dy comes."""
    return value if value.ndim != 2 else value.t().contiguous().t()


def _empty(value: Tensor, replicas: int) -> Tensor:
    """Make room [S,…] for a parameter; matrices and convolutions are laid out as [S,in,out]."""
    if value.ndim < 2 or value.shape[:2] == (1, 1):
        return value.new_empty(replicas, *value.shape)
    out, *inside = value.shape
    return value.new_empty(replicas, *inside, out).movedim(-1, 1)
