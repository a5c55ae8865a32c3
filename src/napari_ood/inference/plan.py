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
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide

MIN_TISSUE = 0.1
"""Tiles with less tissue than this share are glass and are not run."""
MAX_UPSAMPLING = 1.5
"""A slide whose pixels are larger than the bundle's by more than this factor is refused: enlarging
cannot bring back the nuclei's detail, and the model would be asked about blurred tiles."""
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


def check_mpp(
    slide_mpp: tuple[float, float] | None, bundle_mpp: float | None, name: str = "the slide"
) -> str | None:
    """Compare resolutions; returns a warning in words, or None when all is well.

    Raises
    ------
    SlideError
        If the slide's mpp is needed and unknown, or far too coarse for the bundle.
    """
    if bundle_mpp is None:
        return None
    if slide_mpp is None:
        raise SlideError(
            f"{name} does not say its µm per pixel, and the bundle needs {bundle_mpp:g}: "
            "state it with --mpp (or in the dock)"
        )
    coarsest = max(slide_mpp)
    if coarsest > bundle_mpp * MAX_UPSAMPLING:
        raise SlideError(
            f"{name} has {coarsest:.3g} µm per pixel and the bundle was trained at {bundle_mpp:g}: "
            "too coarse to show what the model knows; scan it finer or choose another bundle"
        )
    if coarsest > bundle_mpp * (1 + STEP_TOLERANCE):
        return (
            f"{name} is coarser ({coarsest:.3g} µm per pixel) than the bundle's {bundle_mpp:g}: "
            "tiles are enlarged, expect more uncertainty"
        )
    return None


def grid_step(slide: Slide, bundle_mpp: float | None) -> tuple[float, float]:
    """Level-0 pixels (y, x) per model pixel."""
    if bundle_mpp is None:
        return (1.0, 1.0)
    check_mpp(slide.mpp, bundle_mpp, slide.name)
    assert slide.mpp is not None  # check_mpp raised otherwise
    step = bundle_mpp / slide.mpp[0], bundle_mpp / slide.mpp[1]
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
    step = grid_step(slide, bundle.card.mpp)
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
