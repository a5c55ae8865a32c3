"""Where a slide is not glass, found at low resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

SMALLEST_SPECK_MM2 = 0.005
"""Smaller islands are dust: about 70 µm across."""
LARGEST_FILLED_HOLE_MM2 = 0.05
"""Smaller holes are lumina, vessels and fat: part of the tissue, about 220 µm across."""
ASSUMED_MPP = 0.5
"""For the two sizes above only, on a slide without mpp."""
CONTRAST_LIMITS = (10.0, 20.0)
"""Bounds of Otsu's threshold in grey values below the glass. Otsu always splits: an empty slide at
its noise, a slide full of tissue at its nuclei. Fainter than 10 is noise, darker than 20 tissue,
pale IHC stroma and fat included."""


class PyramidSlide(Protocol):
    """What the mask needs of a slide."""

    def overview(self) -> NDArray[np.uint8]:
        """Pixels of its coarsest level, (y, x, 3)."""

    @property
    def downsamples(self) -> tuple[tuple[float, float], ...]:
        """Level-0 pixels per level pixel, (y, x)."""

    @property
    def mpp(self) -> tuple[float, float] | None:
        """µm per level-0 pixel, (y, x)."""


@dataclass(frozen=True)
class TissueMask:
    """Tissue (anything that is not glass: ink and debris count, the model must see them).

    Attributes
    ----------
    mask : (y, x) bool
    downsample : (y, x) level-0 pixels per mask pixel
    """

    mask: NDArray[np.bool_]
    downsample: tuple[float, float]

    def fraction(self, boxes: ArrayLike) -> NDArray[np.float32]:
        """Share of each level-0 box (y, x, h, w) that is tissue; [N, 4] → [N] float32.

        Exact for boxes at any fractional position: the integral image is bilinear within a pixel.
        What lies outside the mask is glass.
        """
        box = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        integral = np.zeros(np.add(self.mask.shape, 1), np.int32)
        self.mask.cumsum(axis=0, dtype=np.int32, out=integral[1:, 1:])
        integral.cumsum(axis=1, dtype=np.int32, out=integral)
        y0, x0 = box[:, 0] / self.downsample[0], box[:, 1] / self.downsample[1]
        y1, x1 = y0 + box[:, 2] / self.downsample[0], x0 + box[:, 3] / self.downsample[1]

        def below(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(
                ndimage.map_coordinates(integral, [y, x], np.float64, order=1, mode="nearest")
            )

        area = below(y1, x1) - below(y0, x1) - below(y1, x0) + below(y0, x0)
        share = area / np.maximum((y1 - y0) * (x1 - x0), np.finfo(np.float64).tiny)
        return np.clip(share, 0, 1).astype(np.float32)

    def area_mm2(self, mpp: tuple[float, float]) -> float:
        """Area of the tissue in mm², given µm per level-0 pixel (y, x)."""
        pixel = self.downsample[0] * mpp[0] * self.downsample[1] * mpp[1]
        return float(self.mask.sum() * pixel / 1e6)


def tissue_mask(slide: PyramidSlide) -> TissueMask:
    """Find the tissue of a slide on its coarsest level.

    The signal is how far a pixel's darkest channel lies below the glass: eosin and haematoxylin
    lower green, ink and folds lower all. It is smoothed, split by Otsu within bounds, rid of
    specks, and its small holes are filled.
    """
    pixels = slide.overview()
    downsample = slide.downsamples[-1]
    mask = ndimage.gaussian_filter(_signal(pixels), sigma=1.0)
    mask = mask > _threshold(mask)
    mpp = slide.mpp or (ASSUMED_MPP, ASSUMED_MPP)
    pixel_mm2 = downsample[0] * mpp[0] * downsample[1] * mpp[1] / 1e6
    # An image smaller than the speck itself (a single field of view) must not vanish.
    speck = min(SMALLEST_SPECK_MM2 / pixel_mm2, 0.01 * mask.size)
    hole = min(LARGEST_FILLED_HOLE_MM2 / pixel_mm2, 0.05 * mask.size)
    mask = _without_small(mask, speck)
    mask = ~_without_small(~mask, hole)
    return TissueMask(mask, downsample)


def _signal(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey values of the darkest channel below the glass, (y, x) float32 ≥ 0."""
    # Channel by channel: numpy is ten times slower along an axis of three.
    channels = np.ascontiguousarray(np.moveaxis(pixels[..., :3], -1, 0))
    darkest = channels.min(axis=0)
    # Pure white is padding between scanned areas and says nothing about the glass.
    bright = (darkest > 200) & (darkest < 255)
    is_enough = np.count_nonzero(bright) > 0.005 * darkest.size
    below = np.zeros(darkest.shape, np.float32)
    for channel in channels:
        glass = np.float32(_median(channel[bright]) if is_enough else 245)
        np.maximum(below, glass - channel, out=below)
    return below


def _median(values: NDArray[np.uint8]) -> float:
    """Median, as ``np.median`` but counted instead of sorted."""
    up_to = np.bincount(values, minlength=256).cumsum()
    middle = (len(values) - 1) // 2, len(values) // 2
    return float(np.searchsorted(up_to, middle, side="right").mean())


def _threshold(signal: NDArray[np.float32]) -> float:
    from skimage.filters import threshold_otsu

    if signal.max() - signal.min() < CONTRAST_LIMITS[0]:
        return float(np.mean(CONTRAST_LIMITS))
    return float(np.clip(threshold_otsu(signal), *CONTRAST_LIMITS))


def _without_small(mask: NDArray[np.bool_], smallest: float) -> NDArray[np.bool_]:
    """``mask`` without connected parts of fewer than ``smallest`` pixels."""
    parts, _ = ndimage.label(mask)
    keep = np.bincount(parts.ravel()) >= smallest
    keep[0] = False
    return np.asarray(keep[parts])
