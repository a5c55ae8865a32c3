"""Anatomy of a procedural section: which tissue lies where, on a coarse grid.

Three pieces lie on the glass, as a colon resection is cut: bowel wall (mucosa with crypts,
muscularis mucosae, submucosa, muscularis propria, lymphoid follicles), a lymph node, and a small
mucosal biopsy. Lengths are in level-0 px of 0.5 µm.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_ood.samples.noise import Field, smooth_noise

MPP = 0.5
"""Micrometres per level-0 px of every procedural slide."""

CELL = 8
"""Level-0 px per cell of the coarse grid."""


class Part(IntEnum):
    """Compartments of a section."""

    GLASS = 0
    MUCOSA = 1
    MUSCLE_THIN = 2
    SUBMUCOSA = 3
    MUSCLE = 4
    LYMPHOID = 5
    GERMINAL = 6
    SINUS = 7
    CAPSULE = 8
    SQUAMOUS = 9


LYMPHOID_PARTS = (Part.LYMPHOID, Part.GERMINAL, Part.SINUS)
STROMA_PARTS = (Part.MUSCLE_THIN, Part.SUBMUCOSA, Part.MUSCLE, Part.CAPSULE)


@dataclass
class Piece:
    """One piece of tissue on the coarse grid, lengths in px.

    ``inside`` is a signed distance (> 0 in tissue), ``depth`` the distance below the luminal
    surface (bowel) or the capsule (node), ``along`` the position along it, ``theta`` the direction
    of the fibres in radians from x towards y.
    """

    kind: str
    inside: Field
    depth: Field
    along: Field
    theta: Field
    part: NDArray[np.uint8]
    surface: bool


@dataclass
class Anatomy:
    """The pieces of a section merged into one set of coarse fields (see :class:`Piece`)."""

    size: int
    inside: Field
    depth: Field
    along: Field
    theta: Field
    part: NDArray[np.uint8]
    piece: NDArray[np.uint8]
    kinds: tuple[str, ...]


def _coordinates(size: int, centre: tuple[float, float], angle: float) -> tuple[Field, Field]:
    n = size // CELL
    axis = (np.arange(n, dtype=np.float32) + 0.5) * CELL
    y, x = np.meshgrid(axis - centre[0], axis - centre[1], indexing="ij")
    cos, sin = np.cos(angle), np.sin(angle)
    return (y * cos - x * sin).astype(np.float32), (x * cos + y * sin).astype(np.float32)


def _noise(rng: np.random.Generator, size: int, wavelength_px: float) -> Field:
    n = size // CELL
    return smooth_noise(rng, (n, n), max(wavelength_px / CELL, 2.0))


def bowel(
    rng: np.random.Generator,
    size: int,
    centre: tuple[float, float],
    angle: float,
    length: float,
    layers: tuple[float, float, float, float],
    bend: float,
) -> Piece:
    """Lay out bowel wall.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size : int
        Side of the slide, px.
    centre : (float, float)
        (y, x) of the middle of the luminal surface, px.
    angle : float
        Turn of the wall, radians; 0 has the lumen above.
    length : float
        Length along the wall, px.
    layers : (float, float, float, float)
        Thickness of mucosa, muscularis mucosae, submucosa and muscularis propria, px.
    bend : float
        Rise of the wall at its ends, as a fraction of ``length``.
    """
    v, u = _coordinates(size, centre, angle)
    v = v - 4 * bend * u**2 / length
    v = v + 60 * _noise(rng, size, 1500) + 22 * _noise(rng, size, 420)
    mucosa, thin, sub, muscle = layers
    folds = 40 * _noise(rng, size, 900)
    total = mucosa + thin + sub + muscle + 1.5 * folds
    ends = length / 2 - np.abs(u) - rng.uniform(-0.1, 0.25) * (v - total / 2)
    ends = ends + 40 * _noise(rng, size, 300) + 75 * size / 8192 * _noise(rng, size, 1100)
    bottom = total - v + 25 * _noise(rng, size, 160) + 45 * _noise(rng, size, 600)
    rim = _smooth_minimum(
        bottom.astype(np.float32), ends.astype(np.float32), 0.10 * float(total.mean())
    )
    inside = np.minimum(v, rim).astype(np.float32)

    below = v - mucosa - folds
    part = np.full(v.shape, Part.MUCOSA, np.uint8)
    part[below > 0] = Part.MUSCLE_THIN
    part[below > thin] = Part.SUBMUCOSA
    part[(below > thin + sub + 50 * _noise(rng, size, 700)) & (muscle > 0)] = Part.MUSCLE
    reach = min(mucosa * 0.62, 420.0)
    n_follicles = max(1, round(length / 1900)) if muscle > 0 else 0
    places = (np.arange(n_follicles) + rng.uniform(0.25, 0.75, n_follicles)) / max(n_follicles, 1)
    for place in places:
        r = reach * rng.uniform(0.75, 1.1)
        u0 = (place - 0.5) * 0.88 * length
        d = r - np.hypot(u - u0, 1.25 * (below - 0.12 * r)) + 22 * _noise(rng, size, 180)
        part[(d > 0) & (v > 40)] = Part.LYMPHOID
        part[(d > 0.45 * r) & (r > 150)] = Part.GERMINAL
    part[inside <= 0] = Part.GLASS

    gradient = np.arctan2(*np.gradient(ndimage.gaussian_filter(v, 6)))
    theta = gradient + np.pi / 2 + 0.5 * _noise(rng, size, 500)
    loose = part == Part.SUBMUCOSA
    theta = theta + loose * 0.45 * _noise(rng, size, 260)
    outer = (part == Part.MUSCLE) & (below > thin + sub + 0.6 * muscle)
    theta = np.where(outer, theta + 0.35 * _noise(rng, size, 350), theta)
    return Piece("bowel", inside, v, u, theta.astype(np.float32), part, surface=True)


def _smooth_minimum(a: Field, b: Field, width: float) -> Field:
    """Minimum whose crease is rounded over ``width`` px, as no knife leaves a sharp corner."""
    gap = np.maximum(width - np.abs(a - b), 0)
    return np.asarray(np.minimum(a, b) - gap**2 / (4 * width), np.float32)


def lymph_node(
    rng: np.random.Generator,
    size: int,
    centre: tuple[float, float],
    angle: float,
    half_axes: tuple[float, float],
) -> Piece:
    """Lay out a lymph node: capsule, sinus, cortex with follicles, medulla; ``half_axes`` in px."""
    v, u = _coordinates(size, centre, angle)
    b, a = half_axes
    q = np.hypot(u / a, v / b) + 0.05 * _noise(rng, size, 1400) + 0.02 * _noise(rng, size, 350)
    inside = (1 - q) * b
    depth = inside + 6 * _noise(rng, size, 120)
    part = np.full(v.shape, Part.LYMPHOID, np.uint8)
    around = np.arctan2(v * a, u * b)
    n_follicles = max(3, round(1.2 * np.pi * (a + b) / 900))
    cortex = min(0.34 * b, 430.0)
    for k in range(n_follicles):
        phi = 2 * np.pi * (k + rng.uniform(-0.25, 0.25)) / n_follicles
        r = cortex * rng.uniform(0.42, 0.62)
        level = cortex * rng.uniform(0.65, 0.85)
        across = np.angle(np.exp(1j * (around - phi))) * np.hypot(u, v)
        d = r - np.hypot(across, depth - level) + 12 * _noise(rng, size, 150)
        part[d > 0.25 * r] = Part.GERMINAL
    medulla = depth > 1.7 * cortex
    winding = _noise(rng, size, 170)
    part[medulla & (np.abs(winding) < 0.20)] = Part.SINUS
    part[(depth < 75) & (part != Part.GERMINAL)] = Part.SINUS
    part[depth < 48] = Part.CAPSULE
    part[inside <= 0] = Part.GLASS
    slope = np.gradient(ndimage.gaussian_filter(inside, 6))
    theta = np.arctan2(slope[0], slope[1]) + np.pi / 2 + 0.15 * _noise(rng, size, 300)
    along = around * (a + b) / 2
    return Piece("node", inside, depth, along.astype(np.float32), theta, part, surface=False)


def merge(size: int, pieces: list[Piece]) -> Anatomy:
    """Merge pieces into coarse fields over the slide; each cell belongs to its nearest piece."""
    owner = np.argmax([p.inside for p in pieces], axis=0)

    def choose(name: str) -> NDArray[Any]:
        stack = np.stack([getattr(p, name) for p in pieces])
        return np.asarray(np.take_along_axis(stack, owner[None], axis=0)[0])

    inside = choose("inside").astype(np.float32)
    surface = np.array([p.surface for p in pieces])[owner]
    return Anatomy(
        size=size,
        inside=inside,
        # only bowel has a lumen: elsewhere no epithelium may line the edge
        depth=np.where(surface, choose("depth"), 1e4).astype(np.float32),
        along=choose("along").astype(np.float32),
        theta=choose("theta").astype(np.float32),
        part=np.where(inside > 0, choose("part"), Part.GLASS).astype(np.uint8),
        piece=np.where(inside > 0, owner + 1, 0).astype(np.uint8),
        kinds=tuple(p.kind for p in pieces),
    )


def lay_out(rng: np.random.Generator, size: int) -> Anatomy:
    """Lay out a whole section on a square slide of side ``size`` px."""
    k = size / 8192
    tilt = rng.uniform(-0.12, 0.12)
    wall = bowel(
        rng,
        size,
        (size * rng.uniform(0.10, 0.13), size * rng.uniform(0.49, 0.53)),
        tilt,
        length=size * rng.uniform(0.80, 0.86),
        layers=(1150 * k, 110 * k**0.5, 1050 * k, 1000 * k),
        bend=rng.uniform(0.03, 0.08),
    )
    node = lymph_node(
        rng,
        size,
        (size * rng.uniform(0.76, 0.79), size * rng.uniform(0.66, 0.70)),
        rng.uniform(-0.3, 0.3),
        (size * rng.uniform(0.145, 0.16), size * rng.uniform(0.22, 0.25)),
    )
    biopsy = bowel(
        rng,
        size,
        (size * rng.uniform(0.70, 0.72), size * rng.uniform(0.20, 0.22)),
        rng.uniform(-0.25, 0.25),
        length=size * rng.uniform(0.22, 0.25),
        layers=(1150 * k, 90 * k**0.5, 350 * k, 0.0),
        bend=rng.uniform(-0.1, 0.0),
    )
    return merge(size, [wall, node, biopsy])


def stroma_mask(anatomy: Anatomy) -> NDArray[np.bool_]:
    """Coarse cells of connective tissue and muscle."""
    return np.isin(anatomy.part, STROMA_PARTS)
