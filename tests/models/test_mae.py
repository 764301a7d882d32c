"""The network: released key names and sizes, and every formula against a slow one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from tiny_mae import SIZES, tiny_images, tiny_mae
from torch import Tensor, nn

from tttlib.models import MaskedAutoencoder, zoo
from tttlib.models.mae import Block, sincos_position_embedding

L = 16


def images(n: int = 3) -> Tensor:
    return tiny_images(n)


def model(**overrides: object) -> MaskedAutoencoder:
    """A small float64 model whose every parameter, biases and tokens included, is random."""
    net = tiny_mae(**overrides)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if not name.endswith("pos_embed"):
                p.add_(0.2 * torch.randn(p.shape, generator=random, dtype=p.dtype))
    return net


def pixels_of(image: Tensor, patch: int, norm_pix: bool) -> np.ndarray:
    """What the decoder should predict of one patch, row by row, the channel fastest."""
    top, left = 4 * (patch // 4), 4 * (patch % 4)
    pixels = image[:, top : top + 4, left : left + 4].numpy().transpose(1, 2, 0).ravel()
    standardised = (pixels - pixels.mean()) / np.sqrt(pixels.var(ddof=1) + 1e-6)
    return standardised if norm_pix else pixels


def orders(n: int = 3, seed: int = 2) -> Tensor:
    return torch.rand(n, L, generator=torch.Generator().manual_seed(seed)).argsort(1)


def preset(name: str, **overrides: object) -> MaskedAutoencoder:
    """A preset without memory or arithmetic."""
    with torch.device("meta"):
        return zoo.create(name, **overrides)


def linear(name: str, out: int, inside: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, inside), f"{name}.bias": (out,)}


def norm(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def transformer(name: str, depth: int, dim: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(depth):
        shapes |= norm(f"{name}.{i}.norm1", dim) | norm(f"{name}.{i}.norm2", dim)
        shapes |= linear(f"{name}.{i}.attn.qkv", 3 * dim, dim)
        shapes |= linear(f"{name}.{i}.attn.proj", dim, dim)
        shapes |= linear(f"{name}.{i}.mlp.fc1", 4 * dim, dim)
        shapes |= linear(f"{name}.{i}.mlp.fc2", dim, 4 * dim)
    return shapes


RELEASED_MAE = {
    "cls_token": (1, 1, 1024),
    "pos_embed": (1, 197, 1024),
    "mask_token": (1, 1, 512),
    "decoder_pos_embed": (1, 197, 512),
    "patch_embed.proj.weight": (1024, 3, 16, 16),
    "patch_embed.proj.bias": (1024,),
    **transformer("blocks", 24, 1024),
    **norm("norm", 1024),
    **linear("decoder_embed", 512, 1024),
    **transformer("decoder_blocks", 8, 512),
    **norm("decoder_norm", 512),
    **linear("decoder_pred", 768, 512),
}
RELEASED_VIT_HEAD = {
    **linear("classifier_embed", 768, 1024),
    "classifier_pos_embed": (1, 197, 768),
    **transformer("classifier_blocks", 12, 768),
    **norm("classifier_norm", 768),
    **linear("classifier_pred", 1000, 768),
}
RELEASED_LINEAR_HEAD = {
    "bn.running_mean": (1024,),
    "bn.running_var": (1024,),
    "bn.num_batches_tracked": (),
    **linear("head", 1000, 1024),
}


@pytest.mark.parametrize(
    ("head_type", "head"),
    [("vit_head", RELEASED_VIT_HEAD), ("linear", RELEASED_LINEAR_HEAD), ("none", {})],
)
def test_large_has_the_released_keys_and_shapes(
    head_type: str, head: dict[str, tuple[int, ...]]
) -> None:
    state = preset("large", head_type=head_type).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == RELEASED_MAE | head


@pytest.mark.parametrize(
    ("name", "encoder", "decoder", "head"),
    [
        ("small", 21_590_016, 25_811_712, 25_930_216),
        ("base", 85_647_360, 26_008_320, 86_415_592),
        ("large", 303_099_904, 26_139_392, 86_612_200),
        ("huge", 630_435_840, 26_178_124, 86_808_808),
    ],
)
def test_parameter_counts(name: str, encoder: int, decoder: int, head: int) -> None:
    counts = {"encoder": 0, "decoder": 0, "head": 0}
    for key, p in preset(name).named_parameters():
        if p.requires_grad:  # the fixed positions do not count
            is_decoder = key.startswith("decoder") or key == "mask_token"
            part = "head" if key.startswith("classifier") else "encoder"
            counts["decoder" if is_decoder else part] += p.numel()
    assert counts == {"encoder": encoder, "decoder": decoder, "head": head}
    assert preset(name).num_visible(0.75) == (64 if name == "huge" else 49)


def test_positions_are_fixed_and_normalisation_stays_out_of_the_state() -> None:
    net = model()
    fixed = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert fixed == {"pos_embed", "decoder_pos_embed", "classifier_pos_embed"}
    assert not {"mean", "std"} & set(net.state_dict())
    assert (net.mean == 0).all() and (net.std == 1).all()


def test_initialisation_is_that_of_mae() -> None:
    torch.manual_seed(0)
    net = MaskedAutoencoder(**SIZES)
    for module in (m for m in net.modules() if isinstance(m, nn.Linear)):
        bound = math.sqrt(6 / (module.in_features + module.out_features))
        assert 0.8 * bound < module.weight.abs().max() <= bound
        assert (module.bias == 0).all()
    patches = net.patch_embed.proj.weight  # as if it were a linear layer
    bound = math.sqrt(6 / (16 + 3 * 4 * 4))
    assert 0.95 * bound < patches.abs().max() <= bound
    assert 0.005 < net.cls_token.std() < 0.05 and 0.005 < net.mask_token.std() < 0.05


@pytest.mark.parametrize(("dim", "grid"), [(4, 1), (8, 3), (16, 4), (64, 14)])
def test_sincos_against_the_formula(dim: int, grid: int) -> None:
    got = sincos_position_embedding(dim, grid)
    assert got.shape == (1, 1 + grid**2, dim) and got.dtype == torch.float32
    assert (got[0, 0] == 0).all()
    quarter = dim // 4
    for row, column in itertools.product(range(grid), repeat=2):
        expected = []
        for position in (column, row):
            angles = [position / 10000 ** (k / quarter) for k in range(quarter)]
            expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        vector = got[0, 1 + row * grid + column].double()
        np.testing.assert_allclose(vector.numpy(), expected, atol=1e-7)
    with pytest.raises(ValueError, match="divisible by 4, got 6"):
        sincos_position_embedding(6, 2)


def test_block_is_the_pre_norm_transformer_layer() -> None:
    torch.manual_seed(0)
    ours = Block(12, 3, 4.0).double()
    theirs = nn.TransformerEncoderLayer(
        12, 3, 48, 0.0, nn.functional.gelu, 1e-6, batch_first=True, norm_first=True
    ).double()
    with torch.no_grad():
        for p in ours.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    names = {
        "attn.qkv.weight": "self_attn.in_proj_weight",
        "attn.qkv.bias": "self_attn.in_proj_bias",
        "attn.proj": "self_attn.out_proj",
        "mlp.fc1": "linear1",
        "mlp.fc2": "linear2",
    }
    state = {}
    for name, value in ours.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        state[name] = value
    theirs.load_state_dict(state)
    x = torch.randn(2, 7, 12).double()
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-12, rtol=0)


def test_patchify_order_and_inverse() -> None:
    net, x = model(), images(n=2)
    patches = net.patchify(x)
    assert patches.shape == (2, L, 4 * 4 * 3)
    for patch, row, column, channel in itertools.product(range(L), range(4), range(4), range(3)):
        top, left = 4 * (patch // 4), 4 * (patch % 4)
        got = patches[:, patch, (row * 4 + column) * 3 + channel]
        assert torch.equal(got, x[:, channel, top + row, left + column])
    assert torch.equal(net.unpatchify(patches), x)


def test_patch_embedding_numbers_patches_like_patchify() -> None:
    net, x = model(), images(n=2)
    weight = net.patch_embed.proj.weight.permute(0, 2, 3, 1).flatten(1)  # [D,p*p*3]
    expected = net.patchify(x) @ weight.T + net.patch_embed.proj.bias
    torch.testing.assert_close(net.patch_embed(x), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("norm_pix", [True, False])
def test_target_standardises_with_the_unbiased_variance(norm_pix: bool) -> None:
    net, x = model(norm_pix_loss=norm_pix), images(n=2)
    for image, got in zip(x, net.target(x), strict=True):
        for patch in range(L):
            expected = pixels_of(image, patch, norm_pix)
            np.testing.assert_allclose(got[patch].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("ratio", "visible"), [(0.75, 4), (0.5, 8), (0.9, 1), (0.3, 11)])
def test_the_encoder_sees_the_share_that_is_kept(ratio: float, visible: int) -> None:
    net, seen = model(), []
    net.blocks[0].register_forward_pre_hook(lambda _, x: seen.append(x[0].shape[1]))
    _, mask = net.masked_forward(images(), mask_ratio=ratio, order=orders())
    assert seen == [1 + visible] and net.num_visible(ratio) == visible == int(L * (1 - ratio))
    assert (mask.sum(1) == L - visible).all()
    for row, order in zip(mask, orders(), strict=True):
        assert (row[order[:visible]] == 0).all() and (row[order[visible:]] == 1).all()


@pytest.mark.parametrize("ratio", [0, 1, 1.0, -0.5, 1.5, 0.99, float("nan")])
def test_ratios_that_hide_nothing_or_everything_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=f"mask_ratio .*between 0 and 1.*got {ratio}"):
        model().reconstruction_loss(images(), mask_ratio=ratio)


def test_random_orders_are_seeded_permutations_of_each_image() -> None:
    net = model()
    found = net.random_order(50, torch.Generator().manual_seed(3))
    assert found.shape == (50, L) and found.dtype == torch.int64
    assert torch.equal(found.sort(1).values, torch.arange(L).expand(50, -1))
    assert len(found.unique(dim=0)) == 50
    assert torch.equal(found, net.random_order(50, torch.Generator().manual_seed(3)))
    x, drawn = images(), net.random_order(3, torch.manual_seed(5))
    expected = net.reconstruction_loss(x, order=drawn)
    assert net.reconstruction_loss(x, generator=torch.manual_seed(5)) == expected
    assert net.reconstruction_loss(x, generator=torch.manual_seed(6)) != expected


@pytest.mark.parametrize("norm_pix", [True, False])
@pytest.mark.parametrize("ratio", [0.75, 0.3])
def test_loss_against_explicit_loops(norm_pix: bool, ratio: float) -> None:
    net, x, order = model(norm_pix_loss=norm_pix), images(), orders()
    visible = int(L * (1 - ratio))
    with torch.no_grad():
        prediction = net.decode(net.tokens(x, order[:, :visible]), order).numpy()
    total, count = 0.0, 0
    for i in range(len(x)):
        for patch in order[i, visible:].tolist():
            pixels = pixels_of(x[i], patch, norm_pix)
            total += sum((prediction[i, patch, j] - pixels[j]) ** 2 for j in range(48)) / 48
            count += 1
    loss = net.reconstruction_loss(x, mask_ratio=ratio, order=order)
    assert loss.shape == () and loss.item() == pytest.approx(total / count, abs=1e-10)


def test_decoder_puts_visible_tokens_back_to_their_places() -> None:
    net, x, order = model(), images(), orders()
    tokens = net.tokens(x, order[:, :4])
    seen: list[Tensor] = []
    net.decoder_blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert net.decode(tokens, order).shape == (3, L, 48)
    entered = seen[0] - net.decoder_pos_embed  # [B,1+L,D']
    embedded = net.decoder_embed(tokens)
    torch.testing.assert_close(entered[:, 0], embedded[:, 0], atol=1e-12, rtol=0)
    for i in range(3):
        for rank, patch in enumerate(order[i].tolist()):
            expected = embedded[i, 1 + rank] if rank < 4 else net.mask_token[0, 0]
            torch.testing.assert_close(entered[i, 1 + patch], expected, atol=1e-12, rtol=0)


def test_the_order_of_patches_does_not_matter() -> None:
    """Positions travel with the patches, through encoder and head."""
    net, x, order = model(), images(), orders()
    shuffled, whole = net.tokens(x, order), net.tokens(x)
    assert whole.shape == (3, 1 + L, 16) and torch.equal(net.encode(x), whole[:, 0])
    assert torch.equal(net(x), net.classify(x)) and torch.equal(net(x), net.classify_tokens(whole))
    back = whole[:, 1:].gather(1, order[..., None].expand(-1, -1, 16))
    torch.testing.assert_close(shuffled[:, 1:], back, atol=1e-10, rtol=0)
    logits = net.classify_tokens(shuffled, order)
    torch.testing.assert_close(logits, net.classify(x), atol=1e-10, rtol=0)
    assert not torch.allclose(net.classify_tokens(shuffled), net.classify(x))


def test_head_on_some_patches_sees_their_positions() -> None:
    net, x, order = model(), images(), orders()
    visible = order[:, :4]
    tokens = net.tokens(x, visible)
    seen: list[Tensor] = []
    net.classifier_blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert net.classify_tokens(tokens, visible).shape == (3, 3)
    positions = seen[0] - net.classifier_embed(tokens)
    assert (positions[:, 0].abs() < 1e-12).all()
    for i in range(3):
        expected = net.classifier_pos_embed[0, 1 + visible[i]]
        torch.testing.assert_close(positions[i, 1:], expected, atol=1e-12, rtol=0)


def test_linear_head_is_batch_norm_and_one_product() -> None:
    net, x = model(head_type="linear"), images()
    with torch.no_grad():
        net.bn.running_mean.copy_(torch.linspace(-1, 1, 16))
        net.bn.running_var.copy_(torch.linspace(0.1, 2, 16))
    cls = net.encode(x)
    scaled = (cls - net.bn.running_mean) / (net.bn.running_var + 1e-6).sqrt()
    expected = scaled @ net.head.weight.T + net.head.bias
    torch.testing.assert_close(net.classify(x), expected, atol=1e-12, rtol=0)
    some = net.classify_tokens(net.tokens(x, orders()[:, :4]), orders()[:, :4])
    assert some.shape == (3, 3)


def test_normalisation_happens_inside() -> None:
    net, x, order = model(), images(), orders()
    mean = torch.tensor([0.2, 0.5, 0.7]).double().view(1, 3, 1, 1)
    std = torch.tensor([0.1, 0.3, 0.5]).double().view(1, 3, 1, 1)
    outside = (x - mean) / std
    expected = net.classify(outside), net.reconstruction_loss(outside, order=order)
    net.mean.copy_(mean)
    net.std.copy_(std)
    torch.testing.assert_close(net.classify(x), expected[0], atol=1e-12, rtol=0)
    loss = net.reconstruction_loss(x, order=order)
    torch.testing.assert_close(loss, expected[1], atol=1e-10, rtol=0)


def normalised(**overrides: object) -> MaskedAutoencoder:
    net = model(**overrides)
    net.mean.fill_(0.5)
    net.std.fill_(0.25)
    return net


@pytest.mark.parametrize("norm_pix", [True, False])
def test_reconstruct_keeps_what_was_visible(norm_pix: bool) -> None:
    net, x, order = normalised(norm_pix_loss=norm_pix), images(), orders()
    pixels, mask = net.reconstruct(x, order=order)
    assert pixels.shape == x.shape and mask.shape == (3, 1, 16, 16)
    assert not pixels.requires_grad and pixels.min() >= 0 and pixels.max() <= 1
    by_patch = net.patchify(mask.expand(-1, 3, -1, -1)).double().mean(-1)
    expected = torch.ones(3, L).double().scatter(1, order[:, :4], 0)
    assert torch.equal(by_patch, expected)
    visible = mask.expand_as(x) == 0
    torch.testing.assert_close(pixels[visible], x[visible], atol=1e-12, rtol=0)
    assert (pixels[~visible] != x[~visible]).double().mean() > 0.95


@pytest.mark.parametrize("norm_pix", [True, False])
def test_a_perfect_prediction_gives_the_image_back(
    norm_pix: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = normalised(norm_pix_loss=norm_pix), images()
    target = net.target(x)
    monkeypatch.setattr(net, "decode", lambda tokens, order: target)
    pixels, _ = net.reconstruct(x, mask_ratio=0.5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pixels, x, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"img_size": 18}, "img_size 18 is not divisible by patch_size 4"),
        ({"img_size": 2}, "img_size 2 is not divisible by patch_size 4"),
        ({"patch_size": 0}, "patch_size 0"),
        ({"embed_dim": 18}, "embed_dim 18 must be divisible by 4"),
        ({"embed_dim": 16, "num_heads": 3}, "embed_dim 16 .* 3 heads"),
        ({"decoder_embed_dim": 8, "decoder_num_heads": 3}, "decoder_embed_dim 8 .* 3 heads"),
        ({"classifier_embed_dim": 10, "classifier_num_heads": 5}, "classifier_embed_dim 10"),
        ({"head_type": "mlp"}, "vit_head, linear or none, not 'mlp'"),
    ],
)
def test_sizes_that_do_not_divide(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskedAutoencoder(**{**SIZES, **overrides})


@pytest.mark.parametrize("shape", [(2, 3, 20, 20), (2, 1, 16, 16), (3, 16, 16), (2, 3, 16, 8)])
@pytest.mark.parametrize("what", ["classify", "reconstruction_loss", "reconstruct"])
def test_images_of_another_shape(shape: tuple[int, ...], what: str) -> None:
    got = ", ".join(map(str, shape))
    with pytest.raises(ValueError, match=rf"images \[B,3,16,16\], got \[{got}"):
        getattr(model(), what)(torch.zeros(shape, dtype=torch.float64))
