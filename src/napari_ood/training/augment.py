"""Augmentation of H&E tiles, on whole batches (torch).

What changes between laboratories and must not change the class: orientation, amounts of the two
stains, brightness, sharpness, a little scale.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import conv2d, interpolate, pad

# Optical densities of haematoxylin, eosin and DAB: Ruifrok & Johnston, 2001, rows of unit length.
_HED = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
HED_TO_OD = _HED / _HED.norm(dim=1, keepdim=True)

STAIN_SCALE, STAIN_SHIFT = 0.35, 0.06
BRIGHTNESS, BLUR_SHARE, SCALE_SHARE, MAX_SCALE = 0.1, 0.25, 0.5, 0.1


class Augmenter:
    """Random changes to uint8 tiles ``[B, t, t, 3]``, drawn from one generator.

    Parameters
    ----------
    strength : float
        Scales every change; 0 leaves tiles as they are, 1 is the default recipe.
    generator : torch.Generator
    """

    def __init__(self, strength: float, generator: Generator) -> None:
        self.strength, self.generator = strength, generator
        self._to_hed = torch.linalg.inv(HED_TO_OD)

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return float32 RGB in 0…1, ``[B, 3, t, t]``, of uint8 tiles ``[B, t, t, 3]``."""
        if self.strength == 0:
            return tiles.permute(0, 3, 1, 2).float() / 255
        x = self._stain(self._turn(tiles)).permute(0, 3, 1, 2)
        return self._blur(self._scale(x))

    def _uniform(self, *shape: int) -> Tensor:
        """Uniform in −strength…strength."""
        return (torch.rand(shape, generator=self.generator) * 2 - 1) * self.strength

    def _turn(self, tiles: Tensor) -> Tensor:
        """Give each tile one of the eight orientations of a square."""
        out = torch.empty_like(tiles)
        orientation = torch.randint(0, 8, (len(tiles),), generator=self.generator)
        for k in range(8):
            chosen = tiles[orientation == k]
            turned = torch.rot90(chosen, k % 4, (1, 2))
            out[orientation == k] = turned.flip(1) if k >= 4 else turned
        return out

    def _stain(self, tiles: Tensor) -> Tensor:
        """Scale and shift the amounts of the stains (Tellez et al. 2018), then the light."""
        b = len(tiles)
        # The two matrix products and the scaling between them are one 3 × 3 matrix per tile.
        scale = 1 + STAIN_SCALE * self._uniform(b, 1, 3)
        shift = STAIN_SHIFT * self._uniform(b, 1, 3)
        matrix = (self._to_hed * scale) @ HED_TO_OD
        offset = shift @ HED_TO_OD - torch.log1p(BRIGHTNESS * self._uniform(b, 1, 1))
        density = -torch.log((tiles.flatten(1, 2).float() + 1) / 256)
        rgb = torch.exp(-torch.baddbmm(offset, density, matrix)).clamp_(0, 1)
        return rgb.view(tiles.shape)

    def _scale(self, x: Tensor) -> Tensor:
        """Magnify or shrink the whole batch a little around the centre; edges are mirrored."""
        if torch.rand(1, generator=self.generator).item() > SCALE_SHARE:
            return x
        side = x.shape[-1]
        wanted = round(side * (1 + MAX_SCALE * self._uniform(1).item()))
        if wanted <= side:  # a smaller field of view, magnified
            start = (side - wanted) // 2
            x = x[..., start : start + wanted, start : start + wanted]
        else:
            before = (wanted - side) // 2
            after = wanted - side - before
            x = pad(x, (before, after, before, after), mode="reflect")
        return interpolate(x, size=(side, side), mode="bilinear", antialias=True)

    def _blur(self, x: Tensor) -> Tensor:
        """Blur a share of the tiles with a binomial kernel, to a random degree."""
        chosen = torch.rand(len(x), generator=self.generator) < BLUR_SHARE
        if not chosen.any():
            return x
        row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        kernel = torch.outer(row, row).expand(3, 1, 5, 5)
        sharp = x[chosen]
        soft = conv2d(pad(sharp, (2, 2, 2, 2), mode="reflect"), kernel, groups=3)
        degree = self._uniform(len(sharp), 1, 1, 1).abs()
        out = x.clone()
        out[chosen] = torch.lerp(sharp, soft, degree)
        return out
