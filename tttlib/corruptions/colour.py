"""Brightness and saturation of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261).

Both change one coordinate of HSV. With V = max(rgb) and S = 1 - min(rgb)/V the change has a closed
form in RGB, which is used in float32. In float64 (reference mode) the images are converted to hue,
saturation and value as in the reference, because the last bit decides about results that are whole
grey levels before truncation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttlib.corruptions.fields import Fields

# Parameters of severities 1..5 by image size.
BRIGHTNESS = {  # added to V
    32: (0.05, 0.1, 0.15, 0.2, 0.3),
    64: (0.1, 0.2, 0.3, 0.4, 0.5),
    224: (0.1, 0.2, 0.3, 0.4, 0.5),
}
SATURATE = {  # factor on S and what is added; severities 1 and 2 take colour away
    32: ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    64: ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
    224: ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
}


def brightness(x: Tensor, fields: Fields, shift: float) -> Tensor:
    """Raise the value to V' = min(V + shift, 1) and keep hue and saturation.

    x is [B,3,H,W] in [0,1].
    """
    if x.dtype == torch.float64:
        hue, saturation, value = _to_hsv(x)
        return _to_rgb(hue, saturation, (value + shift).clamp_(0, 1))
    value = x.amax(1, keepdim=True)  # [B,1,H,W]
    brighter = (value + shift).clamp_(max=1)
    return torch.where(value > 0, x * (brighter / value), brighter)


def saturate(x: Tensor, fields: Fields, factor: float, shift: float) -> Tensor:
    """Change the saturation to S' = min(factor * S + shift, 1) and keep hue and value.

    x is [B,3,H,W] in [0,1]. Grey has hue 0, which is red, so a shift above 0 makes it reddish, as
    in the reference.
    """
    if x.dtype == torch.float64:
        hue, saturation, value = _to_hsv(x)
        return _to_rgb(hue, (saturation * factor + shift).clamp_(0, 1), value)
    value, smallest = x.amax(1, keepdim=True), x.amin(1, keepdim=True)  # [B,1,H,W]
    spread = value - smallest
    target = (factor * spread + shift * value).clamp_(max=value)  # V S'
    coloured = value - (value - x) * (target / spread)
    red = torch.cat([value, value - target, value - target], 1)
    return torch.where(spread > 0, coloured, red)


def _to_hsv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue, saturation and value in [0,1], [B,H,W] each, computed as scikit-image does."""
    red, green, blue = x.unbind(1)
    value = x.amax(1)
    spread = value - x.amin(1)
    some = torch.where(spread > 0, spread, 1)
    saturation = torch.where(spread > 0, spread / torch.where(value > 0, value, 1), 0)
    hue = torch.where(red == value, (green - blue) / some, 0)
    hue = torch.where(green == value, 2 + (blue - red) / some, hue)
    hue = torch.where(blue == value, 4 + (red - green) / some, hue)
    hue = torch.where(spread > 0, (hue / 6) % 1, 0)
    return hue, saturation, value


def _to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return the images [B,3,H,W], by the six sextants of the hue."""
    sextant = (hue * 6).floor()
    f = hue * 6 - sextant
    p = value * (1 - saturation)
    q = value * (1 - f * saturation)
    t = value * (1 - (1 - f) * saturation)
    choices = (
        (value, t, p),
        (q, value, p),
        (p, value, t),
        (p, q, value),
        (t, p, value),
        (value, p, q),
    )
    index = sextant.long() % 6  # [B,H,W]
    channels = [
        torch.stack([choice[c] for choice in choices]).gather(0, index[None])[0] for c in range(3)
    ]
    return torch.stack(channels, 1)
