"""Power of tiles by spatial frequency."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ood.slides.spectrum import BAND_EDGES, N_BANDS, tile_spectrum


@settings(deadline=None)
@given(st.floats(0.03, 0.45), st.floats(0, 2 * np.pi))
def test_a_wave_lies_in_its_own_band_whatever_its_direction(frequency: float, angle: float) -> None:
    y, x = np.mgrid[:96, :96]
    phase = 2 * np.pi * frequency * (y * np.sin(angle) + x * np.cos(angle))
    tile = np.round(128 + 20 * np.sin(phase))[..., None].repeat(3, axis=2).astype(np.uint8)
    bands = tile_spectrum(tile[None])[0]
    assert bands.shape == (N_BANDS,) and np.isfinite(bands).all()
    edges = np.array(BAND_EDGES)
    near = np.flatnonzero((edges[:-1] < frequency + 0.02) & (edges[1:] > frequency - 0.02))
    assert bands.argmax() in near


def test_a_stronger_stain_moves_all_bands_alike_and_each_tile_stands_alone() -> None:
    rng = np.random.default_rng(0)
    density = rng.uniform(0.1, 0.4, (3, 64, 64, 1)).repeat(3, axis=3)
    pale, dark = (np.round(256 * 10 ** (-k * density) - 1).astype(np.uint8) for k in (1, 2))
    difference = tile_spectrum(dark) - tile_spectrum(pale)
    np.testing.assert_allclose(difference[:, 2:], np.log10(4), atol=0.03)
    np.testing.assert_allclose(tile_spectrum(pale)[1:2], tile_spectrum(pale[1:2]), rtol=1e-5)


def test_flat_tiles_have_a_spectrum_too() -> None:
    assert np.isfinite(tile_spectrum(np.zeros((2, 32, 48, 3), np.uint8))).all()
