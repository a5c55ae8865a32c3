"""The lazy levels: cheap graphs, exact area means, one pass for the overview."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ood.errors import SlideError
from napari_ood.slides import coarse, open_slide
from napari_ood.slides.backends.base import Level
from napari_ood.slides.coarse import CoarseLevels, coarse_factors
from napari_ood.slides.pyramid import chunk_shape, lazy_level


def area_mean(image: np.ndarray, factor: int) -> np.ndarray:
    """Mean over cells of factor x factor px, partial at the far edges, one by one."""
    h, w = (-(-side // factor) for side in image.shape[:2])
    out = np.empty((h, w, 3), np.uint8)
    for i in range(h):
        for j in range(w):
            cell = image[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
            out[i, j] = np.floor(cell.mean(axis=(0, 1)) + 0.5)
    return out


def slide_like(image: np.ndarray, tile: tuple[int, int]) -> tuple[Any, Level]:
    return lambda y, x, h, w: image[y : y + h, x : x + w], Level(image.shape[:2], tile)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    tile=st.tuples(st.integers(1, 80), st.integers(1, 160)),
    kept=st.sampled_from([0, 400, 10**6]),
    block=st.sampled_from([16, 64]),
)
def test_coarse_levels_are_area_means(
    shape: tuple[int, int], tile: tuple[int, int], kept: int, block: int
) -> None:
    """Whether kept from the one pass or computed by window, and whatever the blocks are."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coarse, "MAX_COARSEST_PX", 20)
        patch.setattr(coarse, "KEPT_BYTES", kept)
        patch.setattr(coarse, "BLOCK_PX", block)
        levels = CoarseLevels(*slide_like(image, tile))
        for k, factor in enumerate(levels.factors):
            truth = area_mean(image, factor)
            assert levels.shape(k) == truth.shape[:2]
            np.testing.assert_array_equal(levels.read(k, 0, 0, *truth.shape[:2]), truth)
            y, x = truth.shape[0] // 3, truth.shape[1] // 2
            window = levels.read(k, y, x, truth.shape[0] - y, 1)
            np.testing.assert_array_equal(window, truth[y:, x : x + 1])


def test_factors_reach_2048() -> None:
    assert coarse_factors((2048, 100)) == ()
    assert coarse_factors((100, 2049)) == (2,)
    assert coarse_factors((40_000, 40_000)) == (2, 4, 8, 16, 32)


def test_the_overview_reads_each_block_once_and_only_once() -> None:
    image = np.zeros((5000, 3000, 3), np.uint8)
    blocks: list[tuple[int, int, int, int]] = []

    def read(y: int, x: int, h: int, w: int) -> np.ndarray:
        blocks.append((y, x, h, w))
        return image[y : y + h, x : x + w]

    levels = CoarseLevels(read, Level((5000, 3000), (240, 240)))
    for k in reversed(range(len(levels.factors))):
        levels.read(k, 0, 0, *levels.shape(k))
    assert sum(h * w for _, _, h, w in blocks) == 5000 * 3000
    assert all(y % 240 == 0 and x % 240 == 0 for y, x, _, _ in blocks)  # no tile decoded twice


def test_an_error_in_the_overview_is_told_and_not_kept() -> None:
    calls: list[int] = []

    def read(y: int, x: int, h: int, w: int) -> np.ndarray:
        calls.append(y)
        if len(calls) == 1:
            raise SlideError("tile is damaged")
        return np.full((h, w, 3), 7, np.uint8)

    levels = CoarseLevels(read, Level((3000, 3000), (256, 256)))
    with pytest.raises(SlideError, match="damaged"):
        levels.read(0, 0, 0, 10, 10)
    assert (levels.read(0, 0, 0, 1500, 1500) == 7).all()


@pytest.mark.parametrize(
    ("tile", "shape", "chunk"),
    [
        ((240, 240), (9999, 9999), (960, 960)),
        ((256, 256), (9999, 9999), (1024, 1024)),
        ((512, 512), (9999, 700), (1024, 700)),
        ((4096, 4096), (9999, 9999), (1024, 1024)),
        ((8, 3968), (4864, 3968), (1024, 1024)),
        ((1, 30_000), (20_000, 30_000), (1024, 1024)),
        ((600, 600), (9999, 9999), (1200, 1200)),
    ],
)
def test_chunks_suit_napari_and_the_codec(
    tile: tuple[int, int], shape: tuple[int, int], chunk: tuple[int, int]
) -> None:
    assert chunk_shape(Level(shape, tile)) == chunk


def test_levels_read_only_what_is_sliced() -> None:
    windows: list[tuple[int, ...]] = []

    def read(level: int, y: int, x: int, h: int, w: int) -> np.ndarray:
        windows.append((y, x, h, w))
        return np.full((h, w, 3), level, np.uint8)

    array = lazy_level(read, 3, Level((100_000, 90_000), (256, 256)))
    assert windows == [] and array.dtype == np.uint8 and array.shape == (100_000, 90_000, 3)
    got = np.asarray(array[2048:4000, 1024:2000])
    assert got.shape == (1952, 976, 3) and (got == 3).all()
    assert sum(h * w for _, _, h, w in windows) <= 2048 * 1024
    pixel = array[99_999, 89_999].compute()
    assert pixel.tolist() == [3, 3, 3]


def test_two_openings_do_not_share_cached_chunks(tmp_path: Path) -> None:
    names = set()
    for value in (1, 2):
        image = np.full((50, 50, 3), value, np.uint8)
        tifffile.imwrite(tmp_path / "same.tif", image, photometric="rgb")
        with open_slide(tmp_path / "same.tif") as slide:
            names.add(slide.levels[0].name)
    assert len(names) == 2


def test_a_100k_slide_opens_in_a_second(tmp_path: Path) -> None:
    """153,000 tiles at level 0. Opening means metadata, graph and the coarsest level."""
    path = tmp_path / "big.tif"
    tile = np.zeros((256, 256, 3), np.uint8)
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for side in (100_000, 25_000, 6_250, 1_562):
            n = (-(-side // 256)) ** 2
            tiles = (tile if i == 0 else None for i in range(n))
            tif.write(
                tiles, shape=(side, side, 3), dtype="u1", tile=(256, 256), photometric="rgb",
                compression="zstd", subfiletype=0 if side == 100_000 else 1, resolution=(4e4, 4e4),
                resolutionunit="CENTIMETER",
            )  # fmt: skip
    with open_slide(path):  # imports
        pass
    start = time.process_time()
    with open_slide(path) as slide:
        coarsest = np.asarray(slide.levels[-1])
        view = np.asarray(slide.levels[0][50_000:51_000, 50_000:52_000])
    seconds = time.process_time() - start
    assert coarsest.shape == (1562, 1562, 3) and view.min() == 255
    assert slide.n_native == len(slide.levels) == 4
    # About 0.2 s on an idle machine; a graph or a read of all 150,000 tiles takes minutes.
    assert seconds < 20, seconds
