"""Tiles read in blocks: what each contains is its own, and little else is read."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ood import Slide
from napari_ood.inference.blocks import TileReader, compact_parts
from napari_ood.inference.order import WorkQueue
from napari_ood.inference.plan import Plan
from napari_ood.inference.store import shards
from napari_ood.slides.backends.tiff_page import TiffPageReader
from napari_ood.slides.grid import TileGrid
from napari_ood.slides.tiles import read_tiles


class CountingSlide:
    """A slide of noise in memory that counts the pixels it is asked for."""

    n_native = 1
    downsamples = ((1.0, 1.0),)

    def __init__(self, shape: tuple[int, int], seed: int) -> None:
        self.pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
        self.n_read = 0

    def read(self, _level: int, y: int, x: int, h: int, w: int) -> np.ndarray:
        self.n_read += h * w
        out = np.full((h, w, 3), 255, np.uint8)
        inside = self.pixels[max(y, 0) : y + h, max(x, 0) : x + w]
        out[max(-y, 0) :, max(-x, 0) :][: inside.shape[0], : inside.shape[1]] = inside
        return out


@settings(deadline=None, max_examples=40)
@given(
    tissue=st.tuples(st.integers(1, 12), st.integers(1, 12), st.floats(0.1, 1)),
    step=st.sampled_from([1.0, 1.947, 0.8]),
    stride=st.sampled_from([4, 8, 11]),
    seed=st.integers(0, 99),
)
def test_tiles_of_a_piece_are_those_read_alone(
    tissue: tuple[int, int, float], step: float, stride: int, seed: int
) -> None:
    rows, cols, share = tissue
    shape = int((stride * (rows - 1) + 8) * step), int((stride * (cols - 1) + 8) * step)
    slide: Any = CountingSlide(shape, seed)
    grid = TileGrid.over(shape, 8, (step, step), stride=stride)
    wanted = np.random.default_rng(seed).random((grid.rows, grid.cols)) < share
    wanted[0, 0] = True
    plan = Plan(grid, wanted, (grid.rows, grid.cols))
    piece = WorkQueue(plan, list(shards(wanted.shape, plan.shard)), 5).take()
    assert piece is not None
    block = TileReader(slide, plan).read(piece)
    assert np.array_equal(block.tiles, read_tiles(slide, grid, np.concatenate(piece.batches)))


@given(st.integers(1, 15), st.integers(1, 15), st.floats(0.02, 1), st.integers(0, 999))
def test_parts_are_all_tiles_once_in_rectangles_that_hold_fewer_others(
    rows: int, cols: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    index = np.argwhere(rng.random((rows, cols)) <= share)
    if len(index) == 0:
        return
    index = rng.permutation(index)
    parts = compact_parts(index)
    assert sorted(np.concatenate(parts)) == list(range(len(index)))
    areas = [np.prod(np.ptp(index[part], axis=0) + 1) for part in parts]
    assert sum(areas) <= np.prod(np.ptp(index, axis=0) + 1) - (len(parts) - 1)


def test_a_corner_of_glass_is_not_read() -> None:
    """An L of tissue, two tiles wide: its rectangle is mostly glass."""
    wanted = np.zeros((10, 10), bool)
    wanted[:, :2] = wanted[-2:] = True
    slide: Any = CountingSlide((80, 80), 0)
    plan = Plan(TileGrid.over((80, 80), 8), wanted, (10, 10))
    piece = WorkQueue(plan, list(shards(wanted.shape, plan.shard)), 16).take()
    assert piece is not None
    TileReader(slide, plan).read(piece)
    assert slide.n_read == wanted.sum() * 64
    assert len(compact_parts(np.argwhere(np.ones((9, 9))))) == 1


def test_no_codec_tile_is_decoded_twice(slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for the parts of a piece nor for its neighbours, whose edges cross codec tiles."""
    decoded: Counter[int] = Counter()
    decode = TiffPageReader._samples

    def counting(page: TiffPageReader, index: int) -> Any:
        decoded[index] += 1
        return decode(page, index)

    monkeypatch.setattr(TiffPageReader, "_samples", counting)
    grid = TileGrid.over(slide.shape, 20, (1.9, 1.9))
    middle = grid.boxes()[:, :2] + 19
    ring = np.abs(np.hypot(*(middle - (380, 500)).T) - 330) < 60
    plan = Plan(grid, ring.reshape(grid.rows, grid.cols), (7, 9))
    queue, reader = (
        WorkQueue(plan, list(shards(plan.tissue.shape, (7, 9))), 8),
        TileReader(slide, plan),
    )
    pieces = list(iter(queue.take, None))
    n_parts = [len(compact_parts(np.concatenate(p.batches))) for p in pieces if p.batches]
    assert max(n_parts) > 1
    for piece in pieces:
        if piece.batches:
            reader.read(piece)
    assert set(decoded.values()) == {1} and len(decoded) > 20
