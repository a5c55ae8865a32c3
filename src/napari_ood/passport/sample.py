"""A sample of a slide's tissue tiles, to look at before anything is run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import SlideError
from napari_ood.inference.plan import plan_grid
from napari_ood.slides.appearance import STATISTICS, tile_statistics
from napari_ood.slides.grid import TileGrid
from napari_ood.slides.tiles import grid_view
from napari_ood.slides.tissue import TissueMask, tissue_mask

if TYPE_CHECKING:
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide

TILE_PX, TILE_MPP = 96, 1.0
"""Tiles of a slide that is judged without a bundle."""
MOST_TILES = 256
"""Shares are then known to ± 3 %, and the median of a statistic to ± 0.1 of its spread."""
MOST_SECONDS = 3.0
LEAST_TISSUE = 0.5
"""Share of a tile; with less, the stain and the sharpness are those of a few pixels."""
GRID_TILES = 1_000_000
"""A slide with more tiles is sampled from a coarser grid of tiles that lie apart."""


@dataclass(frozen=True, eq=False)
class TileSample:
    """Tiles that were read and what they look like.

    Attributes
    ----------
    statistics : [n, S] float32, see `napari_ood.slides.appearance.STATISTICS`
    boxes : [n, 4] float64, level-0 y, x, h, w
    n_tissue : tiles of the grid with tissue, from which the sample was drawn
    area_mm2 : tissue, None without mpp
    whole_image : the one tile is the whole image
    """

    statistics: NDArray[np.float32]
    boxes: NDArray[np.float64]
    n_tissue: int
    area_mm2: float | None
    whole_image: bool = False

    def __len__(self) -> int:
        return len(self.statistics)

    def column(self, name: str) -> NDArray[np.float32]:
        """One statistic of all tiles; [n] float32."""
        return self.statistics[:, STATISTICS.index(name)]

    @property
    def words(self) -> str:
        """How many tiles were looked at."""
        if self.whole_image:
            return "the image"
        if len(self) == self.n_tissue:
            return f"all {len(self):,} tiles that are at least half tissue looked at"
        return f"{len(self):,} of {self.n_tissue:,} tiles that are at least half tissue looked at"


def sample_tiles(
    slide: Slide,
    bundle: Bundle | None = None,
    most: int = MOST_TILES,
    seconds: float = MOST_SECONDS,
    cancel: Callable[[], bool] | None = None,
) -> TileSample:
    """Read tissue tiles drawn at random, always the same ones, at the bundle's resolution.

    Parameters
    ----------
    most
        Tiles to read.
    seconds
        No further tile is read after this time; at least one is.
    cancel
        Polled per tile; what was read so far is returned.

    Raises
    ------
    SlideError
        If a tile cannot be decoded.
    """
    grid = _grid(slide, bundle)
    if bundle is not None and bundle.card.whole_image:
        tile = grid_view(slide, grid).read(0, 0, grid.tile, grid.tile)
        return TileSample(tile_statistics(tile[None]), grid.boxes(), 1, None, whole_image=True)
    mask = tissue_mask(slide)
    chosen, n_tissue = _choose(grid, mask, most)
    statistics = _read(slide, grid, chosen, seconds, cancel)
    boxes = grid.boxes(chosen[: len(statistics)])
    area = None if slide.mpp is None else mask.area_mm2(slide.mpp)
    return TileSample(statistics, boxes, n_tissue, area)


def _grid(slide: Slide, bundle: Bundle | None) -> TileGrid:
    if bundle is not None:
        try:
            return plan_grid(slide, bundle)
        except SlideError:  # the scale's own check tells why; the slide is looked at all the same
            pass
    step = (1.0, 1.0)
    if slide.mpp is not None:
        step = (max(TILE_MPP / slide.mpp[0], 1.0), max(TILE_MPP / slide.mpp[1], 1.0))
    pitch = TILE_PX * TILE_PX * step[0] * step[1]
    apart = int(np.ceil(np.sqrt(slide.shape[0] * slide.shape[1] / pitch / GRID_TILES)))
    return TileGrid.over(slide.shape, TILE_PX, step, stride=TILE_PX * max(apart, 1))


def _choose(grid: TileGrid, mask: TissueMask, most: int) -> tuple[NDArray[np.int64], int]:
    """Rows and columns [n, 2] of whole tiles with tissue, in a random but fixed order."""
    index = grid.index()
    share = mask.fraction(grid.boxes(index))
    inside = share >= LEAST_TISSUE
    whole = inside & ~grid.partial(index)
    wanted = whole if whole.any() else inside  # an image smaller than a tile has none that is whole
    found = np.flatnonzero(wanted)
    rng = np.random.default_rng(0)
    return index[rng.permutation(found)[:most]], int(wanted.sum())


def _read(
    slide: Slide,
    grid: TileGrid,
    chosen: NDArray[np.int64],
    seconds: float,
    cancel: Callable[[], bool] | None,
) -> NDArray[np.float32]:
    view, until = grid_view(slide, grid), time.monotonic() + seconds
    out: list[NDArray[np.float32]] = [np.empty((0, len(STATISTICS)), np.float32)]
    for row, col in chosen.tolist():
        tile = view.read(row * grid.stride, col * grid.stride, grid.tile, grid.tile)
        out.append(tile_statistics(tile[None]))
        if time.monotonic() > until or (cancel is not None and cancel()):
            break
    return np.concatenate(out)
