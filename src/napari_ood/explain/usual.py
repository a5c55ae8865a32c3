"""How in-distribution tiles look: what a tile's own look is compared with (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.slides.appearance import STATISTICS

Doubles = NDArray[np.float64]

LOW, HIGH = 0.005, 0.995
"""The usual range of a number: all but 1 % of in-distribution tiles."""
STAIN = (
    "haematoxylin_mean",
    "eosin_mean",
    "residual_mean",
    "chroma_x",
    "chroma_y",
    "saturation_mean",
)
"""What a stain is judged by: its colours, and how much of each there is."""
LEAST = 50
"""Tiles below which a range of 99 % is a guess: their extremes are taken, half as far again."""
SHRINKAGE = 0.02
"""Share of the identity in the correlation of the stain's numbers."""


@dataclass(frozen=True, eq=False)
class Usual:
    """Ranges and spread of a sample of tiles.

    Attributes
    ----------
    low, high : [S] float64, the usual range of each of `STATISTICS`
    stain_mean, stain_scale : [6] float64
    stain_inverse : [6, 6] float64, of the correlation
    stain_limit : distance that `HIGH` of the tiles stay below
    spectrum : [B] float64, mean of the tiles' spectra, or None
    spectrum_low, spectrum_high : [2] float64, usual `fineness` and `grain`, or None
    """

    low: Doubles
    high: Doubles
    stain_mean: Doubles
    stain_scale: Doubles
    stain_inverse: Doubles
    stain_limit: float
    spectrum: Doubles | None = None
    spectrum_low: Doubles | None = None
    spectrum_high: Doubles | None = None

    @classmethod
    def of(cls, statistics: ArrayLike, spectrum: ArrayLike | None = None) -> Usual:
        """Learn from tiles: [N ≥ 2, S] statistics and, where known, [N, B] spectra."""
        x = np.asarray(statistics, np.float64)
        low, high = _range(x)
        stain = x[:, [STATISTICS.index(name) for name in STAIN]]
        mean, scale = stain.mean(axis=0), np.maximum(stain.std(axis=0), 1e-6)
        z = (stain - mean) / scale
        correlation = z.T @ z / len(z) * (1 - SHRINKAGE) + SHRINKAGE * np.eye(z.shape[1])
        inverse = np.linalg.inv(correlation)
        own = np.sqrt(np.einsum("nd,de,ne->n", z, inverse, z))
        limit = float(_range(own[:, None])[1][0])
        if spectrum is None:
            return cls(low, high, mean, scale, inverse, limit)
        bands = np.asarray(spectrum, np.float64)
        ranges = _range(np.stack([fineness(bands), grain(bands)], axis=1))
        return cls(low, high, mean, scale, inverse, limit, bands.mean(axis=0), *ranges)

    def range(self, name: str) -> tuple[float, float]:
        """Usual lowest and highest value of one of `STATISTICS`."""
        column = STATISTICS.index(name)
        return float(self.low[column]), float(self.high[column])

    def stain_distance(self, statistics: ArrayLike) -> Doubles:
        """Distance of tiles [N, S] from the mean stain, in standard deviations; [N]."""
        z = self._stain_z(statistics)
        return np.asarray(np.sqrt(np.einsum("nd,de,ne->n", z, self.stain_inverse, z)))

    def oddest_stain(self, statistics: ArrayLike) -> str:
        """Which of the stain's numbers is farthest out, of the tiles' median."""
        z = np.abs(np.median(self._stain_z(statistics), axis=0))
        return STAIN[int(z.argmax())]

    def _stain_z(self, statistics: ArrayLike) -> Doubles:
        x = np.asarray(statistics, np.float64)
        stain = x[:, [STATISTICS.index(name) for name in STAIN]]
        return np.asarray((stain - self.stain_mean) / self.stain_scale)


def fineness(spectrum: ArrayLike) -> Doubles:
    """How strong the finest structures (2 to 4 px) are against those of 6 to 16 px; [N], log10."""
    bands = np.asarray(spectrum, np.float64)
    return np.asarray(bands[..., 7:9].mean(axis=-1) - bands[..., 3:6].mean(axis=-1))


def grain(spectrum: ArrayLike) -> Doubles:
    """How strong structures of 16 to 45 px are against those of 4 to 11 px; [N], log10.

    It grows with magnification, and with blur only when that is strong.
    """
    bands = np.asarray(spectrum, np.float64)
    return np.asarray(bands[..., 0:3].mean(axis=-1) - bands[..., 4:7].mean(axis=-1))


def _range(x: Doubles) -> tuple[Doubles, Doubles]:
    """Usual range of each column of [N, K]."""
    if len(x) >= LEAST:
        low, high = np.quantile(x, [LOW, HIGH], axis=0)
        return low, high
    low, high = x.min(axis=0), x.max(axis=0)
    more = (high - low) / 2
    return low - more, high + more
