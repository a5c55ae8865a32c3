"""Where tiles lie on a slide."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Region = tuple[float, float, float, float]
"""y, x, height, width in level-0 pixels."""

_ROUNDING = 1e-9
"""Relative slack in counts of tiles: 3 × 0.1 / 0.3 must give one tile, not two."""


@dataclass(frozen=True)
class TileGrid:
    """Rows × columns of square tiles at the bundle's resolution over a region of a slide.

    Model pixels are pixels at the bundle's mpp. Tile (r, c) covers the model pixels
    ``[r·stride, r·stride + tile) × [c·stride, c·stride + tile)``, counted from the region's origin.
    The last row and column may reach beyond the region, and beyond the slide, where it is white.

    Attributes
    ----------
    shape : (height, width) of the slide in level-0 pixels
    region : (y, x, h, w) in level-0 pixels
    tile, stride : int, in model pixels; stride < tile overlaps, stride > tile leaves gaps
    step : (y, x) level-0 pixels per model pixel, fractional
    """

    shape: tuple[int, int]
    region: Region
    tile: int
    stride: int
    step: tuple[float, float]

    def __post_init__(self) -> None:
        _, _, h, w = self.region
        if self.tile < 1 or self.stride < 1:
            raise ValueError(f"tile and stride must be ≥ 1 px, got {self.tile}, {self.stride}")
        if not (h > 0 and w > 0 and all(map(math.isfinite, self.region))):
            raise ValueError(f"the region must have a positive size, got {self.region}")
        if not min(self.step) > 0:
            raise ValueError(f"level-0 pixels per model pixel must be positive, got {self.step}")

    @classmethod
    def over(
        cls,
        shape: tuple[int, int],
        tile: int,
        step: tuple[float, float] = (1.0, 1.0),
        region: Region | None = None,
        stride: int | None = None,
    ) -> Self:
        """Grid that covers ``region``, clipped to the slide; the whole slide by default.

        Raises
        ------
        ValueError
            If the region is not four numbers or lies outside the slide, or a size is not positive.
        """
        height, width = shape
        y, x, h, w = (0.0, 0.0, height, width) if region is None else _four_numbers(region)
        top, left = max(y, 0), max(x, 0)
        bottom, right = min(y + h, height), min(x + w, width)
        if bottom <= top or right <= left:
            raise ValueError(f"region {region} lies outside the slide of {width} × {height} px")
        clipped = (float(top), float(left), float(bottom - top), float(right - left))
        return cls((height, width), clipped, tile, tile if stride is None else _whole(stride), step)

    def _count(self, extent: float, step: float) -> int:
        model = extent / step
        slack = _ROUNDING * max(model, 1.0)
        if self.stride >= self.tile:  # gaps are asked for: place a tile at every stride inside
            return max(1, math.ceil((model - slack) / self.stride))
        return 1 + max(0, math.ceil((model - self.tile - slack) / self.stride))

    @property
    def rows(self) -> int:
        """Number of rows of tiles."""
        return self._count(self.region[2], self.step[0])

    @property
    def cols(self) -> int:
        """Number of columns of tiles."""
        return self._count(self.region[3], self.step[1])

    @property
    def pitch(self) -> tuple[float, float]:
        """Distance (y, x) between neighbouring tiles in level-0 pixels."""
        return self.stride * self.step[0], self.stride * self.step[1]

    @property
    def tile_size(self) -> tuple[float, float]:
        """Height and width of a tile in level-0 pixels."""
        return self.tile * self.step[0], self.tile * self.step[1]

    def index(self) -> NDArray[np.int64]:
        """Row and column of every tile, row by row; [rows · cols, 2] int64."""
        return np.argwhere(np.ones((self.rows, self.cols), bool))

    def boxes(self, index: ArrayLike | None = None) -> NDArray[np.float64]:
        """Level-0 boxes y, x, h, w of tiles given by row and column; [N, 4] float64.

        Parameters
        ----------
        index : [N, 2] int, optional
            All tiles, row by row, by default.
        """
        index = self.index() if index is None else np.asarray(index, dtype=np.int64).reshape(-1, 2)
        origin = np.array(self.region[:2]) + index * np.array(self.pitch)
        return np.concatenate([origin, np.broadcast_to(self.tile_size, origin.shape)], axis=1)

    def partial(self, index: ArrayLike | None = None) -> NDArray[np.bool_]:
        """Which tiles reach beyond the slide, by more than rounding, and are padded; [N] bool."""
        boxes = self.boxes(index)
        beyond = boxes[:, :2] + boxes[:, 2:] - np.array(self.shape)
        return np.asarray((beyond > _ROUNDING * np.array(self.shape)).any(axis=1))

    def tiles_in(self, region: Region) -> NDArray[np.bool_]:
        """Which tiles overlap a region in level-0 pixels; (rows, cols) bool."""
        y, x, h, w = region

        def overlaps(n: int, axis: int, low: float, size: float) -> NDArray[np.bool_]:
            start = self.region[axis] + np.arange(n) * self.pitch[axis]
            return np.asarray((start < low + size) & (start + self.tile_size[axis] > low))

        return np.logical_and.outer(overlaps(self.rows, 0, y, h), overlaps(self.cols, 1, x, w))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, for the run store."""
        return {
            "shape": list(self.shape),
            "region": list(self.region),
            "tile": self.tile,
            "stride": self.stride,
            "step": list(self.step),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`."""
        height, width = data["shape"]
        y, x, h, w = data["region"]
        step_y, step_x = data["step"]
        return cls((height, width), (y, x, h, w), data["tile"], data["stride"], (step_y, step_x))


def _four_numbers(region: Region) -> Region:
    try:
        y, x, h, w = map(float, region)
    except (TypeError, ValueError):
        raise ValueError(f"a region is four numbers, y, x, h, w, not {region}") from None
    return y, x, h, w


def _whole(stride: int) -> int:
    try:
        return operator.index(stride)
    except TypeError:
        raise ValueError(f"the stride must be a whole number of pixels, got {stride}") from None
