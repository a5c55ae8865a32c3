"""Outlines against unions of boxes by shapely, for any set of cells."""

from __future__ import annotations

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from napari_ood.export.geojson_import import tiles_inside
from napari_ood.export.outline import Lattice, outlines
from napari_ood.slides.grid import TileGrid

masks = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def uneven(shape: tuple[int, int]) -> Lattice:
    """Cells of unlike sizes, with decimals."""
    y, x = (np.cumsum(np.r_[3.25, 10 + (np.arange(n) * 7 % 5)]) for n in shape)
    return Lattice(y, x)


def union(mask: NDArray[np.bool_], lattice: Lattice) -> shapely.Geometry:
    y, x = lattice.y, lattice.x
    cells = [shapely.box(x[c], y[r], x[c + 1], y[r + 1]) for r, c in np.argwhere(mask)]
    return shapely.union_all(cells)


@settings(max_examples=150, deadline=None)
@given(masks)
def test_outlines_are_the_union_of_their_cells(mask: NDArray[np.bool_]) -> None:
    lattice = uneven(mask.shape)
    polygons, cells = outlines(mask, lattice)
    assert len(polygons) == ndimage.label(mask)[1] == len(cells)
    assert shapely.is_valid(polygons).all()
    if len(polygons):
        assert mask[tuple(cells.T)].all()
        together = shapely.multipolygons(polygons)
        assert together.is_valid
        assert shapely.equals(together, union(mask, lattice))
    for polygon, (row, col) in zip(polygons, cells, strict=True):
        assert shapely.is_ccw(polygon.exterior)
        assert not any(shapely.is_ccw(hole) for hole in polygon.interiors)
        middle = shapely.Point(
            (lattice.x[col] + lattice.x[col + 1]) / 2, (lattice.y[row] + lattice.y[row + 1]) / 2
        )
        assert polygon.contains(middle)
        assert shapely.get_num_coordinates(polygon) == shapely.get_num_coordinates(
            polygon.simplify(0)
        ), "superfluous points"


@settings(max_examples=60, deadline=None)
@given(masks)
def test_tiles_inside_is_the_inverse(mask: NDArray[np.bool_]) -> None:
    lattice = uneven(mask.shape)
    found = np.zeros_like(mask)
    for polygon in outlines(mask, lattice)[0]:
        cells = tiles_inside(polygon, lattice)
        assert not found[tuple(cells.T)].any()
        found[tuple(cells.T)] = True
    assert np.array_equal(found, mask)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(40, 400), st.integers(40, 400)),
    st.integers(8, 40),
    st.integers(4, 60),
    st.floats(0.3, 4.0),
)
def test_lattice_rises_and_has_each_tile_middle_in_its_cell(
    shape: tuple[int, int], tile: int, stride: int, step: float
) -> None:
    grid = TileGrid.over(shape, tile, (step, step * 1.1), stride=stride)
    lattice = Lattice.of(grid)
    assert lattice.shape == (grid.rows, grid.cols)
    assert (np.diff(lattice.y) > 0).all() and (np.diff(lattice.x) > 0).all()
    inside = grid.boxes()[:, :2] + grid.boxes()[:, 2:] / 2
    reached = inside < np.array(shape)  # the others' middle lies beyond the slide
    rows, cols = grid.index().T
    assert (lattice.y[rows + 1] >= inside[:, 0] - 0.01)[reached[:, 0]].all()
    assert (lattice.y[rows] <= inside[:, 0] + 0.01).all()
    assert (lattice.x[cols + 1] >= inside[:, 1] - 0.01)[reached[:, 1]].all()
    if stride == tile:
        assert lattice.y[-1] <= shape[0] + 0.01 and lattice.x[-1] <= shape[1] + 0.01


def test_a_million_tiles() -> None:
    rng = np.random.default_rng(0)
    mask = ndimage.gaussian_filter(rng.normal(size=(1000, 1000)), 2) > 0.02
    lattice = Lattice(np.arange(1001) * 96.0, np.arange(1001) * 96.0)
    polygons, _ = outlines(mask, lattice)
    area = shapely.area(polygons).sum()
    assert area == mask.sum() * 96.0**2
