from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ood.errors import ExplainError, NothingToExplain, SlideError
from napari_ood.explain.mosaic import CELL_PX, PATCH_TILES, Mosaic, sample_tiles
from napari_ood.explain.target import Target
from napari_ood.explain.tile_mapper import INSIDE, SaliencyMapper
from napari_ood.models import Bundle
from napari_ood.slides import Slide, open_slide

SIDE = 512
TISSUE = (64, 64, 384, 384)
"""y, x, h, w of the slide's tissue, the rest is glass."""


class Mapper:
    """Counts what it is asked for."""

    name = title = "test"
    unit, signed, limit = "", False, 1.0

    def __init__(self, of_tile: str = "pixels") -> None:
        self.n_tiles, self.of_tile = 0, of_tile

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        self.n_tiles += len(tiles)
        grey = tiles.astype(np.float32).mean(axis=3)
        if self.of_tile == "pixels":
            return grey
        rng = np.random.default_rng(int(tiles.astype(np.int64).sum()))
        return np.broadcast_to(rng.normal(size=(len(tiles), 1, 1)), grey.shape).astype(np.float32)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    y, x, h, w = TISSUE
    rng = np.random.default_rng(0)
    pixels = np.full((SIDE, SIDE, 3), 245, np.uint8)
    pixels[y : y + h, x : x + w] = rng.integers(60, 180, (h, w, 3))
    path = tmp_path_factory.mktemp("mosaic") / "slide.tif"
    tifffile.imwrite(
        path, pixels, tile=(128, 128), resolution=(1e4, 1e4), resolutionunit="CENTIMETER"
    )
    with open_slide(path) as opened:
        yield opened


def cells(pixels: np.ndarray) -> np.ndarray:
    """Means of grey values over cells."""
    grey = pixels.astype(np.float32).mean(axis=2)
    n = len(grey) // CELL_PX
    return grey.reshape(n, CELL_PX, n, CELL_PX).mean(axis=(1, 3))


def test_what_depends_on_pixels_alone_is_seen_as_without_tiles(slide: Slide, tiny_bundle: Bundle):
    mosaic = Mosaic(slide, tiny_bundle, Mapper())
    assert mosaic.origin == (0, 0)
    assert mosaic.cell == (CELL_PX, CELL_PX)
    mosaic.fill()
    assert mosaic.complete
    assert mosaic.n_done == mosaic.n_tiles > 100
    got, expected = mosaic.levels[0], cells(slide.read(0, 0, 0, SIDE, SIDE))
    inside = slice(64 // CELL_PX, 448 // CELL_PX)
    np.testing.assert_allclose(got[inside, inside], expected[inside, inside], rtol=1e-5)
    assert np.isnan(got[0, 0])  # glass


def test_borders_of_tiles_do_not_show(slide: Slide, tiny_bundle: Bundle):
    """Every tile has a level of its own: the worst case. No step at a border is larger."""
    mosaic = Mosaic(slide, tiny_bundle, Mapper("noise"))
    mosaic.fill()
    inside = slice(96 // CELL_PX, 416 // CELL_PX)
    values = mosaic.levels[0][inside, inside]
    steps = np.abs(np.diff(values, axis=1))
    pace = 16 // CELL_PX
    at_borders = steps[:, pace - 1 :: pace]
    assert values.std() > 0.2
    # Tiles that met without blending would differ by 1.1 on average (two normal values).
    assert at_borders.mean() < 0.25
    assert at_borders.mean() < 1.1 * steps.mean()


@settings(max_examples=8, deadline=None)
@given(
    st.tuples(st.integers(0, 400), st.integers(0, 400), st.integers(8, 400), st.integers(8, 400)),
    st.tuples(st.integers(0, 400), st.integers(0, 400)),
)
def test_a_region_shows_what_the_whole_shows_whatever_came_first(
    slide: Slide, tiny_bundle: Bundle, region: tuple[int, int, int, int], at: tuple[int, int]
):
    mosaic = Mosaic(slide, tiny_bundle, Mapper(), region)
    mosaic.fill(view=lambda: (*at, 64, 64))
    level = mosaic.levels[0]
    rows, cols = np.nonzero(np.isfinite(level))
    expected = slide.read(0, 0, 0, SIDE, SIDE).astype(np.float32).mean(axis=2)
    y, x, h, w = region
    for row, col in list(zip(rows, cols, strict=True))[:: max(len(rows) // 40, 1)]:
        top, left = (round(mosaic.origin[a] + i * CELL_PX) for a, i in ((0, row), (1, col)))
        assert y - CELL_PX < top < y + h
        assert x - CELL_PX < left < x + w
        part = expected[top : top + CELL_PX, left : left + CELL_PX]
        if part.shape == (CELL_PX, CELL_PX):
            assert level[row, col] == pytest.approx(part.mean(), rel=1e-5)


def test_what_is_on_screen_comes_first_and_nothing_twice(slide: Slide, tiny_bundle: Bundle):
    mapper = Mapper()
    mosaic = Mosaic(slide, tiny_bundle, mapper)
    stop = iter([False, True])
    mosaic.fill(view=lambda: (380, 380, 32, 32), cancel=lambda: next(stop))
    assert not mosaic.complete
    first = np.isfinite(mosaic.levels[0])
    assert first[396 // CELL_PX, 396 // CELL_PX]
    assert not first[80 // CELL_PX, 80 // CELL_PX]
    seen: list[int] = []
    mosaic.fill(on_change=lambda: seen.append(mosaic.n_done))
    assert mosaic.complete
    assert mapper.n_tiles == mosaic.n_tiles == seen[-1]
    assert seen == sorted(seen)


def test_coarser_levels_are_means_of_finer_ones(
    slide: Slide, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("napari_ood.explain.mosaic.COARSEST_PX", 20)
    mosaic = Mosaic(slide, tiny_bundle, Mapper(), (3, 5, 491, 457))
    mosaic.fill(view=lambda: (300, 100, 50, 50))
    assert len(mosaic.levels) > 3
    for fine, coarse in zip(mosaic.levels, mosaic.levels[1:], strict=False):
        assert coarse.shape == tuple((n + 1) // 2 for n in fine.shape)
        row, col = 3, 2
        part = fine[2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
        if np.isfinite(part).any():
            assert coarse[row, col] == pytest.approx(np.nanmean(part), rel=1e-5)
        known = np.pad(np.isfinite(fine), [(0, n % 2) for n in fine.shape])
        h, w = coarse.shape
        np.testing.assert_array_equal(
            np.isfinite(coarse), known.reshape(h, 2, w, 2).any(axis=(1, 3))
        )


def test_values_that_are_not_finite_spoil_only_their_own_place(slide: Slide, tiny_bundle: Bundle):
    class Broken(Mapper):
        def __call__(self, tiles: np.ndarray) -> np.ndarray:
            maps = super().__call__(tiles)
            maps[0] = np.nan
            return maps

    mosaic = Mosaic(slide, tiny_bundle, Broken())
    mosaic.fill()
    known = np.isfinite(mosaic.levels[0][20:108, 20:108])
    assert known.mean() > 0.9


def test_a_patch_without_a_number_stays_clear_and_the_rest_is_mapped(
    slide: Slide, tiny_bundle: Bundle
):
    class Explainer:
        n = 0

        def explain(self, tiles: np.ndarray, *_: object) -> SimpleNamespace:
            self.n += 1
            if self.n % 2:
                raise NothingToExplain("nothing here")
            return SimpleNamespace(values=np.ones(tiles.shape[:3], np.float32))

    explainer: Any = Explainer()
    mosaic = Mosaic(
        slide, tiny_bundle, SaliencyMapper(explainer, "grad_cam", Target.of_class(0), 1.0)
    )
    mosaic.fill()
    known = np.isfinite(mosaic.levels[0][20:108, 20:108])
    assert mosaic.complete and explainer.n > 2
    assert known.any() and not known.all()


def test_glass_stays_clear_though_tiles_on_the_edge_of_tissue_see_it(
    slide: Slide, tiny_bundle: Bundle
):
    mosaic = Mosaic(slide, tiny_bundle, Mapper())
    mosaic.fill()
    known = np.isfinite(mosaic.levels[0])
    y, x, h, w = (v // CELL_PX for v in TISSUE)
    around = np.ones_like(known)
    around[y - 1 : y + h + 1, x - 1 : x + w + 1] = False  # the mask is smoothed
    assert not (known & around).any()
    assert known[y + 1 : y + h - 1, x + 1 : x + w - 1].all()


def test_patches_are_as_large_as_the_mapper_is_fast(
    slide: Slide, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    """A clock that only the mapper moves: a stop never waits for much longer than PATCH_S."""
    now = [0.0]
    monkeypatch.setattr("napari_ood.explain.mosaic.time.perf_counter", lambda: now[0])
    sizes: list[int] = []

    class Slow(Mapper):
        per_tile = 0.0

        def __call__(self, tiles: np.ndarray) -> np.ndarray:
            now[0] += self.per_tile * len(tiles)
            sizes.append(len(tiles))
            return super().__call__(tiles)

    for per_tile, largest in ((1.0, PATCH_TILES[0]), (1 / 20, 4), (1e-4, PATCH_TILES[1])):
        sizes.clear()
        mapper = Slow()
        mapper.per_tile = per_tile
        mosaic = Mosaic(slide, tiny_bundle, mapper, (0, 0, 400, 400))
        mosaic.fill()
        assert mosaic.complete
        assert sizes[0] <= PATCH_TILES[0] ** 2
        assert max(sizes) == largest**2


def test_the_scale_is_taken_from_tissue_all_over_the_slide(slide: Slide, tiny_bundle: Bundle):
    tiles = sample_tiles(slide, tiny_bundle, 9)
    assert tiles.shape == (9, 32, 32, 3)
    pixels = slide.read(0, 0, 0, SIDE, SIDE)
    found = [
        (y, x)
        for y in range(0, SIDE, 32)
        for x in range(0, SIDE, 32)
        if any(np.array_equal(pixels[y : y + 32, x : x + 32], tile) for tile in tiles)
    ]
    assert len(found) == 9
    rows = [y for y, _ in found]
    assert min(rows) < 128 and max(rows) >= 384
    assert len(sample_tiles(slide, tiny_bundle, 10_000)) == (384 // 32) ** 2


def test_signed_maps_end_inside_of_the_display() -> None:
    class Signed:
        def explain(self, tiles: Any, method: str, target: Any) -> Any:
            return SimpleNamespace(values=np.linspace(-9, 9, 16).reshape(1, 4, 4))

    target: Any = SimpleNamespace(unit="logits")
    for method, low in (("occlusion", -2 * INSIDE), ("grad_cam", -9)):
        explainer: Any = Signed()
        values = SaliencyMapper(explainer, method, target, 2.0)(np.zeros((1, 4, 4, 3), np.uint8))
        assert values.min() == pytest.approx(low)


def test_no_mosaic_where_there_is_none_to_make(
    slide: Slide, tiny_bundle: Bundle, image_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(ExplainError, match="as a whole"):
        Mosaic(slide, image_bundle, Mapper())
    with pytest.raises(SlideError, match="outside"):
        Mosaic(slide, tiny_bundle, Mapper(), (9999, 9999, 10, 10))
    monkeypatch.setattr("napari_ood.explain.mosaic.MOST_CELLS", 100)
    with pytest.raises(ExplainError, match="smaller"):
        Mosaic(slide, tiny_bundle, Mapper())
    assert Path(slide.path).exists()
