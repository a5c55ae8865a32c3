"""Where level-0 pixels, tiles and napari's world lie. Pure numpy.

Two conventions meet here. Level-0 pixels count edges: pixel i covers [i, i + 1). napari's data
coordinates count centres: pixel i covers [i − ½, i + ½). The ½ is added and taken away here only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from napari_ood.slides.grid import Region, TileGrid

Pair = tuple[float, float]

MICROMETRE = ("um", "um")
PIXEL = ("pixel", "pixel")


@dataclass(frozen=True)
class Placement:
    """How a layer lies in napari's world: µm, or pixels where the slide has no mpp."""

    scale: Pair
    translate: Pair
    units: tuple[str, str]


def slide_placement(mpp: Pair | None) -> Placement:
    """Placement of a slide's level 0: world = mpp × pixel centre."""
    return Placement(mpp or (1.0, 1.0), (0.0, 0.0), MICROMETRE if mpp else PIXEL)


def map_placement(grid: TileGrid, mpp: Pair | None) -> Placement:
    """Placement of an array (rows, cols) of one value per tile.

    Each cell is as large as the stride and lies on the centre of its tile, so with stride = tile
    the edges of cells and tiles coincide, and overlapping tiles are not shifted.
    """
    size, pitch, origin = np.array(grid.tile_size), np.array(grid.pitch), np.array(grid.region[:2])
    base = slide_placement(mpp)
    scale = pitch * base.scale
    translate = (origin + size / 2 - 0.5) * base.scale
    return Placement(
        (float(scale[0]), float(scale[1])), (float(translate[0]), float(translate[1])), base.units
    )


def cell_at(
    world: Sequence[float], placement: Placement, shape: tuple[int, int]
) -> tuple[int, int] | None:
    """Row and column of the cell under a world point (y, x); None outside the array."""
    cell = (np.asarray(world[-2:], float) - placement.translate) / placement.scale
    row, col = (int(i) for i in np.floor(cell + 0.5))
    return (row, col) if 0 <= row < shape[0] and 0 <= col < shape[1] else None


def region_of_view(
    centre: Sequence[float], canvas: tuple[int, int], zoom: float, mpp: Pair | None
) -> Region:
    """Level-0 box y, x, h, w that the canvas shows.

    Parameters
    ----------
    centre : world point (…, y, x) at the middle of the canvas
    canvas : (height, width) in screen pixels
    zoom : screen pixels per world unit
    """
    half = np.asarray(canvas, float) / zoom / 2
    middle = np.asarray(centre[-2:], float)
    return _box(np.stack([middle - half, middle + half]), mpp)


def region_of_points(points: ArrayLike, mpp: Pair | None) -> Region:
    """Level-0 bounding box y, x, h, w of world points [N, 2 or more] (…, y, x)."""
    return _box(np.asarray(points, float)[:, -2:], mpp)


def _box(world: NDArray[np.float64], mpp: Pair | None) -> Region:
    pixels = world / np.array(slide_placement(mpp).scale) + 0.5
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def clip_region(region: Region, shape: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Whole level-0 pixels y, x, h, w of a region inside a slide; None when none is inside."""
    y, x, h, w = region
    top, left = max(0, int(np.floor(y))), max(0, int(np.floor(x)))
    bottom, right = min(shape[0], int(np.ceil(y + h))), min(shape[1], int(np.ceil(x + w)))
    if bottom <= top or right <= left:
        return None
    return top, left, bottom - top, right - left
