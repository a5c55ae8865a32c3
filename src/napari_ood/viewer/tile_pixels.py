"""Tiles at the model's resolution, and where what is known of their pixels lies. No Qt, no napari.

Tile (r, c) covers the model pixels ``[r·stride, r·stride + tile)`` × ``[c·stride, c·stride +
tile)`` of its grid, so a map of several tiles is an array over the model pixels around all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.viewer.geometry import Pair, Placement, slide_placement
from napari_ood.viewer.maps import NO_TILE

if TYPE_CHECKING:
    from napari_ood.slides import TileGrid
    from napari_ood.slides.grid import Region
    from napari_ood.viewer.maps import Maps

Floats = NDArray[np.float32]
Cells = NDArray[np.int64]


def finished_cells(maps: Maps) -> Cells:
    """Row and column of every tile that has been run, row by row; [N, 2] int64."""
    return np.argwhere(maps.prediction != NO_TILE)


def cells_in(maps: Maps, box: Region) -> Cells:
    """Finished tiles whose centre lies in a level-0 box y, x, h, w; [N, 2] int64.

    A box around half of a tile means that tile; one that only grazes others does not mean them.
    Where no centre is inside, the tiles that the box touches.
    """
    cells = finished_cells(maps)
    boxes = maps.grid.boxes(cells)
    centre = boxes[:, :2] + boxes[:, 2:] / 2
    low, size = np.array(box[:2]), np.array(box[2:])
    inside = ((centre >= low) & (centre < low + size)).all(axis=1)
    if inside.any():
        return np.asarray(cells[inside])
    return np.asarray(cells[maps.grid.tiles_in(box)[tuple(cells.T)]])


def sample_cells(maps: Maps, most: int) -> Cells:
    """At most so many finished tiles, spread evenly in reading order; [n, 2] int64."""
    cells = finished_cells(maps)
    step = max(1.0, len(cells) / most)
    return cells[(np.arange(min(most, len(cells))) * step).astype(np.int64)]


def extent(cells: ArrayLike, grid: TileGrid) -> tuple[int, int]:
    """Height and width in model pixels of the rectangle around tiles."""
    cells = np.asarray(cells, np.int64)
    h, w = (cells.max(axis=0) - cells.min(axis=0)) * grid.stride + grid.tile
    return int(h), int(w)


def stitch(values: Floats, cells: ArrayLike, grid: TileGrid) -> Floats:
    """Lay maps of tiles side by side; where tiles overlap, their mean.

    Parameters
    ----------
    values : [N, t, t] float32
    cells : [N, 2] int

    Returns
    -------
    (H, W) float32 over the rectangle around the tiles, NaN where there is none of them
    """
    cells = np.asarray(cells, np.int64)
    shape = extent(cells, grid)
    total, count = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for tile, (y, x) in zip(values, (cells - cells.min(axis=0)) * grid.stride, strict=True):
        place = np.s_[y : y + grid.tile, x : x + grid.tile]
        total[place] += tile
        count[place] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.float32(np.nan))


def stitched_placement(cells: ArrayLike, grid: TileGrid, mpp: Pair | None) -> Placement:
    """Where :func:`stitch`'s array lies: model pixel k covers [k, k + 1) · step of level 0."""
    first = np.asarray(cells, np.int64).min(axis=0)
    step, base = np.array(grid.step), slide_placement(mpp)
    origin = np.array(grid.region[:2]) + first * np.array(grid.pitch)
    scale = step * base.scale
    translate = (origin + step / 2 - 0.5) * base.scale
    return Placement(
        (float(scale[0]), float(scale[1])), (float(translate[0]), float(translate[1])), base.units
    )
