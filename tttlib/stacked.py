"""The masked autoencoder with a leading replica axis S on every trained parameter.

S test images adapt in one pass: replica s sees b masks of image s. The sum of the S losses gives S
independent gradients (replica s enters only loss s), and element-wise optimisers then act per
replica, so the result equals S runs of the one-image loop. Frozen tensors stay shared. Copies of an
image differ only in their mask, so its patches are embedded once and gathered b times.

Arithmetic of `models.mae`; a test holds both against each other and against `vmap(grad)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.models.attention import attend
from tttlib.models.mae import LAYER_NORM_EPS, MaskedAutoencoder


class StackedAutoencoder:
    """S replicas of `model` that differ in the parameters named `trained`.

    parameters  name -> leaf tensor [S,…] of the trained ones, to be given to an optimiser
    The classifier is always shared. Shapes below: S replicas, b masks, L patches, V visible ones.
    """

    def __init__(self, model: MaskedAutoencoder, trained: Iterable[str], replicas: int) -> None:
        self.model = model
        source = dict(model.named_parameters())
        self._source = {name: source[name].detach() for name in trained}
        self.parameters: dict[str, Tensor] = {
            name: value.new_empty(replicas, *value.shape) for name, value in self._source.items()
        }
        self._tensors: Mapping[str, Tensor] = {
            name: value.detach() for name, value in source.items()
        } | self.parameters
        self.reset()
        for value in self.parameters.values():
            value.requires_grad_()

    @torch.no_grad()
    def reset(self) -> None:
        """All replicas back to the model's weights; gradients are dropped."""
        for name, value in self.parameters.items():
            value.copy_(self._source[name].expand_as(value))
            value.grad = None

    def losses(self, images: Tensor, target: Tensor, order: Tensor, visible: int) -> Tensor:
        """MAE loss of every replica, [S].

        images [S,3,H,W]; target [S,L,p*p*3] from `MaskedAutoencoder.target`; order [S,b,L] patch
        orders of which the first `visible` stay
        """
        s, b, n = order.shape
        embedded = self._embed(images)  # [S,L,D]
        kept = order[..., :visible]  # [S,b,V]
        x = _take(embedded, kept)  # [S,b,V,D]
        x = self._encode(x)  # [S,b,1+V,D]
        x = self._linear(x, "decoder_embed")  # [S,b,1+V,D']
        masks = self._per_replica("mask_token", 2).expand(s, b, n - visible, -1).to(x.dtype)
        restore = order.argsort(-1)[..., None].expand(-1, -1, -1, x.shape[-1])
        patches = torch.cat([x[:, :, 1:], masks], 2).gather(2, restore)  # [S,b,L,D']
        x = torch.cat([x[:, :, :1], patches], 2) + self._tensors["decoder_pos_embed"]
        for i in range(len(self.model.decoder_blocks)):
            x = self._block(x, f"decoder_blocks.{i}", self.model.decoder_num_heads)
        removed = order[..., visible:]  # the loss looks at these only
        x = x[:, :, 1:].gather(2, removed[..., None].expand(-1, -1, -1, x.shape[-1]))
        prediction = self._linear(self._norm(x, "decoder_norm"), "decoder_pred")
        error = (prediction.to(target.dtype) - _take(target, removed)).square()  # [S,b,L-V,p*p*3]
        return error.mean((1, 2, 3))

    def tokens(self, images: Tensor) -> Tensor:
        """Encoder output on whole images [S,3,H,W] -> [S,1+L,D]; replica s encodes image s."""
        return self._encode(self._embed(images)[:, None])[:, 0]

    # -- layers: `_tensors[name]` has a replica axis exactly when `name` is trained --------------

    def _per_replica(self, name: str, axes: int) -> Tensor:
        """A token [1,1,D] or vector [D], reshaped to broadcast over [S,<axes of them>,D]."""
        value = self._tensors[name]
        if name in self.parameters:
            return value.view(len(value), *[1] * axes, value.shape[-1])
        return value.view(*[1] * (axes + 1), value.shape[-1])

    def _linear(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        if f"{name}.weight" not in self.parameters:
            return F.linear(x, weight.flatten(1), bias)
        weight = weight.flatten(2)  # [S,out,in]
        rows = torch.baddbmm(bias[:, None], x.flatten(1, -2), weight.transpose(1, 2))
        return rows.view(*x.shape[:-1], -1)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        x = F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS)
        scale = self._per_replica(f"{name}.weight", x.ndim - 2)
        return torch.addcmul(self._per_replica(f"{name}.bias", x.ndim - 2), x, scale)

    def _embed(self, images: Tensor) -> Tensor:
        """[S,3,H,W] -> [S,L,D] with positions: the patch convolution as one product."""
        p, model = self.model.patch_size, self.model
        columns = F.unfold(model.normalize(images), p, stride=p).transpose(1, 2)  # [S,L,3*p*p]
        return self._linear(columns, "patch_embed.proj") + self._tensors["pos_embed"][:, 1:]

    def _encode(self, x: Tensor) -> Tensor:
        """Patches [S,b,V,D] -> tokens [S,b,1+V,D] after the last norm."""
        cls = self._per_replica("cls_token", 2) + self._tensors["pos_embed"][:, :1]
        x = torch.cat([cls.expand(*x.shape[:2], -1, -1), x], 2)
        for i in range(len(self.model.blocks)):
            x = self._block(x, f"blocks.{i}", self.model.num_heads)
        return self._norm(x, "norm")

    def _block(self, x: Tensor, name: str, heads: int) -> Tensor:
        x = x + self._attention(self._norm(x, f"{name}.norm1"), f"{name}.attn", heads)
        hidden = F.gelu(self._linear(self._norm(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
        return x + self._linear(hidden, f"{name}.mlp.fc2")

    def _attention(self, x: Tensor, name: str, heads: int) -> Tensor:
        s, b, n, d = x.shape
        qkv = self._linear(x, f"{name}.qkv").view(s * b, n, 3, heads, d // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # [S*b,heads,n,d/heads] each
        return self._linear(attend(q, k, v).transpose(1, 2).reshape(s, b, n, d), f"{name}.proj")


def _take(patches: Tensor, index: Tensor) -> Tensor:
    """patches [S,L,D], index [S,b,K] -> [S,b,K,D]."""
    s, b, k = index.shape
    flat = index.reshape(s, b * k, 1).expand(-1, -1, patches.shape[-1])
    return patches.gather(1, flat).view(s, b, k, -1)
