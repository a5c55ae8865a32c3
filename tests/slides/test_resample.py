"""The slide at the bundle's mpp: exact areas, and the same pixels however it is read."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ood.slides.grid import TileGrid
from napari_ood.slides.resample import SlideView, snapped_step


class ArraySlide:
    """A slide in memory: level n is level 0 taken every 2ⁿ pixels."""

    def __init__(self, shape: tuple[int, int], seed: int, n_native: int = 1) -> None:
        self.pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
        self.n_native = n_native
        self.downsamples = tuple((2.0**n, 2.0**n) for n in range(n_native))

    def read(self, level: int, y: int, x: int, h: int, w: int) -> np.ndarray:
        source = self.pixels[:: 2**level, :: 2**level]
        out = np.full((h, w, 3), 255, np.uint8)
        y0, x0, y1, x1 = max(y, 0), max(x, 0), min(y + h, len(source)), min(x + w, source.shape[1])
        if y1 > y0 and x1 > x0:
            out[y0 - y : y1 - y, x0 - x : x1 - x] = source[y0:y1, x0:x1]
        return out


STEPS = st.one_of(st.floats(0.4, 7), st.sampled_from([0.5, 1.0, 2.0, 3.0, 4.0, 1.5, 0.97 / 0.499]))


@settings(deadline=None)
@given(st.integers(20, 150), st.integers(20, 150), STEPS, st.integers(1, 3), st.integers(0, 2**32))
def test_tiled_reading_equals_untiled_reading(
    height: int, width: int, step: float, n_native: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    slide = ArraySlide((height, width), seed, n_native)
    origin = tuple(rng.choice([0.0, 3.0, rng.uniform(0, 10)], 2))
    view = SlideView(slide, (step, step), origin)
    tile = int(rng.integers(4, 40))
    grid = TileGrid.over((height, width), tile, (step, step), (*origin, height, width))
    whole = view.read(0, 0, grid.rows * tile, grid.cols * tile)
    for row, col in rng.permutation(grid.index())[:12]:
        y, x = row * tile, col * tile
        assert np.array_equal(view.read(y, x, tile, tile), whole[y : y + tile, x : x + tile])


@settings(deadline=None, max_examples=40)
@given(st.fractions(Fraction(2, 5), 6, max_denominator=12), st.integers(0, 2**32))
def test_a_pixel_is_the_mean_of_its_area(step: Fraction, seed: int) -> None:
    slide = ArraySlide((40, 40), seed)
    view = SlideView(slide, (float(step), float(step)))
    n = int(40 / step)
    # The truth by brute force: repeat pixels so that both grids share their edges.
    fine = slide.pixels.repeat(step.denominator, 0).repeat(step.denominator, 1).astype(float)
    k = step.numerator
    fine = fine[: n * k, : n * k].reshape(n, k, n, k, 3).mean(axis=(1, 3))
    assert np.abs(view.read(0, 0, n, n) - fine).max() <= 0.502


@settings(deadline=None, max_examples=25)
@given(st.floats(0.4, 6), st.floats(0.4, 6), st.integers(0, 2**32))
def test_sums_round_in_a_fixed_order(step_y: float, step_x: float, seed: int) -> None:
    """What tiles contain is stored with every run, so not even the last bit of a sum may change."""
    slide = ArraySlide((60, 60), seed)
    view = SlideView(slide, (step_y, step_x))
    h, w = int(60 / step_y), int(60 / step_x)
    rows = [_weights(step_y, i) for i in range(h)]
    columns = [_weights(step_x, j) for j in range(w)]
    pixels = slide.pixels.astype(np.float32)
    down = np.stack([_sum_in_order(pixels, taps) for taps in rows])
    both = np.stack([_sum_in_order(down.swapaxes(0, 1), taps) for taps in columns], axis=1)
    assert np.array_equal(view.read(0, 0, h, w), (both + np.float32(0.5)).astype(np.uint8))


def _weights(step: float, k: int) -> list[tuple[int, np.float32]]:
    """Source pixels of pixel ``k`` and their shares of it."""
    low, high = (
        edge if abs(edge - round(edge)) >= 1e-6 else float(round(edge))
        for edge in (k * step, (k + 1) * step)
    )
    taps = range(int(low), min(int(np.ceil(high)), 60))
    return [(s, np.float32((min(high, s + 1) - max(low, s)) / (high - low))) for s in taps]


def _sum_in_order(values: np.ndarray, taps: list[tuple[int, np.float32]]) -> np.ndarray:
    total = values[taps[0][0]] * taps[0][1]
    for source, weight in taps[1:]:
        total = total + values[source] * weight
    return total


def test_the_nearest_finer_level_is_read() -> None:
    slide = ArraySlide((256, 256), 0, n_native=4)
    levels = {s: SlideView(slide, (s, s)).level for s in (0.5, 1.0, 1.9, 2.0, 3.9, 4.0, 100.0)}
    assert list(levels.values()) == [0, 0, 0, 1, 1, 2, 3]


def test_outside_the_slide_is_white_and_edges_blend_by_area() -> None:
    slide = ArraySlide((10, 10), 0)
    slide.pixels[:] = 55
    row = SlideView(slide, (4.0, 4.0)).read(0, 0, 3, 4)[:, :, 0]
    assert row[0].tolist() == [55, 55, 155, 255]


@pytest.mark.parametrize(
    ("step", "expected"),
    [(1.002, 1.0), (0.985, 1.0), (1.05, 1.05), (4.05, 4.0003), (1.944, 1.944)],
)
def test_a_level_close_to_the_wanted_step_is_taken_as_it_is(step: float, expected: float) -> None:
    levels = ((1.0, 1.0), (4.0003, 4.0003))
    assert snapped_step(levels, (step, step)) == (expected, expected)
