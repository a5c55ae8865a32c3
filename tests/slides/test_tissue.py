"""The tissue mask on drawn slides, where the truth is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ood.slides.tissue import TissueMask, _median, tissue_mask

GLASS, EOSIN, INK = (242, 240, 243), (232, 190, 214), (30, 30, 30)


def _slide(pixels: np.ndarray, mpp: float | None = 8.0) -> SimpleNamespace:
    noise = np.random.default_rng(0).normal(0, 2, pixels.shape)
    noisy = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return SimpleNamespace(
        overview=lambda: noisy,
        downsamples=((1.0, 1.0),),
        mpp=None if mpp is None else (mpp, mpp),
    )


def _glass(*shape: int) -> np.ndarray:
    return np.broadcast_to(np.array(GLASS, float), (*shape, 3)).copy()


def test_tissue_with_a_lumen_a_hole_and_a_speck() -> None:
    pixels = _glass(400, 400)
    pixels[50:350, 50:350] = EOSIN
    pixels[100:110, 100:110] = GLASS  # a lumen of 80 µm
    pixels[200:300, 200:300] = GLASS  # a hole of 800 µm
    pixels[10:14, 10:14] = EOSIN  # a speck of 32 µm
    mask = tissue_mask(_slide(pixels)).mask
    assert mask[105, 105] and not mask[250, 250] and not mask[12, 12]
    truth = np.zeros((400, 400), bool)
    truth[50:350, 50:350] = True
    truth[200:300, 200:300] = False
    assert (mask != truth).mean() < 0.02


@pytest.mark.parametrize("mpp", [8.0, None])
def test_glass_alone_has_no_tissue_and_tissue_alone_no_glass(mpp: float | None) -> None:
    assert tissue_mask(_slide(_glass(200, 200), mpp)).mask.mean() == 0
    full = np.broadcast_to(np.array(EOSIN, float), (200, 200, 3)).copy()
    full[::9, ::9] = (90, 60, 140)  # nuclei, at which Otsu alone would split
    assert tissue_mask(_slide(full, mpp)).mask.mean() == 1


def test_black_ink_counts_so_that_the_model_sees_it() -> None:
    pixels = _glass(300, 300)
    pixels[100:140, 50:250] = INK
    assert tissue_mask(_slide(pixels)).mask[110:130, 60:240].all()


def test_white_padding_between_scanned_areas_is_not_the_glass() -> None:
    pixels = _glass(300, 300)
    pixels[:, 150:] = 255
    pixels[100:200, 20:120] = EOSIN
    slide = _slide(pixels)
    slide.overview()[:, 150:] = 255
    mask = tissue_mask(slide).mask
    assert mask[150, 60] and not mask[:, 155:].any() and not mask[50, 60]


@given(st.integers(0, 2**32))
def test_fractions_of_boxes_are_exact_areas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((9, 11)) < 0.5
    boxes = rng.integers(-4, 40, (20, 4)) / 4
    boxes[:, 2:] = np.abs(boxes[:, 2:]) + 0.25
    fine = np.zeros((400, 400))  # quarter pixels, so that the boxes' edges are edges of pixels
    fine[80 : 80 + 36, 80 : 80 + 44] = mask.repeat(4, 0).repeat(4, 1)
    for box, fraction in zip(
        boxes * 2, TissueMask(mask, (2.0, 2.0)).fraction(boxes * 2), strict=True
    ):
        y, x, h, w = (box * 2).astype(int)
        window = fine[80 + y : 80 + y + h, 80 + x : 80 + x + w]
        assert fraction == pytest.approx(window.sum() / (h * w), abs=1e-6)


def test_area() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:5] = True
    assert TissueMask(mask, (100.0, 50.0)).area_mm2((0.5, 0.5)) == pytest.approx(50 * 50 * 25 / 1e6)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_the_counted_median_is_the_sorted_one(values: list[int]) -> None:
    assert _median(np.array(values, np.uint8)) == np.median(values)
