"""Outlines of tiles: polygons around sets of cells of a run's grid.

Each tile stands for its cell: as large as the stride, on the tile's centre, as the overlays show.
So outlines never overlap, whatever the stride, and their area is that of ``mm2_per_tile``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

if TYPE_CHECKING:
    from napari_ood.slides.grid import TileGrid

DECIMALS = 2
"""Of level-0 px. QuPath writes as many, so that a trip through it changes nothing."""

Ints = NDArray[np.int64]

# The four sides of a cell, low y, high x, high y, low x: in the order and direction that RFC 7946
# calls counter-clockwise, going by the numbers (on screen, where y goes down, it looks clockwise).
_START = np.array([[0, 0], [0, 1], [1, 1], [1, 0]])  # first vertex of each, from the cell's first
_OUTWARD = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])  # to the neighbour across the side


@dataclass(frozen=True)
class Lattice:
    """The lines between the cells of a grid, in level-0 pixels.

    Attributes
    ----------
    y : [rows + 1] float64, rising
    x : [cols + 1] float64, rising
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]

    @classmethod
    def of(cls, grid: TileGrid) -> Lattice:
        """Lines of a run's grid, to a hundredth of a pixel; cells end where the slide ends."""
        return cls(_lines(grid, 0, grid.rows), _lines(grid, 1, grid.cols))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.y) - 1, len(self.x) - 1

    def centres(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Middle of each row [rows] and column [cols] of cells, y and x."""
        return (self.y[1:] + self.y[:-1]) / 2, (self.x[1:] + self.x[:-1]) / 2


def _lines(grid: TileGrid, axis: int, n: int) -> NDArray[np.float64]:
    pitch = grid.pitch[axis]
    first = grid.region[axis] + (grid.tile_size[axis] - pitch) / 2
    lines = np.round(first + np.arange(n + 1) * pitch, DECIMALS)
    lines[0] = max(lines[0], 0.0)  # tiles with gaps: the first cell begins before the region
    # The cell that crosses the slide's end stops there. With overlap another one may lie beyond.
    end = int(np.searchsorted(lines, grid.shape[axis]))
    if 0 < end <= n:
        lines[end] = grid.shape[axis]
    return np.asarray(lines)


def outlines(mask: NDArray[np.bool_], lattice: Lattice) -> tuple[NDArray[np.object_], Ints]:
    """Draw a polygon around each group of cells that share edges.

    Cells that touch at a corner only are two polygons, as simple features (OGC 06-103r4) want it.

    Parameters
    ----------
    mask : (rows, cols) bool
    lattice : Lattice

    Returns
    -------
    polygons : [P] shapely Polygons with their holes, exteriors counter-clockwise and holes
        clockwise in numbers (x right, y up), without superfluous points
    cells : [P, 2] int64, row and column of one cell of each
    """
    vertices, ring, owner = _rings(mask)
    if not len(owner):
        return np.zeros(0, object), np.zeros((0, 2), np.int64)
    hole = _doubled_area(vertices, ring) < 0
    component = ndimage.label(mask)[0][tuple(owner.T)]  # each has one exterior
    order = np.lexsort((hole, component))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    by_ring = np.argsort(place[ring], kind="stable")
    row, col = vertices[by_ring].T
    points = np.stack([lattice.x[col], lattice.y[row]], axis=1)
    lines = shapely.linearrings(points, indices=place[ring][by_ring])
    polygons = shapely.polygons(lines, indices=component[order] - 1)
    return polygons, owner[order][~hole[order]]


def _rings(mask: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Rings around the cells, each with its cells on its left, none touching itself.

    Returns
    -------
    vertices : [K, 2] int64, row and column of the lattice lines that cross at each corner
    ring : [K] int64, to which ring it belongs, rising
    owner : [R, 2] int64, a cell on the left of each ring
    """
    cell, side, following = _sides(mask)
    order, ring, owner = _cycles(following)
    heading = side[order]
    last = np.r_[np.flatnonzero(np.diff(ring)), len(ring) - 1] if len(ring) else ring
    before = np.arange(-1, len(ring) - 1)
    before[np.r_[0, last[:-1] + 1] if len(ring) else ring] = last
    corner = heading != heading[before]
    vertices = (cell[order] + _START[heading])[corner]
    return _split_pinched(vertices, ring[corner], cell[order][owner])


def _sides(mask: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Sides of cells that face the outside, and for each which one the ring goes on with.

    Where cells meet at a corner only, a ring stays with its cell.
    """
    n_rows, n_cols = mask.shape
    padded = np.pad(mask, 1)

    def inside(cells: Ints) -> NDArray[np.bool_]:
        return np.asarray(padded[cells[:, 0] + 1, cells[:, 1] + 1])

    cells = np.argwhere(mask)
    parts = [(cells[~inside(cells + _OUTWARD[s])], s) for s in range(4)]
    cell = np.concatenate([c for c, _ in parts])
    side = np.concatenate([np.full(len(c), s) for c, s in parts])
    number = np.full((4, n_rows * n_cols), -1, np.int32)
    number[side, cell[:, 0] * n_cols + cell[:, 1]] = np.arange(len(cell))
    turn = (side + 1) % 4
    ahead = cell + _OUTWARD[turn]  # the ring runs along a side towards the next one
    beyond = ahead + _OUTWARD[side]
    straight = inside(ahead)
    concave = straight & inside(beyond)
    next_cell = np.where(concave[:, None], beyond, np.where(straight[:, None], ahead, cell))
    next_side = np.where(concave, (side + 3) % 4, np.where(straight, side, turn))
    following = number[next_side, next_cell[:, 0] * n_cols + next_cell[:, 1]]
    return cell, side, following.astype(np.int64)


def _cycles(following: Ints) -> tuple[Ints, Ints, Ints]:
    """Cycles of a permutation: its elements in their order, their cycle, the starts' positions."""
    successor = following.tolist()
    seen = bytearray(len(successor))
    order: list[int] = []
    starts: list[int] = []
    for first in range(len(successor)):
        if seen[first]:
            continue
        starts.append(len(order))
        at = first
        while not seen[at]:
            seen[at] = 1
            order.append(at)
            at = successor[at]
    sizes = np.diff([*starts, len(order)])
    ring = np.repeat(np.arange(len(starts)), sizes)
    return np.array(order, np.int64), ring, np.array(starts, np.int64)


def _split_pinched(vertices: Ints, ring: Ints, owner: Ints) -> tuple[Ints, Ints, Ints]:
    """Cut rings that come back to a vertex there, so that each visits its vertices once."""
    if not len(ring):
        return vertices, ring, owner
    key = (ring << 42) | (vertices[:, 0] << 21) | vertices[:, 1]
    _, first, count = np.unique(key, return_index=True, return_counts=True)
    pinched = np.unique(ring[first[count > 1]])
    if not len(pinched):
        return vertices, ring, owner
    whole = ~np.isin(ring, pinched)
    loops: list[list[Any]] = []
    owners: list[int] = []
    bounds = np.searchsorted(ring, np.arange(len(owner) + 1))
    for number in pinched.tolist():
        pieces = _loops(list(map(tuple, vertices[bounds[number] : bounds[number + 1]].tolist())))
        loops += pieces
        owners += [number] * len(pieces)
    kept, renumbered = np.unique(ring[whole], return_inverse=True)
    sizes = [len(loop) for loop in loops]
    return (
        np.concatenate([vertices[whole], np.concatenate([np.array(loop) for loop in loops])]),
        np.concatenate([renumbered, len(kept) + np.repeat(np.arange(len(loops)), sizes)]),
        np.concatenate([owner[kept], owner[owners]]),
    )


def _loops(path: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Cut a closed path into loops that visit each vertex once."""
    loops: list[list[tuple[int, int]]] = []
    open_path: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    for vertex in path:
        if vertex in place:
            start = place[vertex]
            loops.append(open_path[start:])
            for passed in open_path[start + 1 :]:
                del place[passed]
            del open_path[start + 1 :]
        else:
            place[vertex] = len(open_path)
            open_path.append(vertex)
    return [*loops, open_path]


def _doubled_area(vertices: Ints, ring: Ints) -> Ints:
    """Twice the signed area of each ring in cells (shoelace formula), > 0 counter-clockwise."""
    starts = np.r_[0, np.flatnonzero(np.diff(ring)) + 1]
    row, col = vertices.T
    after = np.arange(1, len(row) + 1)
    after[np.r_[starts[1:], len(row)] - 1] = starts
    return np.asarray(np.add.reduceat(col * row[after] - col[after] * row, starts))
