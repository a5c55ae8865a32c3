"""Levels that the file does not store: area means of its coarsest stored level."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.slides.backends.base import RGB, Level

MAX_COARSEST_PX = 2048
BLOCK_PX = 1024
KEPT_BYTES = 96 * 2**20

ReadWindow = Callable[[int, int, int, int], RGB]


def coarse_factors(shape: tuple[int, int]) -> tuple[int, ...]:
    """Return 2, 4, 8 ... up to the first that shrinks (h, w) to ≤ 2,048 px; () when none must."""
    factors = []
    factor = 1
    while math.ceil(max(shape) / factor) > MAX_COARSEST_PX:
        factor *= 2
        factors.append(factor)
    return tuple(factors)


def area_sum(values: NDArray[Any], factor: int) -> NDArray[Any]:
    """Sum (h, w, c) unsigned integers over cells of factor x factor; far edges may be partial.

    The narrowest type that holds the sums keeps this as fast as memory: 16 bits up to 16 x 16 px.
    """
    from_bytes = values.dtype == np.uint8
    rows: NDArray[Any] = values[::factor].astype(
        np.uint16 if from_bytes and factor <= 256 else np.uint32
    )
    for i in range(1, factor):
        part = values[i::factor]
        rows[: len(part)] += part
    total: NDArray[Any] = rows[:, ::factor].astype(
        np.uint16 if from_bytes and factor <= 16 else np.uint32
    )
    for i in range(1, factor):
        part = rows[:, i::factor]
        total[:, : part.shape[1]] += part
    return total


def cell_mean(total: NDArray[Any], h: int, w: int, factor: int) -> RGB:
    """Divide the sums over the cells of an (h, w) window by their sizes, rounded once.

    Whole cells have a power of two as their size, and shifting is faster than dividing.
    """
    shift = 2 * (factor.bit_length() - 1)
    mean = ((total + (1 << shift >> 1)) >> shift).astype(np.uint8)
    rows, columns = _cell_sizes(h, factor), _cell_sizes(w, factor)
    for edge, partial in (((-1, slice(None)), h % factor), ((slice(None), -1), w % factor)):
        if partial:
            area = (rows[:, None] * columns[None, :])[edge][:, None]
            mean[edge] = (total[edge].astype(np.uint32) + area // 2) // area
    return mean


def _cell_sizes(side: int, factor: int) -> NDArray[np.uint32]:
    sizes = np.full(math.ceil(side / factor), factor, np.uint32)
    if side % factor:
        sizes[-1] = side % factor
    return sizes


class CoarseLevels:
    """Synthesised levels of ``base``; level ``k`` shrinks it by ``factors[k]`` = 2, 4, 8 ...

    Each pixel is the mean of the base pixels in its cell, whatever window is read. The finer of
    these levels are computed window by window. The coarser ones, as many as fit ``KEPT_BYTES``,
    are computed together at first use, in threads, in one pass over the base, and kept: napari
    loads the coarsest level whole as soon as a layer is made.
    """

    def __init__(self, read_base: ReadWindow, base: Level) -> None:
        self.base = base
        self.factors = coarse_factors(base.shape)
        self._read_base = read_base
        self._kept_from = self._first_kept()
        self._kept: dict[int, RGB] | None = None
        self._lock = threading.Lock()

    def shape(self, k: int) -> tuple[int, int]:
        """Return (h, w) of the k-th synthesised level."""
        h, w = self.base.shape
        return math.ceil(h / self.factors[k]), math.ceil(w / self.factors[k])

    def read(self, k: int, y: int, x: int, h: int, w: int) -> RGB:
        """Return an (h, w, 3) uint8 window that lies inside the k-th synthesised level."""
        if k >= self._kept_from:
            return self._overview()[k][y : y + h, x : x + w].copy()
        factor = self.factors[k]
        out = np.empty((h, w, 3), np.uint8)
        step = max(BLOCK_PX // factor, 1)
        for top in range(0, h, step):
            for left in range(0, w, step):
                n, m = min(step, h - top), min(step, w - left)
                pixels = self._base_window((y + top, x + left, n, m), factor)
                mean = cell_mean(area_sum(pixels, factor), pixels.shape[0], pixels.shape[1], factor)
                out[top : top + n, left : left + m] = mean
        return out

    def _base_window(self, window: tuple[int, int, int, int], factor: int) -> RGB:
        y, x, h, w = (value * factor for value in window)
        height, width = self.base.shape
        return self._read_base(y, x, min(h, height - y), min(w, width - x))

    def _first_kept(self) -> int:
        total = 0
        for k in reversed(range(len(self.factors))):
            h, w = self.shape(k)
            total += h * w * 3
            if total > KEPT_BYTES:
                return min(k + 1, len(self.factors) - 1)
        return 0

    def _overview(self) -> dict[int, RGB]:
        with self._lock:
            if self._kept is None:
                self._kept = self._compute_overview()
            return self._kept

    def _compute_overview(self) -> dict[int, RGB]:
        kept = range(self._kept_from, len(self.factors))
        images = {k: np.empty((*self.shape(k), 3), np.uint8) for k in kept}
        height, width = self.base.shape
        bh, bw = self._pass_block()

        def fill(corner: tuple[int, int]) -> None:
            y, x = corner
            h, w = min(bh, height - y), min(bw, width - x)
            total: NDArray[Any] = self._read_base(y, x, h, w)
            done = 1
            for k, image in images.items():
                factor = self.factors[k]
                total = area_sum(total, factor // done)
                done = factor
                n, m = total.shape[:2]
                top, left = y // factor, x // factor
                image[top : top + n, left : left + m] = cell_mean(total, h, w, factor)

        corners = [(y, x) for y in range(0, height, bh) for x in range(0, width, bw)]
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            for _ in pool.map(fill, corners):
                pass
        return images

    def _pass_block(self) -> tuple[int, int]:
        """Block of the pass: whole cells of the coarsest level and, if it can be, whole tiles."""
        cell = self.factors[-1]
        bw = _multiple(max(self.base.tile[1], BLOCK_PX), cell, self.base.tile[1])
        rows = max(BLOCK_PX * BLOCK_PX // bw, 1)
        return _multiple(rows, cell, self.base.tile[0]), bw


def _multiple(wanted: int, cell: int, tile: int) -> int:
    """Return a length ≥ ``wanted`` that cells, and tiles unless that gets long, divide evenly."""
    both = math.lcm(cell, tile)
    unit = both if both <= 2 * max(wanted, cell) else cell
    return math.ceil(wanted / unit) * unit
