"""Tile geometry, by properties."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ood.slides.grid import TileGrid

SIZES = st.integers(1, 3000)
STEPS = st.floats(0.3, 9.0)


@st.composite
def grids(draw: st.DrawFn, overlap: bool = False) -> TileGrid:
    shape = draw(SIZES), draw(SIZES)
    y, x = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
    region = (y, x, draw(SIZES), draw(SIZES)) if draw(st.booleans()) else None
    tile = draw(st.integers(8, 300))
    stride = draw(st.integers(8, tile)) if overlap else None
    return TileGrid.over(shape, tile, (draw(STEPS), draw(STEPS)), region, stride)


@given(grids())
def test_boxes_tile_the_region_exactly(grid: TileGrid) -> None:
    y, x, h, w = grid.region
    boxes = grid.boxes().reshape(grid.rows, grid.cols, 4)
    assert np.allclose(boxes[0, 0, :2], (y, x))
    # Neighbours touch: no gap, no overlap; and no row or column that covers nothing.
    np.testing.assert_allclose(np.diff(boxes[:, 0, 0]), grid.tile_size[0], rtol=1e-9)
    np.testing.assert_allclose(np.diff(boxes[0, :, 1]), grid.tile_size[1], rtol=1e-9)
    end, slack = boxes[-1, -1, :2] + boxes[-1, -1, 2:], 1e-6 * np.array(grid.tile_size)
    assert np.all(end >= np.array([y + h, x + w]) - slack)
    assert np.all(boxes[-1, -1, :2] < np.array([y + h, x + w]))


@given(grids(overlap=True))
def test_overlapping_boxes_cover_the_region_without_waste(grid: TileGrid) -> None:
    y, x, h, w = grid.region
    boxes = grid.boxes().reshape(grid.rows, grid.cols, 4)
    end, slack = boxes[-1, -1, :2] + boxes[-1, -1, 2:], 1e-6 * np.array(grid.tile_size)
    assert np.all(end >= np.array([y + h, x + w]) - slack)
    if grid.rows > 1:  # the row before did not reach the end
        assert boxes[-2, 0, 0] + boxes[-2, 0, 2] < y + h + slack[0]
    if grid.cols > 1:
        assert boxes[0, -2, 1] + boxes[0, -2, 3] < x + w + slack[1]


@given(grids(overlap=True), st.randoms(use_true_random=False))
def test_tiles_in_a_region_are_those_whose_boxes_meet_it(grid: TileGrid, random: object) -> None:
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    y, x, h, w = region = tuple(rng.uniform(0, 2000, 4))
    boxes = grid.boxes()
    meets = (boxes[:, 0] < y + h) & (boxes[:, 0] + boxes[:, 2] > y)
    meets &= (boxes[:, 1] < x + w) & (boxes[:, 1] + boxes[:, 3] > x)
    assert np.array_equal(grid.tiles_in(region).ravel(), meets)


@given(grids())
def test_partial_tiles_are_those_that_reach_beyond_the_slide(grid: TileGrid) -> None:
    far = grid.boxes()[:, :2] + grid.boxes()[:, 2:]
    beyond = (far > np.array(grid.shape) + 1e-3).any(axis=1)
    inside = (far < np.array(grid.shape) - 1e-3).all(axis=1)
    partial = grid.partial()
    assert np.all(partial[beyond]) and not np.any(partial[inside])


@given(grids(overlap=True))
def test_survives_json(grid: TileGrid) -> None:
    assert TileGrid.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid


def test_exact_multiples_get_no_extra_tile() -> None:
    grid = TileGrid.over((960, 1920), 96, (0.1 * 3 / 0.3, 2.0))
    assert (grid.rows, grid.cols) == (10, 10) and not grid.partial().any()


def test_a_gap_between_tiles_can_be_asked_for() -> None:
    assert TileGrid.over((1000, 1000), 10, stride=100).rows == 10


def test_regions_are_clipped_to_the_slide_and_refused_outside_it() -> None:
    assert TileGrid.over((100, 200), 10, region=(-50, 150, 100, 100)).region == (0, 150, 50, 50)
    with pytest.raises(ValueError, match="outside the slide"):
        TileGrid.over((100, 200), 10, region=(100, 0, 10, 10))
    for bad in ({"tile": 0}, {"tile": 8, "step": (0.0, 1.0)}, {"tile": 8, "stride": -1}):
        with pytest.raises(ValueError, match="must be"):
            TileGrid.over((100, 200), **bad)  # type: ignore[arg-type]


def test_a_region_may_be_any_four_numbers_and_nothing_else() -> None:
    region = np.array([0, 150, 100, 100])
    assert TileGrid.over((100, 200), 10, region=region).region == (0, 150, 100, 50)  # type: ignore[arg-type]
    for bad in ((), (0, 0, 5), (0, 0, "wide", 10), 7, (float("nan"), 0, 10, 10)):
        with pytest.raises(ValueError, match="region"):
            TileGrid.over((100, 200), 10, region=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("stride", [0, -3, 2.5])
def test_a_stride_that_is_none_is_refused(stride: int) -> None:
    with pytest.raises(ValueError, match="stride"):
        TileGrid.over((100, 200), 10, stride=stride)
