"""The slide at another resolution: an exact area filter from the nearest finer level."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

STEP_TOLERANCE = 0.02
"""A level whose resolution is this close to the wanted one is read as it is. A 2 % difference in
scale is below what scanners report reliably and what training augments; resampling for it would
blur every tile and cost more than decoding."""


STRIP = (32, 2**18)
"""Rows that are resampled at a time, and bytes of their sums, at most: they stay in the cache, and
single tiles, which are narrow, do not pay for more calls than they must."""

Weights = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Indices of source pixels and their weights, both [taps, pixels]."""


class LevelReader(Protocol):
    """What resampling needs of a slide."""

    @property
    def downsamples(self) -> tuple[tuple[float, float], ...]:
        """Level-0 pixels per level pixel, (y, x), finest first."""

    @property
    def n_native(self) -> int:
        """Number of levels stored in the file."""

    def read(self, level: int, y: int, x: int, h: int, w: int) -> NDArray[np.uint8]:
        """Read (h, w, 3) uint8 in level pixels; white outside the slide."""


def snapped_step(
    downsamples: tuple[tuple[float, float], ...], step: tuple[float, float]
) -> tuple[float, float]:
    """``step``, or a level's own downsample where that is within ``STEP_TOLERANCE`` of it."""
    for native in downsamples:
        if all(abs(s / n - 1) <= STEP_TOLERANCE for s, n in zip(step, native, strict=True)):
            return native
    return step


class SlideView:
    """A slide seen at ``step`` level-0 pixels per pixel, from ``origin`` on.

    Pixel (i, j) is the mean of the slide over the level-0 rectangle
    ``origin + [i, i + 1) · step_y × [j, j + 1) · step_x``, taken from the coarsest stored level
    that is not coarser than ``step``. What a pixel holds depends on its own indices alone, so
    reading by tiles equals reading at once, bit for bit.

    Parameters
    ----------
    slide : Slide
    step : (y, x) level-0 pixels per pixel of the view
    origin : (y, x) level-0 pixels
    """

    def __init__(
        self,
        slide: LevelReader,
        step: tuple[float, float],
        origin: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        native = slide.downsamples[: slide.n_native]
        finer = [i for i, d in enumerate(native) if d[0] <= step[0] and d[1] <= step[1]]
        self.slide = slide
        self.level = max(finer, default=0)
        d = slide.downsamples[self.level]
        self._ratio = step[0] / d[0], step[1] / d[1]
        self._origin = origin[0] / d[0], origin[1] / d[1]

    def source(self, i: int, j: int, h: int, w: int) -> tuple[int, int, int, int]:
        """Rectangle (y, x, h, w) of level pixels that a window of the view is made from."""
        y0, y1 = self._interval(0, i, h)
        x0, x1 = self._interval(1, j, w)
        return y0, x0, y1 - y0, x1 - x0

    def read(self, i: int, j: int, h: int, w: int) -> NDArray[np.uint8]:
        """Window of the view, (h, w, 3) uint8, contiguous; white outside the slide."""
        y, x, height, width = self.source(i, j, h, w)
        pixels = self.slide.read(self.level, y, x, height, width)
        if self._is_exact():
            return np.ascontiguousarray(pixels)
        rows = self._weights(0, i, h, y, height)
        return _resampled(pixels, rows, self._weights(1, j, w, x, width))

    def _is_exact(self) -> bool:
        return self._ratio == (1.0, 1.0) and all(o.is_integer() for o in self._origin)

    def _edges(self, axis: int, start: int, size: int) -> NDArray[np.float64]:
        # From the index alone, never from a sum: the same pixel has the same edges in any window.
        edges = self._origin[axis] + np.arange(start, start + size + 1) * self._ratio[axis]
        near = np.round(edges)
        return np.where(np.abs(edges - near) < 1e-6, near, edges)

    def _interval(self, axis: int, start: int, size: int) -> tuple[int, int]:
        edges = self._edges(axis, start, size)
        return math.floor(edges[0]), math.ceil(edges[-1])

    def _weights(self, axis: int, start: int, size: int, first: int, length: int) -> Weights:
        """Source indices and weights of the pixels from ``start`` on."""
        edges = self._edges(axis, start, size)
        low, high = edges[:-1], edges[1:]
        taps = np.arange(math.ceil(self._ratio[axis]) + 1)[:, None]
        pixel = np.floor(low) + taps
        overlap = np.minimum(high, pixel + 1) - np.maximum(low, pixel)
        weights = np.maximum(overlap, 0) / (high - low)
        used = weights.any(axis=1)
        index = np.minimum(pixel.astype(np.int64) - first, length - 1)
        return index[used], weights[used].astype(np.float32)


def _resampled(pixels: NDArray[np.uint8], rows: Weights, columns: Weights) -> NDArray[np.uint8]:
    """Filter (y, x, 3) along both axes, a strip at a time."""
    n_rows, n_columns = rows[0].shape[1], columns[0].shape[1]
    out = np.empty((n_rows, n_columns * 3), np.uint8)
    flat, columns = pixels.reshape(len(pixels), -1), _by_channel(columns)
    most_rows, most_bytes = STRIP
    width = flat.shape[1]
    height = min(n_rows, most_rows, max(1, most_bytes // (width * 4)))
    taken = np.empty((height, width), np.uint8)
    sums, term = np.empty((2, height, width), np.float32)
    means, part = np.empty((2, height, out.shape[1]), np.float32)
    for start in range(0, n_rows, height):
        index, weights = rows[0][:, start : start + height], rows[1][:, start : start + height]
        n = index.shape[1]
        _area_filter(flat, 0, (index, weights[:, :, None]), sums[:n], taken[:n], term[:n])
        _area_filter(sums[:n], 1, columns, means[:n], part[:n], part[:n])
        half = np.float32(0.5)
        np.add(means[:n], half, out=out[start : start + n], casting="unsafe")
    return out.reshape(n_rows, n_columns, 3)


def _by_channel(columns: Weights) -> Weights:
    """Weights of pixels as weights of their channels, which follow one another in a row."""
    index, weights = columns
    channels = index[:, :, None] * 3 + np.arange(3)
    return channels.reshape(len(index), -1), np.repeat(weights, 3, axis=1)


def _area_filter(
    values: NDArray[np.uint8] | NDArray[np.float32],
    axis: int,
    by: Weights,
    out: NDArray[np.float32],
    taken: NDArray[np.uint8] | NDArray[np.float32],
    term: NDArray[np.float32],
) -> None:
    """Weighted sums along an axis: out[k] = Σ_t weights[t, k] · values[index[t, k]], in that order.

    ``taken``, of the type of ``values``, and ``term``, both as large as ``out``, are overwritten;
    they may be one. Nothing is transposed: moving pixels of three values took as long as all else.
    """
    for t, (index, weights) in enumerate(zip(*by, strict=True)):
        # "wrap" is the mode that neither copies what it takes once more nor clips each index.
        np.take(values, index, axis=axis, out=taken, mode="wrap")
        if t == 0:
            np.multiply(taken, weights, out=out)
        else:
            out += np.multiply(taken, weights, out=term)
