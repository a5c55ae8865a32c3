"""A grid's tiles as pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.slides.grid import TileGrid
from napari_ood.slides.resample import LevelReader, SlideView


def grid_view(slide: LevelReader, grid: TileGrid) -> SlideView:
    """The slide in the grid's model pixels, from the grid's origin on."""
    return SlideView(slide, grid.step, grid.region[:2])


def read_tiles(slide: LevelReader, grid: TileGrid, cells: ArrayLike) -> NDArray[np.uint8]:
    """Read tiles exactly as a run reads them.

    Parameters
    ----------
    cells : [N, 2] int, row and column

    Returns
    -------
    [N, t, t, 3] uint8

    Raises
    ------
    SlideError
        If the slide cannot be decoded there.
    """
    view, t = grid_view(slide, grid), grid.tile
    origins = np.asarray(cells, np.int64).reshape(-1, 2) * grid.stride
    out = np.empty((len(origins), t, t, 3), np.uint8)
    for tile, (y, x) in zip(out, origins, strict=True):
        tile[...] = view.read(int(y), int(x), t, t)
    return out
