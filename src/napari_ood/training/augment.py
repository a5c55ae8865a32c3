"""Augmentation of tiles, on whole batches (torch).

What changes between laboratories, scanners and cameras and must not change the class: orientation,
stain or light, sharpness, compression, a little scale.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import conv2d, interpolate, pad

from napari_ood.training.cutting import jpeg

# Optical densities of haematoxylin, eosin and DAB: Ruifrok & Johnston, 2001, rows of unit length.
_HED = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
HED_TO_OD = _HED / _HED.norm(dim=1, keepdim=True)
# Luma of ITU-R BT.601
_GREY = torch.tensor([0.299, 0.587, 0.114])

STAIN_SCALE, STAIN_SHIFT, BRIGHTNESS = 0.35, 0.06, 0.1
PHOTO_BRIGHTNESS, PHOTO_CONTRAST, PHOTO_SATURATION, PHOTO_CAST = 0.2, 0.3, 0.3, 0.05
GAMMA_LOW, GAMMA_HIGH, ILLUMINATION = 0.7, 1.5, 0.25
JPEG_SHARE, JPEG_BEST, JPEG_WORST = 0.25, 95, 40
SCALE_SHARE, MAX_SCALE, SCALE_GROUPS = 0.5, 0.2, 4
BLUR_SHARE, MIN_SIGMA, MAX_SIGMA, RADIUS = 0.25, 0.3, 1.5, 4


class Augmenter:
    """Random changes to uint8 tiles ``[B, t, t, 3]``, drawn from one generator.

    Parameters
    ----------
    strength : float
        Scales every change; 0 leaves tiles as they are, 1 is the default recipe.
    generator : torch.Generator
        On the CPU, whatever the device, so that a seed means the same everywhere.
    kind : str
        "he": amounts of the stains. "photo": brightness, contrast, saturation, gamma, colour cast
        and a gradient of the illumination, for photographs such as dermoscopy.
    device : torch.device or str
        Where floating-point work is done and tiles end.
    """

    def __init__(
        self,
        strength: float,
        generator: Generator,
        kind: str = "he",
        device: torch.device | str = "cpu",
    ) -> None:
        self.strength, self.generator = strength, generator
        self.kind, self.device = kind, torch.device(device)
        self._hed_to_od = HED_TO_OD.to(self.device)
        self._od_to_hed = torch.linalg.inv(HED_TO_OD).to(self.device)

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return float32 RGB in 0…1, ``[B, 3, t, t]``, of uint8 tiles ``[B, t, t, 3]``."""
        if self.strength == 0:
            return tiles.to(self.device).permute(0, 3, 1, 2).float() / 255
        x = self._compress(self._turn(tiles)).to(self.device)
        x = self._stain(x) if self.kind == "he" else self._photo(x)
        return self._blur(self._scale(x.permute(0, 3, 1, 2)))

    def _uniform(self, *shape: int) -> Tensor:
        """Uniform in −strength…strength, on the device."""
        u = torch.rand(shape, generator=self.generator) * 2 - 1
        return (u * self.strength).to(self.device)

    def _some(self, n: int, share: float) -> Tensor:
        """Rows of a random part of ``n`` tiles."""
        return torch.nonzero(torch.rand(n, generator=self.generator) < share).flatten()

    def _turn(self, tiles: Tensor) -> Tensor:
        """Give each tile one of the eight orientations of a square."""
        out = torch.empty_like(tiles)
        orientation = torch.randint(0, 8, (len(tiles),), generator=self.generator)
        for k in range(8):
            chosen = tiles[orientation == k]
            turned = torch.rot90(chosen, k % 4, (1, 2))
            out[orientation == k] = turned.flip(1) if k >= 4 else turned
        return out

    def _compress(self, tiles: Tensor) -> Tensor:
        """Put a share of the tiles through JPEG, 4:2:0, of random quality."""
        worst = max(5, round(JPEG_BEST - self.strength * (JPEG_BEST - JPEG_WORST)))
        chosen = self._some(len(tiles), JPEG_SHARE)
        quality = torch.randint(worst, JPEG_BEST + 1, (len(chosen),), generator=self.generator)
        for row, q in zip(chosen.tolist(), quality.tolist(), strict=True):
            tiles[row] = torch.from_numpy(jpeg(tiles[row : row + 1].numpy(), q)[0])
        return tiles

    def _stain(self, tiles: Tensor) -> Tensor:
        """Scale and shift the amounts of the stains (Tellez et al. 2018), then the light."""
        b = len(tiles)
        # The two matrix products and the scaling between them are one 3 × 3 matrix per tile.
        scale = 1 + STAIN_SCALE * self._uniform(b, 1, 3)
        shift = STAIN_SHIFT * self._uniform(b, 1, 3)
        matrix = (self._od_to_hed * scale) @ self._hed_to_od
        offset = shift @ self._hed_to_od - torch.log1p(BRIGHTNESS * self._uniform(b, 1, 1))
        # The density is log 256 − log(v + 1); its constant goes into the offset: two passes less.
        offset = -offset - math.log(256) * matrix.sum(dim=1, keepdim=True)
        logs = torch.add(tiles.flatten(1, 2), 1.0).log_()
        return torch.baddbmm(offset, logs, matrix).exp_().clamp_(max=1).view(tiles.shape)

    def _photo(self, tiles: Tensor) -> Tensor:
        """Change gamma, contrast, saturation, brightness, cast and illumination of photographs."""
        b, height, width, _ = tiles.shape
        u = self._uniform(b, 1, 1)
        gamma = torch.exp(u * torch.where(u > 0, math.log(GAMMA_HIGH), -math.log(GAMMA_LOW)))
        x = torch.mul(tiles.flatten(1, 2), 1 / 255).pow_(gamma)
        saturation = 1 + PHOTO_SATURATION * self._uniform(b, 1, 1)
        contrast = 1 + PHOTO_CONTRAST * self._uniform(b, 1, 1)
        gain = (1 + PHOTO_BRIGHTNESS * self._uniform(b, 1, 1)) * (
            1 + PHOTO_CAST * self._uniform(b, 1, 3)
        )
        grey = _GREY.to(self.device).view(3, 1).expand(3, 3)
        colour = torch.eye(3, device=self.device) * saturation + grey * (1 - saturation)
        middle = x.mean(dim=1, keepdim=True)
        x = torch.baddbmm((1 - contrast) * middle * gain, x, colour * contrast * gain)
        return self._illuminate(x.view(b, height, width, 3)).clamp_(0, 1)

    def _illuminate(self, x: Tensor) -> Tensor:
        """Make one side brighter than the other, in a random direction."""
        b, height, width, _ = x.shape
        slope = ILLUMINATION * self._uniform(b, 2, 1, 1, 1) / math.sqrt(2)
        rows = torch.linspace(-1, 1, height, device=self.device).view(1, height, 1, 1)
        columns = torch.linspace(-1, 1, width, device=self.device).view(1, 1, width, 1)
        return x.mul_(1 + slope[:, 0] * rows + slope[:, 1] * columns)

    def _scale(self, x: Tensor) -> Tensor:
        """Magnify or shrink a share of the tiles around the centre; edges are mirrored.

        Tiles are scaled in a few groups of one size each: resizing with an antialias filter works
        on batches, and warping tile by tile would blur all of them a little.
        """
        for group in self._some(len(x), SCALE_SHARE).chunk(SCALE_GROUPS):
            factor = 1 + MAX_SCALE * float(self._uniform(1))
            if len(group):
                rows = group.to(self.device)
                x[rows] = zoom(x[rows], factor)
        return x

    def _blur(self, x: Tensor) -> Tensor:
        """Blur a share of the tiles with Gaussians of random width."""
        chosen = self._some(len(x), BLUR_SHARE).to(self.device)
        if not len(chosen) or x.shape[-1] <= RADIUS:
            return x
        span = (MAX_SIGMA - MIN_SIGMA) * self._uniform(len(chosen), 1).abs()
        offsets = torch.arange(-RADIUS, RADIUS + 1, device=self.device)
        kernel = torch.exp(-0.5 * (offsets / (MIN_SIGMA + span)) ** 2)
        kernel = kernel / kernel.sum(dim=1, keepdim=True)
        x[chosen] = _convolve(x[chosen], kernel)
        return x


def zoom(x: Tensor, factor: float) -> Tensor:
    """Show a field of view ``factor`` times as wide around the centre of ``[B, 3, t, t]``."""
    side = x.shape[-1]
    wanted = round(side * factor)
    if wanted == side:
        return x
    if wanted < side:
        start = (side - wanted) // 2
        x = x[..., start : start + wanted, start : start + wanted]
    else:
        before = (wanted - side) // 2
        after = wanted - side - before
        x = pad(x, (before, after, before, after), mode="reflect")
    return interpolate(x, size=(side, side), mode="bilinear", antialias=True)


def _convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve each tile of ``[B, 3, t, t]`` with its own separable kernel ``[B, 2r + 1]``."""
    b, channels, height, width = x.shape
    weight = kernel.repeat_interleave(channels, dim=0)
    n = weight.shape[1]
    x = pad(x, (RADIUS,) * 4, mode="reflect").reshape(1, b * channels, height + n - 1, -1)
    x = conv2d(x, weight.view(-1, 1, n, 1), groups=b * channels)
    x = conv2d(x, weight.view(-1, 1, 1, n), groups=b * channels)
    return x.view(b, channels, height, width)
