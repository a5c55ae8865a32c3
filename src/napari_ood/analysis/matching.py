"""Which tile of one run lies on which tile of another, judged by level-0 boxes alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import RunError

if TYPE_CHECKING:
    from napari_ood.inference import Run
    from napari_ood.slides import TileGrid

Ints = NDArray[np.int64]

TOLERANCE = 1e-6
"""Share of a tile's side within which two grids are one: above rounding, far below a pixel."""


@dataclass(frozen=True, eq=False)
class TileMatch:
    """Pairs of tiles of two runs, K of them, in the row-major order of the finer run.

    Attributes
    ----------
    grid : TileGrid
        The finer of the two grids; the first run's where they are equally fine.
    cells : [K, 2] int64, row and column on ``grid``
    tiles_a, tiles_b : [K] int64, positions in each run's ``index``
    same_grid : whether boxes of a pair are equal; else the finer's centre lies in the other
    finer : ``"a"`` or ``"b"``, whose grid ``grid`` is
    n_only_a, n_only_b : tiles without a partner
    """

    grid: TileGrid
    cells: Ints
    tiles_a: Ints
    tiles_b: Ints
    same_grid: bool
    finer: str
    n_only_a: int
    n_only_b: int

    @property
    def words(self) -> str:
        """How tiles were paired, in one line for the user."""
        n = len(self.cells)
        alone = f"{self.n_only_a:,} only in A, {self.n_only_b:,} only in B"
        if self.same_grid:
            return f"Same tiles: {n:,} in both, {alone}."
        coarser = "B" if self.finer == "a" else "A"
        return (
            f"The grids differ: each tile of {self.finer.upper()} is compared with the tile of "
            f"{coarser} that its centre lies in. {n:,} pairs, {alone}."
        )


def match_tiles(a: Run, b: Run) -> TileMatch:
    """Pair the finished tiles of two runs of one slide.

    Raises
    ------
    RunError
        If both have tiles and none meets another.
    """
    swapped = _fineness(b.grid) < _fineness(a.grid)
    fine, coarse = (b, a) if swapped else (a, b)
    inside, partner = _nearest(fine, coarse)
    if fine.n_tiles and coarse.n_tiles and not inside.any():
        raise RunError(
            f"{a.path.name} and {b.path.name} have no tile in common: they cover different parts "
            "of the slide; run both on the same part"
        )
    tiles_fine = np.flatnonzero(inside)
    tiles_coarse = partner[inside]
    tiles_a, tiles_b = (tiles_coarse, tiles_fine) if swapped else (tiles_fine, tiles_coarse)
    return TileMatch(
        grid=fine.grid,
        cells=fine.index[tiles_fine],
        tiles_a=tiles_a,
        tiles_b=tiles_b,
        same_grid=_same_lattice(a.grid, b.grid),
        finer="b" if swapped else "a",
        n_only_a=_n_alone(a, tiles_a),
        n_only_b=_n_alone(b, tiles_b),
    )


def _n_alone(run: Run, matched: Ints) -> int:
    alone = np.ones(run.n_tiles, bool)
    alone[matched] = False
    return int(alone.sum())


def _fineness(grid: TileGrid) -> tuple[float, float]:
    return float(np.prod(grid.tile_size)), float(np.prod(grid.pitch))


def _nearest(fine: Run, coarse: Run) -> tuple[NDArray[np.bool_], Ints]:
    """Per fine tile: whether its centre lies in the nearest coarse tile, and which that is.

    Where coarse tiles overlap, a centre lies in several; the nearest centre is the one that sees
    it best.
    """
    half_f, half_c = np.array(fine.grid.tile_size) / 2, np.array(coarse.grid.tile_size) / 2
    centres = fine.boxes[:, :2] + half_f
    first = np.array(coarse.grid.region[:2]) + half_c
    pitch = np.array(coarse.grid.pitch)
    # A centre on the line between two coarse tiles goes to one side, whatever its rounding.
    cells = np.floor((centres - first) / pitch + 0.5 - TOLERANCE).astype(np.int64)
    cells = np.clip(cells, 0, np.array(coarse.done.shape) - 1)
    distance = np.abs(centres - (first + cells * pitch))
    rows, cols = cells.T
    inside = (distance <= half_c * (1 + TOLERANCE)).all(axis=1) & coarse.done[rows, cols]
    position = (np.cumsum(coarse.done.ravel()) - 1).reshape(coarse.done.shape)
    return inside, position[rows, cols].astype(np.int64)


def _same_lattice(a: TileGrid, b: TileGrid) -> bool:
    """Whether every tile of one grid could be a tile of the other: a part of a run is its grid."""
    slack = TOLERANCE * np.array(a.tile_size)
    sizes = np.abs(np.subtract(a.tile_size, b.tile_size))
    pitches = np.abs(np.subtract(a.pitch, b.pitch))
    offset = np.subtract(b.region[:2], a.region[:2]) / np.array(a.pitch)
    shift = np.abs(offset - np.round(offset)) * np.array(a.pitch)
    # A pitch that is off by ε moves the last tile of a long row by its number times ε.
    length = max(a.rows, a.cols, b.rows, b.cols)
    return bool(((sizes <= slack) & (pitches * length <= slack) & (shift <= slack * length)).all())
