"""Decide, before anything is computed, which tiles of a slide a bundle will see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import SlideError
from napari_ood.slides.grid import Region, TileGrid
from napari_ood.slides.resample import STEP_TOLERANCE, SlideView, snapped_step
from napari_ood.slides.tissue import tissue_mask

if TYPE_CHECKING:
    from napari_ood.models import Bundle, Card
    from napari_ood.slides import Slide

MIN_TISSUE = 0.1
"""Tiles with less tissue than this share are glass and are not run."""
SHARP_ENOUGH = 1.5
"""Pixels larger than the bundle's by up to this factor lose some detail, beyond it the nuclei."""
MIN_TILE_PX = 2
"""A tile made from fewer pixels of the slide along its side shows nothing at all."""
BLOCK_PX = 2048
"""Side of the block of stored pixels that one shard is cut from, about: large enough that tiles cut
by its edge are few, small enough that a dozen fit in memory (12 MB each)."""
SHARD_TILES = (4, 32)
"""Least and most tiles along a shard's side."""


@dataclass(frozen=True)
class Plan:
    """Tiles of a run.

    Attributes
    ----------
    grid : TileGrid
    tissue : (rows, cols) bool, the tiles that are run
    shard : (rows, cols) of tiles that are read, computed and stored together
    """

    grid: TileGrid
    tissue: NDArray[np.bool_]
    shard: tuple[int, int]


def check_mpp(slide_mpp: tuple[float, float] | None, card: Card, name: str) -> str | None:
    """Compare resolutions; returns a warning in words, or None when all is well.

    A slide coarser than the bundle can be run: its tiles are enlarged, blurred, and foreign to the
    model, which is what the OOD map is there to show. The user is told before.

    Raises
    ------
    SlideError
        If the slide's mpp is needed and unknown, or a tile would be less than ``MIN_TILE_PX`` wide.
    """
    if card.mpp is None:
        return None
    if slide_mpp is None:
        raise SlideError(
            f"{name} does not say its µm per pixel, and the bundle needs {card.mpp:g}: "
            "state it with --mpp (or in the dock)"
        )
    coarsest = max(slide_mpp)
    differ = f"{name} has {coarsest:.3g} µm per pixel and the bundle was trained at {card.mpp:g}"
    if card.mpp * card.tile_size < coarsest * MIN_TILE_PX:
        raise SlideError(f"{differ}: a tile would be a pixel wide; scan it finer or check its mpp")
    if coarsest > card.mpp * SHARP_ENOUGH:
        return f"{differ}: far too coarse; tiles are enlarged and predictions mean nothing"
    if coarsest > card.mpp * (1 + STEP_TOLERANCE):
        return f"{differ}: tiles are enlarged; expect more uncertainty"
    return None


def grid_step(slide: Slide, card: Card) -> tuple[float, float]:
    """Level-0 pixels (y, x) per model pixel."""
    check_mpp(slide.mpp, card, slide.name)
    if card.mpp is None or slide.mpp is None:
        return (1.0, 1.0)
    step = card.mpp / slide.mpp[0], card.mpp / slide.mpp[1]
    return snapped_step(slide.downsamples[: slide.n_native], step)


def plan_run(
    slide: Slide,
    bundle: Bundle,
    region: Region | None = None,
    stride: int | None = None,
    tissue: bool = True,
) -> Plan:
    """Lay the bundle's tiles over a slide.

    Parameters
    ----------
    region : (y, x, h, w) in level-0 pixels; the whole slide by default
    stride : model pixels between tiles; the tile size by default
    tissue : leave glass out

    Raises
    ------
    SlideError
        If the resolutions cannot match or the region lies outside the slide.
    """
    height, width = slide.levels[0].shape[:2]
    step = grid_step(slide, bundle.card)
    try:
        grid = TileGrid.over((height, width), bundle.card.tile_size, step, region, stride)
    except ValueError as error:
        raise SlideError(f"{slide.name}: {error}") from error
    wanted = np.ones((grid.rows, grid.cols), bool)
    if tissue:
        share = tissue_mask(slide).fraction(grid.boxes())
        wanted = share.reshape(wanted.shape) >= MIN_TISSUE
    return Plan(grid, wanted, _shard_shape(slide, grid))


def _shard_shape(slide: Slide, grid: TileGrid) -> tuple[int, int]:
    level = SlideView(slide, grid.step).level
    codec, downsample = slide.block_shape(level), slide.downsamples[level]
    rows, cols = (
        _tiles_along(grid.pitch[axis] / downsample[axis], codec[axis], n)
        for axis, n in ((0, grid.rows), (1, grid.cols))
    )
    return rows, cols


def _tiles_along(pitch: float, codec: int, n: int) -> int:
    """Tiles along a shard's side, if possible such that it ends where a codec tile ends."""
    low, high = SHARD_TILES
    wanted = int(np.clip(round(BLOCK_PX / pitch), low, high))
    near = range(max(low, wanted * 2 // 3), min(high, wanted * 3 // 2) + 1)
    aligned = [k for k in near if (k * pitch) % codec == 0]
    return min(min(aligned, key=lambda k: abs(k - wanted), default=wanted), n)
