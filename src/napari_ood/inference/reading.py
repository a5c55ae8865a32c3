"""Reading a run's arrays: in pieces of many shards, some ahead, so that no more is in memory.

Chunks are as small as a shard, and each read of zarr costs as much as its decoding. So neighbouring
shards of a row are read together, the next ones while the caller works on these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_ood.inference.store import Shard, grid_array, read_cells

PIECE_BYTES = 16 * 2**20
"""Size of a piece, about: far above the cost of a read, far below the memory."""
AHEAD = 2
"""Pieces that are read ahead."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class TileArrays:
    """The arrays over a run's grid, by its finished tiles.

    Parameters
    ----------
    path : of the run, for messages
    group : zarr.Group
    done : (rows, cols) bool, finished tiles
    shard : (rows, cols) of tiles that are stored together
    """

    def __init__(
        self, path: Path, group: zarr.Group, done: NDArray[np.bool_], shard: tuple[int, int]
    ) -> None:
        self._path, self._group = path, group
        self._done, self._shard = done, shard

    def nbytes(self, name: str) -> int:
        """Size of an array's finished tiles in memory."""
        return int(self._done.sum()) * _tile_bytes(grid_array(self._group, name))

    def whole(self, name: str) -> Floats:
        """All finished tiles; [N, …] float32.

        Raises
        ------
        RunError
            If the files are damaged.
        """
        array = grid_array(self._group, name)
        out = np.empty((int(self._done.sum()), *array.shape[2:]), np.float32)
        for tiles, values in self.pieces(name):
            out[tiles] = values
        return out

    def pieces(
        self, name: str, wanted: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[Ints, Floats]]:
        """Finished tiles piece by piece: positions [n] int64, values [n, …] float32.

        Parameters
        ----------
        name : of the array
        wanted : (rows, cols) bool, tiles to read; all finished ones by default

        Raises
        ------
        RunError
            If the files are damaged.
        """
        wanted = self._done if wanted is None else wanted & self._done
        array = grid_array(self._group, name)
        position = np.cumsum(self._done.ravel()).reshape(self._done.shape) - 1

        def read(piece: Shard) -> tuple[Ints, Floats]:
            cells, inside = read_cells(self._path, array, piece.slices), wanted[piece.slices]
            values = cells.reshape(-1, *cells.shape[2:]) if inside.all() else cells[inside]
            return position[piece.slices][inside], values.astype(np.float32, copy=False)

        with ThreadPoolExecutor(AHEAD, thread_name_prefix="ood-tiles") as pool:
            coming: deque[Future[tuple[Ints, Floats]]] = deque()
            try:
                for piece in self._pieces(wanted, _tile_bytes(array)):
                    coming.append(pool.submit(read, piece))
                    if len(coming) > AHEAD:
                        yield coming.popleft().result()
                while coming:
                    yield coming.popleft().result()
            finally:
                for future in coming:
                    future.cancel()

    def at(self, name: str, tiles: Ints) -> Floats:
        """Some tiles, by their positions [K], in that order; [K, …] float32.

        Raises
        ------
        RunError
            If the files are damaged.
        """
        array = grid_array(self._group, name)
        sought, place = np.unique(np.asarray(tiles, np.int64), return_inverse=True)
        flags = np.zeros(int(self._done.sum()), bool)
        flags[sought] = True
        wanted = np.zeros(self._done.shape, bool)
        wanted[self._done] = flags
        found = np.empty((len(sought), *array.shape[2:]), np.float32)
        for positions, values in self.pieces(name, wanted):
            found[np.searchsorted(sought, positions)] = values
        return found[place]

    def _pieces(self, wanted: NDArray[np.bool_], tile_bytes: int) -> Iterator[Shard]:
        """Runs of neighbouring shards of a row that have wanted tiles, none much too large."""
        rows, cols = wanted.shape
        height, width = self._shard
        most = max(1, PIECE_BYTES // (height * width * tile_bytes))
        for top in range(0, rows, height):
            bottom = min(top + height, rows)
            used = np.add.reduceat(wanted[top:bottom].any(axis=0), np.arange(0, cols, width)) > 0
            start = 0
            while start < len(used):
                if not used[start]:
                    start += 1
                    continue
                stop = start + 1
                while stop < len(used) and used[stop] and stop - start < most:
                    stop += 1
                yield Shard(top, start * width, bottom, min(stop * width, cols))
                start = stop


def _tile_bytes(array: zarr.Array[Any]) -> int:
    return int(np.prod(array.shape[2:], dtype=np.int64)) * array.dtype.itemsize
