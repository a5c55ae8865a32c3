"""In which order the tiles of a run are read and computed: what is on screen first.

A *batch* is what the network sees at once. Batches are cut from a shard by the plan alone, never by
what is on screen: a run that was interrupted, or looked at, equals an undisturbed one bit for bit.
Only their order depends on the view.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_ood.inference.plan import Plan
from napari_ood.inference.store import Shard
from napari_ood.slides.grid import Region, TileGrid

SPREAD_FROM = 16
"""Shards on screen: more than this are no longer looked at one by one, and are spread as well."""

Ints = NDArray[np.int64]
Cell = tuple[int, int]
"""Row and column of a shard among the shards."""
View = Callable[[], Region | Sequence[Region] | None]
"""What is on screen in level-0 pixels: one region, several, or nothing of the slide."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Batches of one shard that are read together.

    Attributes
    ----------
    shard : Shard
    batches : [n, 2] row and column each
    whole : no tile of the shard is in another piece or was done before
    """

    shard: Shard
    batches: tuple[Ints, ...]
    whole: bool


def cut_batches(tissue: NDArray[np.bool_], shard: Shard, size: int) -> list[Ints]:
    """A shard's tissue in batches of up to ``size`` tiles that lie close together; [n, 2] each.

    Along a Z-order curve: few batches touch a small view.
    """
    local = np.argwhere(tissue[shard.slices])
    index = local[np.argsort(_z_order(local), kind="stable")] + shard.origin
    return [index[i : i + size] for i in range(0, len(index), size)]


def _z_order(cells: Ints) -> Ints:
    """Place of cells [n, 2] along a Z-order curve: the bits of row and column in turns."""
    place = np.zeros(len(cells), np.int64)
    bits = int(cells.max(initial=0)).bit_length()
    for bit in range(bits):
        for axis in (0, 1):
            place |= ((cells[:, axis] >> bit) & 1) << (2 * bit + 1 - axis)
    return place


def regions_of(seen: Region | Sequence[Region] | None) -> tuple[Region, ...]:
    """What a view returned, as a tuple of regions."""
    if seen is None or len(seen) == 0:
        return ()
    if isinstance(seen[0], (int, float, np.number)):
        return (seen,)  # type: ignore[return-value]
    return tuple(seen)  # type: ignore[arg-type]


def in_view(grid: TileGrid, index: Ints, regions: Iterable[Region]) -> bool:
    """Whether any tile of ``index`` [n, 2] overlaps any of the regions."""
    return any(
        bool((_overlaps(grid, index, r, 0) & _overlaps(grid, index, r, 1)).any()) for r in regions
    )


def _overlaps(grid: TileGrid, index: Ints, region: Region, axis: int) -> NDArray[np.bool_]:
    low, size = region[axis], region[axis + 2]
    start = grid.region[axis] + index[:, axis] * grid.pitch[axis]
    return np.asarray((start < low + size) & (start + grid.tile_size[axis] > low))


class WorkQueue:
    """Hands out a run's work piece by piece. Thread-safe.

    Without a view in reading order, whole shards. With one: batches on screen, from its middle
    outwards; then every fourth shard, spread over the slide; then the rest.

    Parameters
    ----------
    plan : Plan
    todo : shards with work left
    batch_size : tiles per batch, at most
    view : polled on each call, from any thread
    done : (rows, cols) bool, tiles that need not be computed; none by default
    """

    def __init__(
        self,
        plan: Plan,
        todo: Sequence[Shard],
        batch_size: int,
        view: View | None = None,
        done: NDArray[np.bool_] | None = None,
    ) -> None:
        self.grid = plan.grid
        self._plan, self._size, self._view, self._done = plan, batch_size, view, done
        # None: nothing of the shard was taken yet.
        self._left: dict[Cell, list[Ints] | None] = {self._cell(s): None for s in todo}
        self._shards = {self._cell(s): s for s in todo}
        self._cells, self._boxes = list(self._left), _boxes(plan.grid, todo)
        self._background: Iterator[Cell] = iter(spread(self._cells) if view else self._cells)
        self._regions: tuple[Region, ...] = ()
        self._on_screen: deque[Cell] = deque()
        self._lock = threading.Lock()

    def regions(self) -> tuple[Region, ...]:
        """What is on screen now."""
        return regions_of(self._view()) if self._view else ()

    def take(self, on_screen_only: bool = False) -> Piece | None:
        """Return the next piece; None when all are taken (or none on screen is left)."""
        regions = self.regions()
        with self._lock:
            if regions != self._regions:
                self._regions, self._on_screen = regions, deque(self._cells_in(regions))
            return self._next_on_screen() or (None if on_screen_only else self._next())

    def _next_on_screen(self) -> Piece | None:
        while self._on_screen:
            cell = self._on_screen.popleft()
            if cell not in self._left:
                continue
            left = self._batches(cell)
            chosen = [k for k, b in enumerate(left) if in_view(self.grid, b, self._regions)]
            if chosen:
                return self._taken(cell, chosen)
        return None

    def _next(self) -> Piece | None:
        for cell in self._background:
            if cell in self._left:
                return self._taken(cell, range(len(self._batches(cell))))
        return None

    def _taken(self, cell: Cell, chosen: Sequence[int]) -> Piece:
        shard, left = self._shards[cell], self._batches(cell)
        n_tiles = int(self._plan.tissue[shard.slices].sum())
        batches = tuple(left[k] for k in chosen)
        rest = [b for k, b in enumerate(left) if k not in set(chosen)]
        if rest:
            self._left[cell] = rest
        else:
            del self._left[cell]
        return Piece(shard, batches, sum(map(len, batches)) == n_tiles)

    def _batches(self, cell: Cell) -> list[Ints]:
        """Batches of a shard that are left."""
        left = self._left[cell]
        if left is None:
            left = cut_batches(self._plan.tissue, self._shards[cell], self._size)
            if self._done is not None:
                done = self._done
                left = [b for b in left if not done[tuple(b.T)].all()]
            self._left[cell] = left
        return left

    def _cell(self, shard: Shard) -> Cell:
        return shard.top // self._plan.shard[0], shard.left // self._plan.shard[1]

    def _cells_in(self, regions: tuple[Region, ...]) -> list[Cell]:
        """Shards that overlap the regions: from the middle outwards, or spread if many."""
        distance = np.full(len(self._boxes), np.inf)
        for y, x, h, w in regions:
            top, left, bottom, right = self._boxes.T
            inside = (top < y + h) & (bottom > y) & (left < x + w) & (right > x)
            middle = (top + bottom) / 2 - (y + h / 2), (left + right) / 2 - (x + w / 2)
            distance = np.where(inside, np.minimum(distance, np.hypot(*middle)), distance)
        order = np.argsort(distance, kind="stable")[: int(np.isfinite(distance).sum())]
        cells = [self._cells[k] for k in order if self._cells[k] in self._left]
        return spread(cells) if len(cells) > SPREAD_FROM else cells


def spread(cells: Sequence[Cell]) -> list[Cell]:
    """Every fourth cell first, evenly over the slide, then the others; else the order is kept."""
    return sorted(cells, key=lambda cell: cell[0] % 2 + cell[1] % 2 > 0)


def _boxes(grid: TileGrid, todo: Sequence[Shard]) -> NDArray[np.float64]:
    """Edges of shards in level-0 pixels: top, left, bottom, right; [n, 4]."""
    edges = np.array(todo, np.float64).reshape(-1, 4)
    pitch, origin = np.array(grid.pitch * 2), np.array(grid.region[:2] * 2)
    # The last tile begins a pitch before the edge.
    reach = np.subtract(grid.tile_size, grid.pitch)
    return np.asarray(origin + edges * pitch + np.concatenate([np.zeros(2), reach]))
