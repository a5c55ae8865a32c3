"""How in-distribution tiles look: what a tile's own look is compared with (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.slides.appearance import STATISTICS

Doubles = NDArray[np.float64]

RARE, UNCOMMON = 0.005, 0.025
"""What a usual range leaves out at either end: 1 or 5 % of in-distribution tiles in all."""
STAIN = ("chroma_x", "chroma_y", "saturation_mean")
"""What a stain is judged by: its colours, which hardly depend on how much tissue a tile holds."""
DENSE = 0.9
"""Share of in-distribution tiles that are lighter than what is called dense."""
LEAST = 50
"""Tiles below which a range of 99 % is a guess: their extremes are taken, half as far again."""
FENCE = 1.5
"""Tukey's: so many interquartile ranges above the upper quartile."""


@dataclass(frozen=True, eq=False)
class Usual:
    """Ranges and spread of a sample of tiles.

    Attributes
    ----------
    low, high : [S] float64, the usual range of each of `STATISTICS`
    rarest : [S] float64, the highest usual values when only `RARE` ones are left out
    dense : optical density of a tile that is denser than most
    stain_mean, stain_scale : [3] float64, of `STAIN`
    stains : [N, 3] float64, standardised
    stain_limit : what of the tiles' distances is usual, each compared with the others
    spectrum : [B] float64, mean of the tiles' spectra, or None
    spectrum_low, spectrum_high : [2] float64, usual `fineness` and `grain`, or None
    coarsest : least usual `fineness` when only `RARE` ones are left out, or None
    rule : [4, B + 1], tells blur from another scale, or None
    """

    low: Doubles
    high: Doubles
    rarest: Doubles
    dense: float
    stain_mean: Doubles
    stain_scale: Doubles
    stains: Doubles
    stain_limit: float
    spectrum: Doubles | None = None
    spectrum_low: Doubles | None = None
    spectrum_high: Doubles | None = None
    coarsest: float | None = None
    rule: Doubles | None = None

    @classmethod
    def of(
        cls,
        statistics: ArrayLike,
        spectrum: ArrayLike | None = None,
        rule: ArrayLike | None = None,
        tail: float = RARE,
    ) -> Usual:
        """Learn from tiles: [N ≥ 2, S] statistics and, where known, [N, B] spectra.

        ``rule`` is the reference's ``grain``, [4, B + 1]; ``tail`` is the share of tiles that the
        ranges leave out at either end.
        """
        x = np.asarray(statistics, np.float64)
        low, high = _range(x, tail)
        rarest = _range(x, RARE)[1]
        dense = float(np.quantile(x[:, STATISTICS.index("density_mean")], DENSE))
        stain = x[:, [STATISTICS.index(name) for name in STAIN]]
        mean, scale = stain.mean(axis=0), np.maximum(stain.std(axis=0), 1e-6)
        z = (stain - mean) / scale
        limit = float(_range(_kth(z, z, 2)[:, None], tail)[1][0])  # the nearest one is itself
        looks = (low, high, rarest, dense, mean, scale, z, limit)
        if spectrum is None:
            return cls(*looks)
        bands = np.asarray(spectrum, np.float64)
        told = None if rule is None else np.asarray(rule, np.float64)
        both = np.stack([fineness(bands), grain(bands)], axis=1)
        coarsest = float(_range(both, RARE)[0][0])
        return cls(*looks, bands.mean(axis=0), *_range(both, tail), coarsest, told)

    def range(self, name: str) -> tuple[float, float]:
        """Usual lowest and highest value of one of `STATISTICS`."""
        column = STATISTICS.index(name)
        return float(self.low[column]), float(self.high[column])

    def stain_distance(self, statistics: ArrayLike) -> Doubles:
        """Distance of tiles [N, S] to the nearest tile's stain, in standard deviations; [N].

        Training tiles of two laboratories are two clouds, and what lies between them is foreign to
        both: a Mahalanobis distance does not see that. The nearest of 2,000 training tiles finds
        twice as many changed stains as the 5th nearest, at the same 1 % of unchanged tiles.
        """
        return _kth(self._stain_z(statistics), self.stains, 1)

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


def fence(values: ArrayLike) -> float:
    """Above it a value stands out from [N] others."""
    low, high = (float(q) for q in np.quantile(np.asarray(values, np.float64), [0.25, 0.75]))
    return high + FENCE * (high - low)


def _kth(x: Doubles, bank: Doubles, k: int) -> Doubles:
    """Distance of each row to the k-th nearest row of the bank; [N]."""
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(bank).query(x, [max(k, 1)])[0][:, 0])


def _range(x: Doubles, tail: float) -> tuple[Doubles, Doubles]:
    """Usual range of each column of [N, K]."""
    if len(x) >= LEAST:
        low, high = np.quantile(x, [tail, 1 - tail], axis=0)
        return low, high
    low, high = x.min(axis=0), x.max(axis=0)
    more = (high - low) / 2
    return low - more, high + more
