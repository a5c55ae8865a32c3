"""Cells of the maps lie on their tiles, in napari's own coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image

from napari_ood.slides import TileGrid
from napari_ood.viewer.geometry import (
    cell_at,
    clip_region,
    map_placement,
    region_of_points,
    region_of_view,
    slide_placement,
)

positive = st.floats(0.1, 5.0)
grids = st.builds(
    lambda h, w, y, x, tile, stride, step: TileGrid.over(
        (h, w), tile, step, (y * h / 3, x * w / 3, h / 2, w / 2), stride
    ),
    st.integers(50, 4000), st.integers(50, 4000), st.integers(0, 2), st.integers(0, 2),
    st.integers(8, 300), st.integers(4, 400), st.tuples(positive, positive),
)  # fmt: skip
mpps = st.none() | st.tuples(positive, positive)


def world_of_edge(edge: np.ndarray, mpp: tuple[float, float] | None) -> np.ndarray:
    """napari puts the centre of pixel 0 at 0, so its edge is half a pixel before."""
    return (edge - 0.5) * slide_placement(mpp).scale


@settings(max_examples=60, deadline=None)
@given(grids, mpps, st.data())
def test_a_cell_lies_on_the_centre_of_its_tile(grid, mpp, data):
    row, col = (data.draw(st.integers(0, n - 1)) for n in (grid.rows, grid.cols))
    place = map_placement(grid, mpp)
    layer = Image(
        np.zeros((grid.rows, grid.cols)),
        scale=place.scale, translate=place.translate, units=place.units,
    )  # fmt: skip
    box = grid.boxes([[row, col]])[0]
    centre = world_of_edge(box[:2] + box[2:] / 2, mpp)
    np.testing.assert_allclose(layer.world_to_data(centre), (row, col), atol=1e-6)
    assert cell_at(centre, place, (grid.rows, grid.cols)) == (row, col)


@settings(max_examples=60, deadline=None)
@given(grids, mpps)
def test_without_overlap_the_edges_of_cells_are_the_edges_of_tiles(grid, mpp):
    grid = TileGrid(grid.shape, grid.region, grid.tile, grid.tile, grid.step)
    place = map_placement(grid, mpp)
    low = np.array(place.translate) - np.array(place.scale) / 2
    boxes = grid.boxes()
    np.testing.assert_allclose(low, world_of_edge(boxes[0, :2], mpp), rtol=1e-9, atol=1e-6)
    high = low + np.array(place.scale) * (grid.rows, grid.cols)
    expected = world_of_edge(boxes[-1, :2] + boxes[-1, 2:], mpp)
    np.testing.assert_allclose(high, expected, rtol=1e-9, atol=1e-6)


def test_outside_the_map_there_is_no_cell():
    grid = TileGrid.over((100, 100), 50)
    place = map_placement(grid, None)
    assert cell_at((-0.6, 10), place, (2, 2)) is None
    assert cell_at((10, 99.6), place, (2, 2)) is None
    assert cell_at((-0.4, 99.4), place, (2, 2)) == (0, 1)


@pytest.mark.parametrize("mpp", [None, (0.25, 0.25), (0.5, 0.25)])
def test_region_of_the_view_is_what_napari_maps_the_canvas_to(mpp):
    scale = slide_placement(mpp).scale
    layer = Image(np.zeros((1000, 2000)), scale=scale)
    centre, canvas, zoom = (0.0, 200.0, 300.0), (400, 600), 2.0
    y, x, h, w = region_of_view(centre, canvas, zoom, mpp)
    low = layer.world_to_data((200 - 100, 300 - 150))
    high = layer.world_to_data((200 + 100, 300 + 150))
    np.testing.assert_allclose((y - 0.5, x - 0.5), low)
    np.testing.assert_allclose((y + h - 0.5, x + w - 0.5), high)


def test_region_of_a_rectangle_drawn_on_pixel_edges():
    corners = world_of_edge(np.array([[10, 20], [10, 60], [40, 60], [40, 20]]), (0.5, 0.5))
    assert region_of_points(corners, (0.5, 0.5)) == pytest.approx((10, 20, 30, 40))


def test_regions_are_clipped_to_whole_pixels_of_the_slide():
    assert clip_region((-5.5, 10.2, 20, 5), (100, 50)) == (0, 10, 15, 6)
    assert clip_region((200, 0, 10, 10), (100, 50)) is None
    assert clip_region((0, 45, 10, 10), (100, 50)) == (0, 45, 10, 5)
