"""The levels that napari shows: lazy dask arrays, down to one that is quick to load whole."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable

import dask.array as da
import numpy as np

from napari_ood.slides.backends.base import RGB, Level

MAX_COARSEST_PX = 2048
CHUNK_PX = 1024

Read = Callable[[int, int, int, int, int], RGB]


class _LevelArray:
    """A stored level as an array-like object, so that dask's graph needs no task per chunk."""

    ndim = 3
    dtype = np.dtype(np.uint8)

    def __init__(self, read: Read, level: int, shape: tuple[int, int]) -> None:
        self._read = read
        self._level = level
        self.shape = (*shape, 3)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> RGB:
        (y0, y1, _), (x0, x1, _) = (key[axis].indices(self.shape[axis]) for axis in (0, 1))
        return self._read(self._level, y0, x0, y1 - y0, x1 - x0)[:, :, key[2]]


def chunk_shape(level: Level) -> tuple[int, int]:
    """Square-ish chunk near 1024 px that is a multiple of the codec's tile where that fits."""
    return _chunk_side(level.tile[0], level.shape[0]), _chunk_side(level.tile[1], level.shape[1])


def _chunk_side(tile: int, side: int) -> int:
    if tile > CHUNK_PX:
        return min(CHUNK_PX, side)
    return min(tile * round(CHUNK_PX / tile), side)


def native_level(read: Read, index: int, level: Level) -> da.Array:
    """Return a stored level as a lazy (y, x, 3) uint8 array."""
    array = _LevelArray(read, index, level.shape)
    return da.from_array(
        array,
        chunks=(*chunk_shape(level), 3),
        # a name of its own: dask's caches must not mix up two slides or two openings
        name=f"slide-level-{index}-{uuid.uuid4().hex}",
        lock=False,
        asarray=False,
        fancy=False,
        inline_array=True,
        meta=np.empty((0, 0, 0), np.uint8),
    )


def halve(image: RGB) -> RGB:
    """Area mean over 2 x 2 px; an odd last row or column is averaged with itself."""
    h, w = image.shape[:2]
    if h % 2 or w % 2:
        image = np.pad(image, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    wide = image.astype(np.uint16)
    total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def halved(level: da.Array) -> da.Array:
    """Return the next coarser level (factor 2 per axis, rounded up), computed when asked for."""
    chunks = tuple(tuple(math.ceil(size / 2) for size in sizes) for sizes in level.chunks[:2])
    return level.map_blocks(
        halve, chunks=(*chunks, (3,)), dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8)
    )


def build_levels(read: Read, levels: tuple[Level, ...]) -> tuple[da.Array, ...]:
    """Return all levels, native first, then synthesised ones until one is ≤ 2,048 px."""
    arrays = [native_level(read, index, level) for index, level in enumerate(levels)]
    while max(arrays[-1].shape[:2]) > MAX_COARSEST_PX:
        arrays.append(halved(arrays[-1]))
    return tuple(arrays)
