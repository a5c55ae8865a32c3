from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import hed2rgb, rgb2hed

from napari_ood.slides.appearance import STATISTICS, tile_statistics


def column(tiles: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
    return tile_statistics(tiles)[:, STATISTICS.index(name)]


def stained(seed: int = 0, n: int = 3, side: int = 64, pitch: float = 1.5) -> NDArray[np.uint8]:
    """Blobs of haematoxylin in a field of eosin."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(n, side, side)), (0, pitch, pitch))
    blobs = np.clip(noise / noise.std(), 0, 1.5)
    hed = np.stack([0.05 + 0.1 * blobs, 0.08 - 0.03 * blobs, np.zeros_like(blobs)], axis=-1)
    return np.round(hed2rgb(hed) * 255).astype(np.uint8)


def test_stains_are_those_of_scikit_image() -> None:
    tiles = stained()
    values = tile_statistics(tiles)
    # scikit-image divides by −ln(1e-6) and takes v / 255; this takes (v + 1) / 256 and log10.
    hed = rgb2hed((tiles.astype(float) + 1) / 256) * -np.log10(1e-6)
    hed = hed.reshape(len(tiles), -1, 3)
    assert values[:, STATISTICS.index("glass")].max() == 0
    np.testing.assert_allclose(values[:, 0], hed[..., 0].mean(axis=1), rtol=1e-3)
    np.testing.assert_allclose(values[:, 1], hed[..., 0].std(axis=1), rtol=1e-3)
    np.testing.assert_allclose(values[:, 2], hed[..., 1].mean(axis=1), rtol=1e-3)
    np.testing.assert_allclose(values[:, 3], hed[..., 1].std(axis=1), rtol=1e-3)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(8, 70), st.integers(0, 255))
def test_finite_and_alone_as_in_company(seed: int, n: int, side: int, low: int) -> None:
    rng = np.random.default_rng(seed)
    tiles = rng.integers(low, 256, (n, side, side, 3)).astype(np.uint8)
    together = tile_statistics(tiles)
    assert together.shape == (n, len(STATISTICS)) and together.dtype == np.float32
    assert np.isfinite(together).all()
    for i in range(n):
        alone = tile_statistics(tiles[i : i + 1])
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-4, atol=1e-4)


def test_glass_beside_tissue_leaves_the_stain_as_it_is() -> None:
    tiles = stained(side=64)
    beside = np.full((3, 64, 128, 3), 245, np.uint8)
    beside[:, :, :64] = tiles
    for name in ("haematoxylin_mean", "eosin_sd", "density_mean", "chroma_x", "chroma_y"):
        np.testing.assert_allclose(column(beside, name), column(tiles, name), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(column(beside, "glass"), 0.5)


def test_blur_lowers_sharpness_and_detail() -> None:
    tiles = stained()
    blurred = ndimage.gaussian_filter(tiles, (0, 2, 2, 0))
    assert (column(blurred, "sharpness") < column(tiles, "sharpness") - 0.5).all()
    assert (column(blurred, "detail") < column(tiles, "detail") - 0.3).all()


def test_chroma_is_the_same_for_a_paler_stain() -> None:
    strong = np.full((1, 16, 16, 3), (150, 90, 160), np.uint8)
    pale = np.round(255 * np.sqrt(strong / 255)).astype(np.uint8)  # half of the density
    assert column(pale, "density_mean") == pytest.approx(column(strong, "density_mean") / 2, 0.05)
    for name in ("chroma_x", "chroma_y"):
        assert column(pale, name) == pytest.approx(column(strong, name), abs=0.02)


@pytest.mark.parametrize(
    ("colour", "ink"),
    [
        ((40, 120, 90), True),  # green marker
        ((40, 80, 170), True),  # blue marker
        ((25, 25, 30), True),  # black marker
        ((220, 40, 60), True),  # red marker
        ((90, 60, 130), False),  # nuclei
        ((225, 150, 190), False),  # stroma
        ((200, 110, 110), False),  # erythrocytes
        ((150, 100, 60), False),  # DAB
        ((245, 245, 245), False),  # glass
    ],
)
def test_ink_is_told_from_stains(colour: tuple[int, int, int], ink: bool) -> None:
    tiles = np.full((1, 32, 32, 3), colour, np.uint8)
    assert column(tiles, "ink")[0] == float(ink)


def test_fold_of_doubled_tissue() -> None:
    tiles = stained()
    folded = tiles.copy()
    doubled = np.round(255 * (tiles[:, :, :24] / 255.0) ** 2.5)
    folded[:, :, :24] = doubled.astype(np.uint8)
    assert (column(folded, "fold") > column(tiles, "fold") + 0.15).all()
