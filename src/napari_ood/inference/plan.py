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
NO_TISSUE = "no tissue found, so nothing was run; --no-tissue runs on all of it"
"""What command lines say of a slide that is glass all over."""
SHARP_ENOUGH = 1.5
"""Pixels larger than the bundle's by up to this factor lose some detail, beyond it the nuclei."""
MIN_TILE_PX = 2
"""A tile made from fewer pixels of the slide along its side shows nothing at all."""
BLOCK_PX = 2048
"""Side of the block of stored pixels that one shard is cut from, about: large enough that tiles cut
by its edge are few, small enough that a dozen fit in memory (12 MB each)."""
MOST_TILES = 20_000_000
"""A grid of more takes gigabytes for its boxes alone. The largest slides have some 100,000 tiles
without overlap."""
SHARD_TILES = (4, 32)
"""Least and most tiles along a shard's side; fewer than the least where they lie far apart."""
LARGEST_SOURCE_PX = 16384
"""A tile made from more stored pixels along its side would fill the memory (0.8 GB): the slide's
mpp is wrong, or it stores no level for such a bundle."""


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


def check_slide(slide: Slide, card: Card, name: str | None = None) -> str | None:
    """Whether slide and bundle match; returns a warning in words, or None when all is well.

    Raises
    ------
    SlideError
        As :func:`check_mpp`.
    """
    name = name or slide.name
    if not card.whole_image:
        return check_mpp(slide.mpp, card, name)
    height, width = slide.shape
    if slide.n_native > 1:
        return (
            f"{name} is a whole slide and the bundle judges single images: predictions mean nothing"
        )
    if min(height, width) < card.tile_size:
        return (
            f"{name} has {width} × {height} px and the bundle sees {card.tile_size} px: the image "
            "is enlarged; expect more uncertainty"
        )
    return None


def warnings_for(slide: Slide, card: Card) -> list[str]:
    """What the slide's file leaves open that matters to a bundle, in words."""
    # Without a scale of its own the bundle does not care about the slide's.
    return [w for w in slide.warnings if card.mpp is not None or "--mpp" not in w]


def grid_step(slide: Slide, card: Card) -> tuple[float, float]:
    """Level-0 pixels (y, x) per model pixel."""
    check_mpp(slide.mpp, card, slide.name)
    if card.mpp is None or slide.mpp is None:
        return (1.0, 1.0)
    step = card.mpp / slide.mpp[0], card.mpp / slide.mpp[1]
    return snapped_step(slide.downsamples[: slide.n_native], step)


def plan_grid(
    slide: Slide, bundle: Bundle, region: Region | None = None, stride: int | None = None
) -> TileGrid:
    """Lay the bundle's tiles over a slide; reads no pixels.

    Parameters
    ----------
    region : (y, x, h, w) in level-0 pixels; the whole slide by default
    stride : model pixels between tiles; the tile size by default

    Returns
    -------
    TileGrid
        For a bundle that judges whole images a single tile: the region, squeezed to a square.

    Raises
    ------
    SlideError
        If the resolutions cannot match, the region lies outside the slide, or the stride is < 1,
        or is given to a bundle that judges whole images.
    """
    card = bundle.card
    try:
        if card.whole_image:
            grid = _whole_image(slide, card, region, stride)
        else:
            step = grid_step(slide, card)
            grid = TileGrid.over(slide.shape, card.tile_size, step, region, stride)
    except ValueError as error:
        raise SlideError(f"{slide.name}: {error}") from error
    _check_size(slide, grid, card)
    return grid


def plan_run(
    slide: Slide,
    bundle: Bundle,
    region: Region | None = None,
    stride: int | None = None,
    tissue: bool = True,
    roi: NDArray[np.bool_] | None = None,
) -> Plan:
    """Decide which tiles of the grid are run: all, or with ``tissue`` those that are not glass.

    Glass is looked for on slides only: a bundle that judges whole images always sees its image.

    Other parameters and errors are those of :func:`plan_grid`.

    Parameters
    ----------
    roi : (rows, cols) bool, tiles of the grid that may be run; all by default
    """
    grid = plan_grid(slide, bundle, region, stride)
    wanted = np.ones((grid.rows, grid.cols), bool) if roi is None else roi.copy()
    if tissue and not bundle.card.whole_image:
        share = tissue_mask(slide).fraction(grid.boxes())
        wanted &= share.reshape(wanted.shape) >= MIN_TISSUE
    return Plan(grid, wanted, _shard_shape(slide, grid))


def _whole_image(slide: Slide, card: Card, region: Region | None, stride: int | None) -> TileGrid:
    """One tile as large as the region; its steps along y and x differ unless that is square."""
    if stride is not None:
        raise ValueError(
            "the bundle judges an image as a whole, so there is no stride: leave --stride out, and "
            "name a part with --region"
        )
    tile = card.tile_size
    y, x, h, w = TileGrid.over(slide.shape, tile, region=region).region
    if min(h, w) < MIN_TILE_PX:
        raise ValueError(f"a region of {w:g} × {h:g} px shows nothing: choose a larger one")
    return TileGrid(slide.shape, (y, x, h, w), tile, tile, (h / tile, w / tile))


def _check_size(slide: Slide, grid: TileGrid, card: Card) -> None:
    """Refuse, before anything is computed, tiles and grids that no memory holds."""
    if grid.rows * grid.cols > MOST_TILES:
        raise SlideError(
            f"{slide.name}: {grid.rows:,} × {grid.cols:,} tiles are too many: choose a larger "
            "stride or a smaller region"
        )
    _, _, height, width = SlideView(slide, grid.step).source(0, 0, grid.tile, grid.tile)
    if max(height, width) > LARGEST_SOURCE_PX:
        if card.whole_image:
            raise SlideError(
                f"{slide.name}: {width:,} × {height:,} px are too many for one image: choose a "
                "smaller region, or make the image smaller"
            )
        raise SlideError(
            f"{slide.name}: one tile would be made from {width:,} × {height:,} px: check the "
            "slide's mpp (--mpp states another), or save the slide with coarser levels"
        )


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
    # Tiles far apart, or each from very many pixels: memory bounds the shard, not the count.
    low = int(np.clip(2 * BLOCK_PX // pitch, 1, low))
    wanted = int(np.clip(round(BLOCK_PX / pitch), low, high))
    near = range(max(low, wanted * 2 // 3), min(high, wanted * 3 // 2) + 1)
    aligned = [k for k in near if (k * pitch) % codec == 0]
    return min(min(aligned, key=lambda k: abs(k - wanted), default=wanted), n)
