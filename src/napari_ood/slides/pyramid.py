"""The levels that napari shows: lazy dask arrays that read the slide window by window."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import dask.array as da
import numpy as np

from napari_ood.slides.backends.base import RGB, Level

CHUNK_PX = 1024

Read = Callable[[int, int, int, int, int], RGB]


class LevelArray:
    """A level as an array-like object, so that dask's graph needs no function of its own."""

    ndim = 3
    dtype = np.dtype(np.uint8)

    def __init__(self, read: Read, level: int, shape: tuple[int, int]) -> None:
        self._read = read
        self._level = level
        self.shape = (*shape, 3)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> RGB:
        """Read the window that three slices with step 1 select."""
        (y0, y1, _), (x0, x1, _) = (key[axis].indices(self.shape[axis]) for axis in (0, 1))
        return self._read(self._level, y0, x0, y1 - y0, x1 - x0)[:, :, key[2]]


def chunk_shape(level: Level) -> tuple[int, int]:
    """Return a chunk near 1,024 px square, a multiple of the codec's tile where that fits.

    Chunks decide how smoothly napari pans (it reads whole chunks), so strips as wide as the
    slide and tiles of several thousand px are cut up: the reader's cache makes up for it.
    """
    return _chunk_side(level.tile[0], level.shape[0]), _chunk_side(level.tile[1], level.shape[1])


def _chunk_side(tile: int, side: int) -> int:
    if tile > CHUNK_PX:
        return min(CHUNK_PX, side)
    return min(tile * round(CHUNK_PX / tile), side)


def lazy_level(read: Read, index: int, level: Level) -> da.Array:
    """Return a level as a lazy (y, x, 3) uint8 array."""
    array: da.Array = da.from_array(  # type: ignore[no-untyped-call]
        LevelArray(read, index, level.shape),
        chunks=(*chunk_shape(level), 3),
        # a name of its own: dask's caches must not mix up two slides or two openings
        name=f"slide-level-{index}-{uuid.uuid4().hex}",
        lock=False,
        asarray=False,
        fancy=False,
        inline_array=True,
        meta=np.empty((0, 0, 0), np.uint8),
    )
    return array
