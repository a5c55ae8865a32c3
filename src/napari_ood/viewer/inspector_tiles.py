"""Which tiles of a run the user means: the next one, the most foreign one, those in a box."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_ood.viewer.maps import NO_TILE, Overlay
from napari_ood.viewer.tile_pixels import cells_in, finished_cells

if TYPE_CHECKING:
    from napari_ood.slides.grid import Region
    from napari_ood.viewer.inspector_state import Cell
    from napari_ood.viewer.maps import Maps

MOST_TILES = 64
"""Tiles that are explained at once."""
MOST_CELLS = 1024
"""Tiles that the rectangle around them may hold: the map is as large as it."""
EMPTY_BOX = "The run has no tile in that box."
TOO_MANY = (
    "{n:,} tiles are in the box, and at most {most} are explained at once: draw a smaller one."
)
TOO_FAR = "The tiles in the box are too far apart for one map: draw a smaller one."


def next_cell(maps: Maps, cell: Cell, down: int, right: int) -> Cell | None:
    """The next tile in a direction, over gaps; None where there is none."""
    row, col = cell[0] + down, cell[1] + right
    while 0 <= row < maps.shape[0] and 0 <= col < maps.shape[1]:
        if maps.prediction[row, col] != NO_TILE:
            return row, col
        row, col = row + down, col + right
    return None


def most_foreign(maps: Maps) -> Cell | None:
    """The tile with the highest OOD score, else the most uncertain, else any; None without one."""
    finished = finished_cells(maps)
    if not len(finished):
        return None
    for overlay in (Overlay.OOD, Overlay.UNCERTAINTY):
        scores = np.where(maps.prediction != NO_TILE, maps.scores[overlay], np.nan)
        if np.isfinite(scores).any():
            row, col = np.unravel_index(int(np.nanargmax(scores)), maps.shape)
            return int(row), int(col)
    return int(finished[0][0]), int(finished[0][1])


def cells_of_box(maps: Maps, box: Region) -> tuple[tuple[Cell, ...], str]:
    """The tiles in a level-0 box y, x, h, w, the middle one first, or none and in words why."""
    cells = cells_in(maps, box)
    if not len(cells):
        return (), EMPTY_BOX
    if len(cells) > MOST_TILES:
        return (), TOO_MANY.format(n=len(cells), most=MOST_TILES)
    if np.prod(np.ptp(cells, axis=0) + 1) > MOST_CELLS:
        return (), TOO_FAR
    middle = int(np.abs(cells - cells.mean(axis=0)).sum(axis=1).argmin())
    every: list[Cell] = [(int(r), int(c)) for r, c in cells]
    first = every.pop(middle)
    return (first, *every), ""
