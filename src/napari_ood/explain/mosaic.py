"""Maps finer than a tile over a region of a slide: overlapping tiles, blended, filled on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import ExplainError
from napari_ood.inference.plan import MIN_TISSUE, plan_grid
from napari_ood.slides.grid import Region, TileGrid
from napari_ood.slides.tiles import grid_view, read_tiles
from napari_ood.slides.tissue import TissueMask, tissue_mask

if TYPE_CHECKING:
    from napari_ood.explain.tile_mapper import TileMapper
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide

Floats = NDArray[np.float32]

CELL_PX = 4
"""Model pixels along a cell of the mosaic. Maps of a network's layers are coarser than this."""
OVERLAP = 2
"""Tiles lie a half of their side apart, so that four of them see each cell away from the border."""
PATCH_TILES = (2, 8)
"""Tiles along the square that is read and mapped at once, least and most."""
PATCH_S = 1.0
"""How long a patch may take: for so long a stop, or a view that has moved on, has to wait."""
COARSEST_PX = 512
"""Sides of the last level of the pyramid, at most."""
MOST_CELLS = 64_000_000
"""Larger mosaics would take more than a gigabyte."""
SCALE_TILES = 16
"""Tiles of a slide that the end of its colour scale is taken from."""


class Patch(NamedTuple):
    """Neighbouring tiles that are read and mapped together: first row and column, and how many."""

    row: int
    col: int
    rows: int
    cols: int


class Mosaic:
    """A map over a region, made of overlapping tiles that fade into each other.

    Each cell is the weighted mean of all tiles that see it; a tile's weights fall from its centre
    to its border (the square of a sine, as in Welch's method), so that no border shows. Where
    nothing was computed yet, and on glass, it is NaN.

    Parameters
    ----------
    slide : Slide
    bundle : Bundle
        Whose tiles the mapper takes.
    mapper : TileMapper
    region : (y, x, h, w) in level-0 pixels; the whole slide by default

    Attributes
    ----------
    levels : float32 arrays (y, x), each half as fine as the one before; filled in place
    origin, cell : (y, x) in level-0 pixels: where the first cell begins, how large cells are
    n_tiles, n_done : how many tiles with tissue there are, and how many are in the mosaic

    Raises
    ------
    ExplainError
        For a bundle that judges whole images, or a region too large for one mosaic.
    SlideError
        As ``plan_grid``.
    """

    def __init__(
        self, slide: Slide, bundle: Bundle, mapper: TileMapper, region: Region | None = None
    ) -> None:
        if bundle.card.whole_image:
            raise ExplainError(
                f"bundle {bundle.name!r} judges an image as a whole: explain the image itself"
            )
        tile = bundle.card.tile_size
        self._cell_px = CELL_PX if tile >= 4 * CELL_PX else 1
        stride = max(tile // OVERLAP // self._cell_px, 1) * self._cell_px
        asked = plan_grid(slide, bundle, region)
        grid = plan_grid(slide, bundle, _wider(asked), stride)
        self.mapper, self._grid = mapper, grid
        self._view = grid_view(slide, grid)
        self._side = tile // self._cell_px  # cells along a tile
        self._pace = stride // self._cell_px  # cells from one tile to the next
        shape = tuple((n - 1) * self._pace + self._side for n in (grid.rows, grid.cols))
        if shape[0] * shape[1] > MOST_CELLS:
            raise ExplainError(
                f"the region would need {shape[0]:,} × {shape[1]:,} cells: draw a smaller one"
            )
        tissue = tissue_mask(slide)
        self._todo = _with_tissue(tissue, grid)
        self.n_tiles, self.n_done = int(self._todo.sum()), 0
        self.origin = grid.region[0], grid.region[1]
        self.cell = grid.step[0] * self._cell_px, grid.step[1] * self._cell_px
        self._weight = _window(self._side)
        self._sums = np.zeros((2, *shape), np.float32)  # of weight · value, and of weights
        self.levels = tuple(np.full(s, np.nan, np.float32) for s in _pyramid(shape))
        self._inside = self._cells_of(asked.region)
        self._shown = self._on_tissue(tissue, shape)
        self._lock = threading.Lock()
        self._patch = PATCH_TILES[0]

    @property
    def complete(self) -> bool:
        """Whether every tile with tissue is in the mosaic."""
        return not self._todo.any()

    def fill(
        self,
        view: Callable[[], Region | None] = lambda: None,
        cancel: Callable[[], bool] = lambda: False,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Compute what is missing, what the user sees first; may be called again after a cancel.

        Parameters
        ----------
        view : what is on screen, (y, x, h, w) in level-0 pixels; asked before every patch
        cancel : asked before every patch
        on_change : called after every patch, when ``levels`` show it
        """
        with self._lock:  # two threads would add the same tiles twice
            while not cancel() and (patch := self._next(view())) is not None:
                began, before = time.perf_counter(), self.n_done
                self._add(patch)
                self._pace_patches(self.n_done - before, time.perf_counter() - began)
                on_change()

    def _pace_patches(self, n: int, seconds: float) -> None:
        """Make patches as large as can be done in time, at most twice as large as the last."""
        side = int((n / max(seconds, 1e-9) * PATCH_S) ** 0.5)
        least, most = PATCH_TILES
        self._patch = min(max(side, least), most, 2 * self._patch)

    def _next(self, view: Region | None) -> Patch | None:
        """The patch with most to do in view, from its middle outwards; then the others."""
        rows, cols = np.nonzero(self._todo)
        if not len(rows):
            return None
        first = 0
        if view is not None:
            boxes = self._grid.boxes(np.stack([rows, cols], axis=1))
            middle = np.array(view[:2]) + np.array(view[2:]) / 2
            off = boxes[:, :2] + boxes[:, 2:] / 2 - middle
            first = int(np.abs(off / np.maximum(view[2:], 1)).max(axis=1).argmin())
        n = self._patch
        row, col = (int(i[first]) // n * n for i in (rows, cols))
        return Patch(row, col, min(n, self._grid.rows - row), min(n, self._grid.cols - col))

    def _add(self, patch: Patch) -> None:
        grid, here = self._grid, self._todo[_square(patch)]
        pixels = self._view.read(
            patch.row * grid.stride,
            patch.col * grid.stride,
            (patch.rows - 1) * grid.stride + grid.tile,
            (patch.cols - 1) * grid.stride + grid.tile,
        )
        index = np.argwhere(here)
        tiles = np.stack([_cut(pixels, i * grid.stride, grid.tile) for i in index])
        for (row, col), values in zip(index, self._pooled(self.mapper(tiles)), strict=True):
            y, x = (patch.row + row) * self._pace, (patch.col + col) * self._pace
            cells = slice(y, y + self._side), slice(x, x + self._side)
            finite = np.isfinite(values)
            self._sums[0][cells] += np.where(finite, self._weight * values, 0)
            self._sums[1][cells] += np.where(finite, self._weight, 0)
        here[:] = False
        self.n_done += len(index)
        self._show(patch)

    def _pooled(self, maps: Floats) -> Floats:
        """Means over cells: [B, t, t] → [B, side, side]."""
        n, px = self._side, self._cell_px
        whole = maps[:, : n * px, : n * px].reshape(len(maps), n, px, n, px)
        return np.asarray(whole.mean(axis=(2, 4)), np.float32)

    def _show(self, patch: Patch) -> None:
        """Bring the levels up to date where a patch has changed them."""
        y, x = patch.row * self._pace, patch.col * self._pace
        bottom = y + (patch.rows - 1) * self._pace + self._side
        right = x + (patch.cols - 1) * self._pace + self._side
        top, left, low, high = self._inside
        rows = slice(max(y, top), min(bottom, low))
        cols = slice(max(x, left), min(right, high))
        if rows.start >= rows.stop or cols.start >= cols.stop:
            return
        sums = self._sums[:, rows, cols]
        with np.errstate(invalid="ignore"):
            values = sums[0] / sums[1]  # 0 / 0 is NaN: nobody saw the cell
        self.levels[0][rows, cols] = np.where(self._shown[rows, cols], values, np.nan)
        for finer, coarser in zip(self.levels, self.levels[1:], strict=False):
            rows, cols = _halved(rows, coarser.shape[0]), _halved(cols, coarser.shape[1])
            part = finer[2 * rows.start : 2 * rows.stop, 2 * cols.start : 2 * cols.stop]
            coarser[rows, cols] = _pairs(part)

    def _on_tissue(self, tissue: TissueMask, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Which cells have their middle on tissue."""
        mask = np.pad(tissue.mask, ((0, 1), (0, 1)))  # beyond it is glass
        places = []
        for axis in (0, 1):
            middle = self.origin[axis] + (np.arange(shape[axis]) + 0.5) * self.cell[axis]
            index = np.floor(middle / tissue.downsample[axis]).astype(np.int64)
            inside = (index >= 0) & (index < tissue.mask.shape[axis])
            places.append(np.where(inside, index, tissue.mask.shape[axis]))
        return np.asarray(mask[np.ix_(*places)])

    def _cells_of(self, region: Region) -> tuple[int, int, int, int]:
        """First row and column, and those behind the last, of the cells that a region touches."""
        low = [(region[a] - self.origin[a]) / self.cell[a] for a in (0, 1)]
        high = [(region[a] + region[a + 2] - self.origin[a]) / self.cell[a] for a in (0, 1)]
        top, left = (int(np.floor(v + 1e-6)) for v in low)
        bottom, right = (int(np.ceil(v - 1e-6)) for v in high)
        return top, left, bottom, right


def sample_tiles(slide: Slide, bundle: Bundle, most: int = SCALE_TILES) -> NDArray[np.uint8]:
    """Tiles with tissue, spread evenly over a slide in reading order: what its scale is taken from.

    Returns
    -------
    [n, t, t, 3] uint8, n ≤ ``most``

    Raises
    ------
    ExplainError
        If the slide has no tissue.
    SlideError
        As ``plan_grid``, or if the slide cannot be decoded there.
    """
    grid = plan_grid(slide, bundle)
    cells = np.argwhere(_with_tissue(tissue_mask(slide), grid))
    if not len(cells):
        raise ExplainError(f"{slide.name} has no tissue to make a map of")
    spread = (np.arange(min(most, len(cells))) * max(1.0, len(cells) / most)).astype(np.int64)
    return read_tiles(slide, grid, cells[spread])


def _wider(grid: TileGrid) -> Region:
    """The region with half a tile around it, so that as many tiles see its border as its middle."""
    (y, x, h, w), (tile_y, tile_x) = grid.region, grid.tile_size
    return y - tile_y / 2, x - tile_x / 2, h + tile_y, w + tile_x


def _with_tissue(tissue: TissueMask, grid: TileGrid) -> NDArray[np.bool_]:
    share = tissue.fraction(grid.boxes())
    return np.asarray((share >= MIN_TISSUE).reshape(grid.rows, grid.cols))


def _window(n: int) -> Floats:
    edge = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
    return np.outer(edge, edge).astype(np.float32)


def _pyramid(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    shapes = [shape]
    while max(shapes[-1]) > COARSEST_PX:
        shapes.append(tuple((n + 1) // 2 for n in shapes[-1]))
    return shapes


def _square(patch: Patch) -> tuple[slice, slice]:
    return slice(patch.row, patch.row + patch.rows), slice(patch.col, patch.col + patch.cols)


def _cut(pixels: NDArray[np.uint8], at: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    return pixels[at[0] : at[0] + size, at[1] : at[1] + size]


def _halved(part: slice, length: int) -> slice:
    return slice(part.start // 2, min((part.stop + 1) // 2, length))


def _pairs(fine: Floats) -> Floats:
    """Means over 2 × 2 cells, without those that are NaN; an odd last row or column stays alone."""
    h, w = fine.shape
    padded = np.pad(fine, ((0, h % 2), (0, w % 2)), constant_values=np.nan)
    four = padded.reshape(-(-h // 2), 2, -(-w // 2), 2)
    known = np.isfinite(four)
    with np.errstate(invalid="ignore"):
        means = np.where(known, four, 0).sum(axis=(1, 3)) / known.sum(axis=(1, 3))
    return np.asarray(means, np.float32)
