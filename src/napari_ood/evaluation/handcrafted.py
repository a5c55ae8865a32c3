"""The baseline every network score has to beat: plain colour and texture statistics of a tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Tiles = NDArray[np.uint8]


def colour_texture(tiles: Tiles) -> NDArray[np.float32]:
    """Colour and texture statistics of tiles ``[N, t, t, 3]`` uint8: ``[N, 45]`` float32.

    Per channel of RGB and of optical density in stains: mean, spread and percentiles; edges and
    band energies of the brightness at four scales; a histogram of uniform local binary patterns.
    """
    return np.stack([_statistics(tile) for tile in tiles]).astype(np.float32)


def _statistics(tile: NDArray[np.uint8]) -> NDArray[np.float64]:
    from skimage.color import rgb2hed
    from skimage.feature import local_binary_pattern

    rgb = tile.reshape(-1, 3) / 255
    hed = rgb2hed(tile).reshape(-1, 3)
    saturation = rgb.max(axis=1) - rgb.min(axis=1)
    grey = rgb.mean(axis=1).reshape(tile.shape[:2])
    gradient = np.hypot(*np.gradient(grey))
    patterns = local_binary_pattern((grey * 255).astype(np.uint8), 8, 1, "uniform")
    histogram = np.bincount(patterns.astype(int).ravel(), minlength=10)[:9] / patterns.size
    return np.concatenate(
        [
            rgb.mean(axis=0),
            rgb.std(axis=0),
            np.quantile(rgb, [0.05, 0.5, 0.95], axis=0).ravel(),
            hed.mean(axis=0),
            hed.std(axis=0),
            np.quantile(hed, [0.05, 0.95], axis=0).ravel(),
            [saturation.mean(), saturation.std(), gradient.mean(), gradient.std()],
            _band_energies(grey),
            [grey.std()],
            histogram,
        ]
    )


def _band_energies(grey: NDArray[np.float64], n_scales: int = 4) -> list[float]:
    """Spread of what each halving of the resolution takes away."""
    energies = []
    for _ in range(n_scales):
        h, w = (side // 2 * 2 for side in grey.shape)
        blocks = grey[:h, :w].reshape(h // 2, 2, w // 2, 2)
        coarse = blocks.mean(axis=(1, 3))
        energies.append(float((blocks - coarse[:, None, :, None]).std()))
        grey = coarse
    return energies
