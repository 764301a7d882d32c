"""The Y-shaped network of TTT-MAE: one ViT encoder, an MAE decoder and a classification head.

Papers: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022 (encoder, decoder,
loss); Gandelsman et al., "Test-Time Training with Masked Autoencoders", NeurIPS 2022 (ViT head,
linear head). State-dict keys are those of the released TTT-MAE checkpoints, which load strictly.
Known difference: none in the arithmetic; the released network is given normalised images, this one
takes images in [0,1] and normalises with `mean` and `std` (0 and 1 until `zoo.load` sets them).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tttlib.models.attention import attend
from tttlib.models.normalised import NormalisedNetwork

LAYER_NORM_EPS = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention, scale head_dim^-0.5, with a joint qkv projection."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Let the tokens [B,N,D] attend to each other."""
        b, n, d = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.num_heads, d // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # [B,heads,N,head_dim] each
        return self.proj(attend(q, k, v).transpose(1, 2).reshape(b, n, d))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them: [B,N,D] -> [B,N,D]."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token of [B,N,D]."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block, [B,N,D]: x + attn(norm1 x), then x + mlp(norm2 x)."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Return [B,N,D] after attention and MLP."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Non-overlapping patches through one convolution, row-major: [B,3,H,W] -> [B,L,D]."""

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images [B,3,H,W] as patches [B,L,D]."""
        return self.proj(images).flatten(2).transpose(1, 2)  # [B,L,D]


class MaskedAutoencoder(NormalisedNetwork):
    """Encoder, decoder and classifier on images [B,in_chans,img_size,img_size] in [0,1].

    In the shapes below L = (img_size / patch_size)^2 patches, V of them visible, and D = embed_dim.

    Parameters
    ----------
    img_size, patch_size, in_chans
        Sides of image and patch in pixels, and colour channels.
    embed_dim, depth, num_heads
        Width, blocks and heads of the encoder; the same for the decoder and the "vit_head".
    num_classes
        Number C of classes.
    head_type
        "vit_head": `classifier_depth` transformer blocks on all tokens, CLS is read out;
        "linear": batch norm without affine parameters, then one linear layer, on CLS;
        "none": no classifier (MAE pretraining).
    mlp_ratio
        Width of the hidden layer of a block, in widths of the block.
    norm_pix_loss
        Whether the decoder predicts patches that are standardised each.

    Raises
    ------
    ValueError
        For sizes that do not divide.
    """

    pos_embed: Tensor

    def __init__(
        self,
        *,
        img_size: int = 224,
        patch_size: int = 16,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        decoder_embed_dim: int = 512,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
        num_classes: int = 1000,
        head_type: Literal["vit_head", "linear", "none"] = "vit_head",
        classifier_embed_dim: int = 768,
        classifier_depth: int = 12,
        classifier_num_heads: int = 12,
        mlp_ratio: float = 4.0,
        norm_pix_loss: bool = True,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes, in_chans)
        if patch_size < 1 or img_size < patch_size or img_size % patch_size:
            raise ValueError(
                f"img_size {img_size} is not divisible by patch_size {patch_size}; "
                f"resize the images or choose a patch size that divides"
            )
        if head_type not in ("vit_head", "linear", "none"):
            raise ValueError(f"head_type must be vit_head, linear or none, not {head_type!r}")
        _check_width("embed_dim", embed_dim, num_heads)
        _check_width("decoder_embed_dim", decoder_embed_dim, decoder_num_heads)
        self.img_size, self.patch_size, self.in_chans = img_size, patch_size, in_chans
        self.num_heads, self.decoder_num_heads = num_heads, decoder_num_heads
        self.head_type, self.norm_pix_loss = head_type, norm_pix_loss
        self.card: dict[str, Any] = {}
        grid = img_size // patch_size
        self.num_patches = grid * grid

        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = _positions(embed_dim, grid)
        self.blocks = _blocks(depth, embed_dim, num_heads, mlp_ratio)
        self.norm = nn.LayerNorm(embed_dim, eps=LAYER_NORM_EPS)

        self.decoder_embed = nn.Linear(embed_dim, decoder_embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_embed_dim))
        self.decoder_pos_embed = _positions(decoder_embed_dim, grid)
        sizes = (decoder_depth, decoder_embed_dim, decoder_num_heads, mlp_ratio)
        self.decoder_blocks = _blocks(*sizes)
        self.decoder_norm = nn.LayerNorm(decoder_embed_dim, eps=LAYER_NORM_EPS)
        self.decoder_pred = nn.Linear(decoder_embed_dim, patch_size**2 * in_chans)

        if head_type == "vit_head":
            _check_width("classifier_embed_dim", classifier_embed_dim, classifier_num_heads)
            self.classifier_embed = nn.Linear(embed_dim, classifier_embed_dim)
            self.classifier_pos_embed = _positions(classifier_embed_dim, grid)
            sizes = (classifier_depth, classifier_embed_dim, classifier_num_heads, mlp_ratio)
            self.classifier_blocks = _blocks(*sizes)
            self.classifier_norm = nn.LayerNorm(classifier_embed_dim, eps=LAYER_NORM_EPS)
            self.classifier_pred = nn.Linear(classifier_embed_dim, num_classes)
        elif head_type == "linear":
            self.bn = nn.BatchNorm1d(embed_dim, affine=False, eps=LAYER_NORM_EPS)
            self.head = nn.Linear(embed_dim, num_classes)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise as MAE does: Xavier-uniform weights, zero biases, tokens N(0, 0.02^2)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    # -- patches ---------------------------------------------------------------------------------

    def normalize(self, images: Tensor) -> Tensor:
        """Return pixels in [0,1] on the network's scale; raise a ValueError for another shape."""
        if images.shape[1:] != (self.in_chans, self.img_size, self.img_size):
            raise ValueError(
                f"this model takes images [B,{self.in_chans},{self.img_size},{self.img_size}], "
                f"got {list(images.shape)}; resize them or load another model"
            )
        return super().normalize(images)

    def patchify(self, images: Tensor) -> Tensor:
        """Cut [B,3,H,W] into patches [B,L,p*p*3] of row, column, channel (channel fastest)."""
        p, g = self.patch_size, self.img_size // self.patch_size
        x = images.reshape(len(images), self.in_chans, g, p, g, p)
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # [B,g,g,p,p,3] -> [B,L,p*p*3]

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Join patches [B,L,p*p*3] to images [B,3,H,W], the inverse of `patchify`."""
        p, g = self.patch_size, self.img_size // self.patch_size
        x = patches.reshape(len(patches), g, g, p, p, self.in_chans)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(-1, self.in_chans, self.img_size, self.img_size)

    def random_order(
        self, batch: int, generator: torch.Generator | None = None, device: object = None
    ) -> Tensor:
        """Draw patch orders [B,L] int64: argsort of uniform noise, one permutation per row."""
        noise_device = device if generator is None else generator.device
        noise = torch.rand(batch, self.num_patches, generator=generator, device=noise_device)  # type: ignore[call-overload]
        return noise.argsort(dim=1).to(device)

    def num_visible(self, mask_ratio: float) -> int:
        """Return V = int(L * (1 - mask_ratio)); raise a ValueError if that leaves one kind only."""
        visible = int(self.num_patches * (1 - mask_ratio)) if 0 < mask_ratio < 1 else 0
        if not 0 < visible < self.num_patches:
            raise ValueError(
                f"mask_ratio must lie strictly between 0 and 1 and leave visible and masked "
                f"patches among {self.num_patches}, got {mask_ratio}; the papers use 0.75"
            )
        return visible

    # -- forward ---------------------------------------------------------------------------------

    def tokens(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """Return the encoder's tokens [B,1+L,D], or [B,1+V,D] for patch indices visible [B,V]."""
        x = self.patch_embed(self.normalize(images)) + self.pos_embed[:, 1:]  # [B,L,D]
        if visible is not None:
            x = x.gather(1, visible[..., None].expand(-1, -1, x.shape[-1]))  # [B,V,D]
        # prepend the CLS token
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([cls, x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def decode(self, tokens: Tensor, order: Tensor) -> Tensor:
        """Predict patches [B,L,p*p*3] from visible tokens [B,1+V,D] and the patch order [B,L]."""
        x = self.decoder_embed(tokens)  # [B,1+V,D']
        # append mask tokens and put all patches back to their places
        masks = self.mask_token.expand(len(x), self.num_patches + 1 - x.shape[1], -1)
        restore = order.argsort(dim=1)[..., None].expand(-1, -1, x.shape[-1])
        patches = torch.cat([x[:, 1:], masks.to(x.dtype)], dim=1).gather(1, restore)  # [B,L,D']
        x = torch.cat([x[:, :1], patches], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]

    def target(self, images: Tensor) -> Tensor:
        """Return the patches to predict [B,L,p*p*3], standardised each with norm_pix_loss."""
        patches = self.patchify(self.normalize(images))
        if self.norm_pix_loss:
            mean, deviation = _moments(patches)
            patches = (patches - mean) / deviation
        return patches

    def masked_forward(
        self, images: Tensor, mask_ratio: float = 0.75, order: Any = None, generator: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Return predictions [B,L,p*p*3] and masks [B,L] (0 visible, 1 removed) of patch orders.

        An order that is None is drawn with `generator`.
        """
        if order is None:
            order = self.random_order(len(images), generator, images.device)
        v = self.num_visible(mask_ratio)
        prediction = self.decode(self.tokens(images, order[:, :v]), order)
        mask = torch.ones(order.shape, device=images.device).scatter(1, order[:, :v], 0.0)
        return prediction, mask

    def reconstruction_loss(
        self,
        images: Tensor,
        *,
        mask_ratio: float = 0.75,
        order: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the MAE loss, the mean squared error of the removed patches of the batch.

        Parameters
        ----------
        images
            Images [B,3,H,W] in [0,1].
        mask_ratio
            Share of the patches to remove.
        order
            Patch orders [B,L], of which the first int(L*(1-mask_ratio)) stay visible; None draws
            them with `generator`.
        """
        prediction, mask = self.masked_forward(images, mask_ratio, order, generator)
        error = (prediction.to(images.dtype) - self.target(images)).square().mean(-1)  # [B,L]
        return (error * mask).sum() / mask.sum()

    @torch.no_grad()
    def reconstruct(self, images: Tensor, **masking: Any) -> tuple[Tensor, Tensor]:
        """Return images with the removed patches painted in, and the masks, for display.

        With norm_pix_loss the prediction is standardised; it is shown with the mean and deviation
        of the true patch, as MAE's own demonstration does. Visible patches are the input's. The
        parameters are those of `reconstruction_loss`.

        Returns
        -------
        tuple[Tensor, Tensor]
            Images [B,3,H,W] in [0,1] and masks [B,1,H,W] (0 visible, 1 removed).
        """
        prediction, mask = self.masked_forward(images, **masking)
        patches = self.patchify(self.normalize(images))
        if self.norm_pix_loss:
            mean, deviation = _moments(patches)
            prediction = prediction * deviation + mean
        painted = self.unpatchify(torch.where(mask[..., None] > 0, prediction, patches))
        pixels = (painted * self.std + self.mean).clamp(0, 1)
        wide = mask[..., None].expand(-1, -1, self.patch_size**2 * self.in_chans)
        return pixels, self.unpatchify(wide)[:, :1]

    def encode(self, images: Tensor) -> Tensor:
        """Return the CLS latents [B,D] after the last norm, with all patches visible."""
        return self.tokens(images)[:, 0]

    def classify(self, images: Tensor) -> Tensor:
        """Return logits [B,C], with all patches visible."""
        return self.classify_tokens(self.tokens(images))

    forward = classify

    def classify_tokens(self, tokens: Tensor, visible: Tensor | None = None) -> Tensor:
        """Return logits [B,C] of tokens [B,1+L,D], or [B,1+V,D] for patch indices [B,V].

        Raises
        ------
        ValueError
            For a model without a classifier.
        """
        if self.head_type == "linear":
            return self.head(self.bn(tokens[:, 0]))
        if self.head_type == "none":
            raise ValueError("this model has no classifier; probe a head first (`tttlib train`)")
        position: Tensor = self.classifier_pos_embed
        if visible is not None:
            patches = position[0, 1:][visible]  # [B,V,D'']
            position = torch.cat([position[:, :1].expand(len(patches), -1, -1), patches], dim=1)
        x = self.classifier_embed(tokens) + position
        for block in self.classifier_blocks:
            x = block(x)
        return self.classifier_pred(self.classifier_norm(x)[:, 0])


def sincos_position_embedding(dim: int, grid: int) -> Tensor:
    """Return the fixed 2-D sine-cosine embedding [1,1+grid^2,dim]; its CLS row is zero.

    The first half of the channels encodes the column, the second half the row; each half is
    [sin(pos * w_k)], [cos(pos * w_k)] with w_k = 10000^(-k/(dim/4)), k = 0 … dim/4-1.

    Raises
    ------
    ValueError
        For a `dim` that 4 does not divide.
    """
    if dim % 4:
        raise ValueError(f"a 2-D sine-cosine embedding needs a width divisible by 4, got {dim}")
    omega = 10000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    position = torch.arange(grid, dtype=torch.float64)
    angle = position[:, None] * omega  # [grid, dim/4]
    half = torch.cat([angle.sin(), angle.cos()], dim=1)  # [grid, dim/2]
    column = half[None].expand(grid, -1, -1).reshape(grid * grid, -1)
    row = half[:, None].expand(-1, grid, -1).reshape(grid * grid, -1)
    patches = torch.cat([column, row], dim=1)  # [L, dim]
    return torch.cat([torch.zeros(1, dim, dtype=torch.float64), patches])[None].float()


def _positions(dim: int, grid: int) -> nn.Parameter:
    """Return an embedding that is in the state dict, under its released key, but never trained."""
    return nn.Parameter(sincos_position_embedding(dim, grid), requires_grad=False)


def _blocks(depth: int, dim: int, num_heads: int, mlp_ratio: float) -> nn.ModuleList:
    return nn.ModuleList(Block(dim, num_heads, mlp_ratio) for _ in range(depth))


def _moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the pixels of each patch, [B,L,1]."""
    variance, mean = patches.var(-1, keepdim=True), patches.mean(-1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def _check_width(name: str, width: int, heads: int) -> None:
    if width % heads or width % 4:
        raise ValueError(f"{name} {width} must be divisible by 4 and by its {heads} heads")
