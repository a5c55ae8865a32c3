"""Sprites: small drawn pieces (nuclei, collagen, red cells) that are stamped on the section.

A sprite is an array ``(3, h, w)`` float32: opacity, haematoxylin and eosin, the stains already
multiplied by the opacity. Banks are drawn once per slide: stamping is then a few array operations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor

import numpy as np
from scipy import ndimage

from napari_ood.samples.noise import Field, soften, texture

ANGLES, ANGLES_ROUND = 20, 8
"""Orientations of a bank over half a turn; fewer where shapes are nearly round."""


@dataclass(frozen=True)
class Bank:
    """Sprites of one kind: ``sprites[variant][angle]``; round kinds have one angle."""

    sprites: tuple[tuple[Field, ...], ...]

    @property
    def reach(self) -> int:
        """Half the side of the largest sprite, px."""
        longest = max(max(s.shape) for turned in self.sprites for s in turned)
        return int(longest) // 2 + 1

    def pick(self, variant: int, theta: float) -> Field:
        """Sprite nearest to an orientation ``theta`` (radians from x towards y)."""
        turned = self.sprites[variant % len(self.sprites)]
        return turned[round(theta / np.pi * len(turned)) % len(turned)]


def stamp(
    canvas: Field, sprite: Field, y: float, x: float, amount: float = 1.0, first: int = 0
) -> None:
    """Lay a sprite over ``canvas`` with its centre at (y, x), clipped at the border.

    The sprite's stains go to the canvas layers from ``first`` on; every layer under it is covered.
    ``amount`` scales the stain of the sprite, not its opacity.
    """
    _, h, w = sprite.shape
    # not round(): it rounds halves to even, so the place would depend on where the box begins
    top, left = floor(y - h / 2 + 0.5), floor(x - w / 2 + 0.5)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + h, canvas.shape[1]), min(left + w, canvas.shape[2])
    if y0 >= y1 or x0 >= x1:
        return
    part = sprite[:, y0 - top : y1 - top, x0 - left : x1 - left]
    target = canvas[:, y0:y1, x0:x1]
    target *= 1 - part[0]
    target[first : first + len(part) - 1] += part[1:] * np.float32(amount)


def _grid(half: int) -> tuple[Field, Field]:
    axis = np.arange(-half, half + 1, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return y, x


def _finish(opacity: Field, h: Field, e: Field, blur: float) -> Field:
    sprite = np.stack([opacity, opacity * h, opacity * e]).astype(np.float32)
    return np.stack([soften(layer, blur) for layer in sprite])


def _turn(sprite: Field, count: int) -> tuple[Field, ...]:
    """Turn a sprite to ``count`` (even) orientations over half a turn.

    The second quarter turn is the mirror image of the first: half the work.
    """
    first = [
        _trim(ndimage.rotate(sprite, -180.0 * k / count, axes=(1, 2), order=1))
        for k in range(count // 2 + 1)
    ]
    mirrored = [
        np.ascontiguousarray(first[count - k][:, :, ::-1]) for k in range(count // 2 + 1, count)
    ]
    return tuple(first + mirrored)


def _trim(sprite: Field) -> Field:
    """Cut empty margins alike on both sides, so that the centre stays the centre."""
    inside = np.argwhere(sprite[0] > 0.01)
    (y0, x0), (y1, x1) = inside.min(axis=0), inside.max(axis=0) + 1
    _, h, w = sprite.shape
    my, mx = min(y0, h - y1), min(x0, w - x1)
    return np.ascontiguousarray(sprite[:, my : h - my, mx : w - mx])


def bank(draw: Callable[[], Field], variants: int, angles: int) -> Bank:
    """Draw ``variants`` sprites and turn each to ``angles`` orientations."""
    return Bank(tuple(_turn(draw(), angles) for _ in range(variants)))


@dataclass(frozen=True)
class NucleusShape:
    """How the nuclei of one cell type look; lengths in px (semi-axes), stains in units."""

    long: float
    short: float
    spread: float
    h: float
    chromatin: float
    rim: float
    clump_px: float
    cytoplasm_px: float = 0.0
    cytoplasm_h: float = 0.0
    cytoplasm_e: float = 0.0
    off_centre: float = 0.0
    bend: float = 0.0
    nucleoli: int = 0


def nucleus(rng: np.random.Generator, shape: NucleusShape) -> Field:
    """Draw one nucleus, its long axis along x, with chromatin, rim, nucleoli and cytoplasm."""
    a = shape.long * np.exp(rng.normal(0, shape.spread))
    b = shape.short * np.exp(rng.normal(0, shape.spread))
    half = int(np.ceil(max(a, b) * 1.25 + shape.cytoplasm_px * 2.2 + 4))
    y, x = _grid(half)
    if shape.bend:
        y = y - shape.bend * rng.normal() * (x / a) ** 2 * b
    angle = np.arctan2(y * a, x * b)
    wobble = sum(
        rng.normal(0, 0.05 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4)
    )
    q = np.sqrt((x / a) ** 2 + (y / b) ** 2) / (1 + wobble)
    inside = np.clip((1 - q) * min(a, b) + 0.5, 0, 1).astype(np.float32)
    grain = texture(rng, 2 * half + 1, (shape.clump_px, shape.clump_px))
    chromatin = 1 + shape.chromatin * np.clip(grain, -1.8, 1.8)
    ring = shape.rim * np.exp(-(((q - 0.9) * min(a, b)) ** 2) / 1.2)
    h = shape.h * (chromatin * (1 - 0.5 * shape.rim) + ring)
    for _ in range(rng.poisson(shape.nucleoli)):
        r, phi = 0.45 * rng.random(), rng.uniform(0, 2 * np.pi)
        d2 = (x - r * a * np.cos(phi)) ** 2 + (y - r * b * np.sin(phi)) ** 2
        h = h + 0.8 * shape.h * np.exp(-d2 / 2.0)
    h = np.clip(h * rng.normal(1, 0.1), 0.05, 2.6).astype(np.float32)
    # sections are thicker than the depth of field: some nuclei lie out of focus or are cut
    blur = float(rng.choice([0.5, 0.7, 1.0, 1.5], p=[0.4, 0.35, 0.17, 0.08]))
    return _finish(*_with_cytoplasm(rng, shape, (y, x), inside, h), blur)


def _with_cytoplasm(
    rng: np.random.Generator, shape: NucleusShape, yx: tuple[Field, Field], inside: Field, h: Field
) -> tuple[Field, Field, Field]:
    if shape.cytoplasm_px == 0:
        return 0.96 * inside, h, np.full_like(h, 0.22)
    shift = shape.off_centre * shape.long
    ry = shape.short + shape.cytoplasm_px * rng.uniform(0.8, 1.2)
    rx = shape.long + shape.cytoplasm_px * rng.uniform(0.8, 1.4)
    q = np.sqrt(((yx[1] - shift) / rx) ** 2 + (yx[0] / ry) ** 2)
    body = 0.75 * np.clip((1 - q) * min(rx, ry) * 0.7 + 0.5, 0, 1)
    both = inside + (1 - inside) * body
    mix_h = (inside * h + (1 - inside) * body * shape.cytoplasm_h) / np.maximum(both, 1e-4)
    mix_e = (inside * 0.22 + (1 - inside) * body * shape.cytoplasm_e) / np.maximum(both, 1e-4)
    return both.astype(np.float32), mix_h.astype(np.float32), mix_e.astype(np.float32)


@dataclass(frozen=True)
class FibreShape:
    """How fibres of one kind look; lengths in px, stains in units."""

    length: float
    width: float
    waviness: float
    e: float
    h: float
    opacity: float
    fibril_px: float


def fibre(rng: np.random.Generator, shape: FibreShape) -> Field:
    """Draw one fibre bundle along x: a wavy, tapered ribbon made of fibrils."""
    length = shape.length * np.exp(rng.normal(0, 0.25))
    width = shape.width * np.exp(rng.normal(0, 0.3))
    half_x = int(length / 2) + 4
    half_y = int(width / 2 + shape.waviness * 2.5) + 5
    x = np.arange(-half_x, half_x + 1, dtype=np.float32)[None, :]
    y = np.arange(-half_y, half_y + 1, dtype=np.float32)[:, None]
    waves = rng.uniform(60, 130), rng.uniform(28, 50)
    centre = shape.waviness * np.sin(2 * np.pi * x / waves[0] + rng.uniform(0, 6.3))
    centre = centre + 0.35 * shape.waviness * np.sin(2 * np.pi * x / waves[1] + rng.uniform(0, 6.3))
    t = y - centre
    taper = np.sqrt(np.clip(1 - (2 * np.abs(x) / length) ** 2.5, 0, 1))
    ragged = 1 + 0.18 * np.interp(
        x[0], np.linspace(-half_x, half_x, 12), rng.standard_normal(12)
    ).astype(np.float32)
    half_width = 0.5 * width * taper * ragged
    opacity = shape.opacity * np.clip((half_width - np.abs(t)) / 1.3 + 0.5, 0, 1)
    size = int(2 ** np.ceil(np.log2(2 * half_x + 1)))
    grain = texture(rng, size, (shape.fibril_px, 45.0))
    rows = np.clip(np.round(t + size / 2).astype(int), 0, size - 1)
    fibrils = grain[rows, np.broadcast_to(np.arange(2 * half_x + 1), rows.shape)]
    shade = np.clip(1 + 0.22 * fibrils, 0.35, 1.6) * (1 - 0.25 * (t / (half_width + 1)) ** 2)
    base = shape.e * np.exp(rng.normal(0, 0.18))
    sprite = _finish(
        opacity.astype(np.float32),
        (shape.h * shade).astype(np.float32),
        (base * np.clip(shade, 0.2, 1.8)).astype(np.float32),
        0.5,
    )
    return sprite


def red_cell(rng: np.random.Generator) -> Field:
    """Draw a red blood cell ``(2, h, w)``: opacity and blood amount (paler in the middle)."""
    radius = 6.2 * np.exp(rng.normal(0, 0.08))
    y, x = _grid(11)
    squeeze = rng.uniform(0.75, 1.0)
    angle = rng.uniform(0, np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    q = np.sqrt(u**2 + (v / squeeze) ** 2) / radius
    opacity = np.clip((1 - q) * radius + 0.5, 0, 1).astype(np.float32)
    amount = rng.uniform(0.7, 1.0) * (1 - 0.3 * np.exp(-((q / 0.45) ** 2)))
    opacity = soften(0.9 * opacity, 0.5)
    return np.stack([opacity, opacity * amount]).astype(np.float32)
