"""What a tile looks like without its content: the other end of methods that take evidence away."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from napari_ood.errors import ExplainError

BLUR_SHARE = 10 / 224
"""Standard deviation of the blur as a share of the tile's side (Fong & Vedaldi: 10 px of 224)."""

BASELINES = ("blur", "mean", "black", "white")


def baseline_of(rgb: Tensor, kind: str = "blur") -> Tensor:
    """Return tiles ``[B, 3, t, t]`` in 0…1 without their content.

    Parameters
    ----------
    rgb : [B, 3, t, t]
    kind : ``blur``: strongly blurred, colours stay, structure goes; ``mean``: the tile's mean
        colour; ``black``; ``white``: empty glass
    """
    if kind == "blur":
        return _as_pixels(gaussian_blur(rgb, BLUR_SHARE * rgb.shape[-1]))
    if kind == "mean":
        return _as_pixels(rgb.mean(dim=(2, 3), keepdim=True).expand_as(rgb).contiguous())
    if kind in ("black", "white"):
        return torch.full_like(rgb, float(kind == "white"))
    raise ExplainError(f"no baseline {kind!r}: choose {', '.join(BASELINES)}")


def _as_pixels(rgb: Tensor) -> Tensor:
    """Round to 256 levels: a constant tile is its own baseline, exactly, and gets no map."""
    return rgb.mul(255).round().div(255)


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Blur maps ``[B, C, h, w]`` with a Gaussian; edges are continued."""
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)
    kernel = kernel / kernel.sum()
    n = x.shape[1]
    rows = kernel.view(1, 1, -1, 1).expand(n, 1, -1, 1)
    columns = kernel.view(1, 1, 1, -1).expand(n, 1, 1, -1)
    x = pad(x, (radius, radius, radius, radius), mode="replicate")
    return conv2d(conv2d(x, rows, groups=n), columns, groups=n)
