"""Foreign regions planted into tiles, with the truth of where: to judge maps finer than a tile.

None of these kinds is planted when a heatmap decoder is trained
(``napari_ood.training.heatmap_artefacts``): what it finds here it was not shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_ood.samples.stains import INKS
from napari_ood.training.cutting import Tiles, jpeg

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Kind = Callable[[Floats, np.random.Generator], Floats]

MIN_COVER, MAX_COVER = 0.1, 0.4
BLUR_SIGMA_SHARE = (0.025, 0.05)
"""Of a tile's side: 2.4 to 4.8 px of 96."""

SOFT_PX = 1.0
"""A mask's edge is blurred by so much: a saw cut would give the place away."""


class PlantedTiles(NamedTuple):
    """Tiles ``[N, t, t, 3]`` uint8 and where each is foreign, ``[N, t, t]`` bool."""

    tiles: Tiles
    masks: NDArray[np.bool_]


def plant(kind: str, tiles: Tiles, seed: int = 0, foreign: Tiles | None = None) -> PlantedTiles:
    """Plant a region of one kind into each tile, and compress all of it again (quality 75).

    Parameters
    ----------
    kind : of ``KINDS``, or ``tissue``: a piece of a foreign tile
    tiles : [N, t, t, 3] uint8
    seed : the same seed plants the same
    foreign : [K, t, t, 3] uint8, for ``tissue``

    Raises
    ------
    ValueError
        For an unknown kind, or ``tissue`` without foreign tiles.
    """
    if kind != TISSUE and kind not in KINDS:
        raise ValueError(f"no kind {kind!r}; there are {', '.join((*KINDS, TISSUE))}")
    if kind == TISSUE and (foreign is None or not len(foreign)):
        raise ValueError("planting foreign tissue needs foreign tiles")
    out, masks = np.empty_like(tiles), np.empty(tiles.shape[:3], bool)
    for i, own in enumerate(np.random.SeedSequence(seed).spawn(len(tiles))):
        rng = np.random.default_rng(own)
        region = stroke if kind in (INK, FOLD) else blob
        masks[i] = region(tiles.shape[1], rng)
        strength = ndimage.gaussian_filter(masks[i].astype(np.float64), SOFT_PX)[..., None]
        rgb = tiles[i] / 255.0
        if foreign is not None and kind == TISSUE:
            changed = foreign[int(rng.integers(len(foreign)))] / 255.0
        else:
            changed = KINDS[kind](rgb, rng)
        mixed = rgb + strength * (changed - rgb)
        out[i] = np.rint(np.clip(mixed, 0, 1) * 255)
    return PlantedTiles(jpeg(out), masks)


def blob(side: int, rng: np.random.Generator) -> Mask:
    """A round region somewhere in a tile that covers ``MIN_COVER`` to ``MAX_COVER`` of it."""
    cover = rng.uniform(MIN_COVER, MAX_COVER)
    y, x = np.mgrid[:side, :side] + 0.5
    radius = side * np.sqrt(cover / np.pi)
    middle = rng.uniform(min(radius, side / 2), max(side - radius, side / 2), 2)
    wobble = ndimage.gaussian_filter(rng.standard_normal((side, side)), side / 8) * side
    return np.asarray(np.hypot(y - middle[0], x - middle[1]) + wobble * 0.6 < radius)


def stroke(side: int, rng: np.random.Generator) -> Mask:
    """A band across a tile that covers about ``MIN_COVER`` to ``MAX_COVER`` of it."""
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[:side, :side] - side / 2
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle) - rng.uniform(-0.25, 0.25) * side
    bend = 0.08 * side * np.sin(2 * np.pi * along / side * rng.uniform(0.3, 1) + rng.uniform(0, 6))
    return np.asarray(np.abs(across + bend) < side * rng.uniform(MIN_COVER, MAX_COVER) / 2)


def _ink(rgb: Floats, rng: np.random.Generator) -> Floats:
    """A marker's stroke: the light that its dye leaves over the tissue."""
    dye = np.asarray(INKS[list(INKS)[int(rng.integers(len(INKS)))]])
    side = len(rgb)
    uneven = 1 + 2 * ndimage.gaussian_filter(rng.standard_normal((side, side)), side / 12)
    return np.asarray(rgb * np.exp(-dye * rng.uniform(0.6, 1.2) * uneven[..., None].clip(0.4, 1.6)))


def _fold(rgb: Floats, rng: np.random.Generator) -> Floats:
    """Tissue over tissue: densities of two places add up."""
    density = -np.log(np.clip(rgb, 1 / 255, 1))
    turned = np.rot90(density, int(rng.integers(1, 4)))
    return np.asarray(np.exp(-(density + turned * rng.uniform(0.8, 1.2))))


def _blur(rgb: Floats, rng: np.random.Generator) -> Floats:
    """Out of focus."""
    sigma = rng.uniform(*BLUR_SIGMA_SHARE) * len(rgb)
    return np.asarray(ndimage.gaussian_filter(rgb, (sigma, sigma, 0), mode="reflect"))


INK, FOLD, BLUR, TISSUE = "ink", "fold", "blur", "tissue"
KINDS: dict[str, Kind] = {INK: _ink, FOLD: _fold, BLUR: _blur}
"""Kinds of planted regions by name; ``tissue`` takes its pixels from foreign tiles."""
