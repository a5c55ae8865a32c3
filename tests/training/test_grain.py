"""The rule that tells blur from another scale, fitted to a bundle's own tiles."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_ood.explain.grain import GRAINS, grain_shares
from napari_ood.slides.spectrum import tile_spectrum
from napari_ood.training.grain import fit_grain


def textures(n: int, seed: int, size: float = 2.0) -> np.ndarray:
    """Spots of one size, with some noise."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(n, 64, 64)), (0, size, size), mode="wrap")
    grey = 150 + 40 * noise / noise.std() + rng.normal(0, 5, noise.shape)
    return np.repeat(grey.clip(0, 255)[..., None], 3, axis=3).astype(np.uint8)


def test_blur_and_scale_are_told_apart_on_other_tiles() -> None:
    known = textures(150, seed=0)
    rule = fit_grain(known)
    assert rule.shape == (4, 10) and rule.dtype == np.float32
    mean = tile_spectrum(known).mean(axis=0)

    def share(tiles: np.ndarray, grain: str) -> float:
        found = grain_shares(tile_spectrum(tiles), mean, rule)
        np.testing.assert_allclose(found.sum(axis=1), 1)
        return float((found.argmax(axis=1) == GRAINS.index(grain)).mean())

    other = textures(40, seed=1)
    assert share(other, "usual") > 0.9
    assert share(ndimage.gaussian_filter(other, (0, 2, 2, 0)), "blurred") > 0.9
    assert share(other[:, ::2, ::2], "shrunk") > 0.8  # 32 px: a tile of another size, even
    np.testing.assert_array_equal(rule, fit_grain(known))


def test_where_scale_means_nothing_nothing_is_of_another_scale() -> None:
    known = textures(80, seed=2)
    rule = fit_grain(known, scales=False)
    mean = tile_spectrum(known).mean(axis=0)
    shrunk = grain_shares(tile_spectrum(known[:, ::2, ::2]), mean, rule)
    assert (shrunk[:, 2:] == 0).all()
    blurred = ndimage.gaussian_filter(textures(40, seed=3), (0, 2, 2, 0))
    assert (grain_shares(tile_spectrum(blurred), mean, rule)[:, 1] > 0.5).mean() > 0.9
