"""The order of work: everything once, what is on screen first, spread, and bits that don't move."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ood.inference.blocks import Block, ReadyBlocks
from napari_ood.inference.order import Piece, WorkQueue, cut_batches, in_view, regions_of, spread
from napari_ood.inference.plan import Plan
from napari_ood.inference.store import Shard, shards
from napari_ood.slides.grid import Region, TileGrid

TILE = 10.0


@st.composite
def plans(draw: Any) -> Plan:
    rows, cols = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    shard = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    seed, share = draw(st.integers(0, 99)), draw(st.floats(0, 1))
    tissue = np.random.default_rng(seed).random((rows, cols)) < share
    stride = draw(st.sampled_from([5, 10, 15]))
    region = (3.0, 7.0, float(stride * rows), float(stride * cols))
    grid = TileGrid((10_000, 10_000), region, int(TILE), stride, (1.0, 1.0))
    tissue = np.resize(tissue, (grid.rows, grid.cols))
    return Plan(grid, tissue, shard)


regions = st.tuples(st.floats(-50, 300), st.floats(-50, 300), st.floats(1, 150), st.floats(1, 150))


def todo_of(plan: Plan) -> list[Shard]:
    return [s for s in shards(plan.tissue.shape, plan.shard) if plan.tissue[s.slices].any()]


def cells(pieces: list[Piece]) -> list[tuple[int, int]]:
    return [tuple(c) for p in pieces for b in p.batches for c in b.tolist()]  # type: ignore[misc]


@settings(max_examples=80, deadline=None)
@given(plan=plans(), size=st.integers(1, 20), moves=st.lists(st.none() | regions, max_size=8))
def test_every_tile_once_whatever_the_camera_does(
    plan: Plan, size: int, moves: list[Region | None]
) -> None:
    path = iter(moves)
    queue = WorkQueue(plan, todo_of(plan), size, view=lambda: next(path, None))
    pieces = list(iter(queue.take, None))
    assert sorted(cells(pieces)) == [tuple(c) for c in np.argwhere(plan.tissue).tolist()]
    # Batches are those of the plan, in whatever order: this is what keeps bits where they are.
    expected = {
        tuple(map(tuple, b.tolist()))
        for s in todo_of(plan)
        for b in cut_batches(plan.tissue, s, size)
    }
    assert {tuple(map(tuple, b.tolist())) for p in pieces for b in p.batches} == expected
    for piece in pieces:
        of_shard = plan.tissue[piece.shard.slices].sum()
        assert piece.whole == (sum(map(len, piece.batches)) == of_shard)


@settings(max_examples=80, deadline=None)
@given(plan=plans(), size=st.integers(1, 20), several=st.lists(regions, min_size=1, max_size=3))
def test_what_is_on_screen_comes_first(plan: Plan, size: int, several: list[Region]) -> None:
    queue = WorkQueue(plan, todo_of(plan), size, view=lambda: several)
    pieces = list(iter(queue.take, None))
    seen = [all(in_view(plan.grid, b, several) for b in p.batches) for p in pieces]
    assert seen == sorted(seen, reverse=True)
    visible = plan.tissue & np.any([plan.grid.tiles_in(r) for r in several], axis=0)
    first = set(cells([p for p, s in zip(pieces, seen, strict=True) if s]))
    assert {tuple(c) for c in np.argwhere(visible).tolist()} <= first


@settings(max_examples=40, deadline=None)
@given(plan=plans(), region=regions)
def test_a_view_that_has_left_the_slide_spreads(plan: Plan, region: Region) -> None:
    away = (9_000.0, 9_000.0, 10.0, 10.0)
    queue = WorkQueue(plan, todo_of(plan), 32, view=lambda: away)
    order = [(p.shard.top // plan.shard[0], p.shard.left // plan.shard[1]) for p in
             iter(queue.take, None)]  # fmt: skip
    fourth = [row % 2 == 0 and col % 2 == 0 for row, col in order]
    assert fourth == sorted(fourth, reverse=True)
    assert order == spread(sorted(order))


@settings(max_examples=40, deadline=None)
@given(plan=plans(), size=st.integers(1, 20), seed=st.integers(0, 99))
def test_done_batches_are_left_out_and_their_shards_not_called_whole(
    plan: Plan, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    done = np.zeros_like(plan.tissue)
    for shard in todo_of(plan):
        for batch in cut_batches(plan.tissue, shard, size):
            done[tuple(batch.T)] = rng.random() < 0.5
    todo = [s for s in todo_of(plan) if (plan.tissue & ~done)[s.slices].any()]
    pieces = list(iter(WorkQueue(plan, todo, size, done=done).take, None))
    missing = np.argwhere(plan.tissue & ~done)
    assert sorted(cells(pieces)) == [tuple(c) for c in missing.tolist()]
    assert all(p.whole == (not done[p.shard.slices].any()) for p in pieces)


def test_batches_are_compact() -> None:
    tissue = np.ones((16, 16), bool)
    for batch in cut_batches(tissue, Shard(0, 0, 16, 16), 16):
        assert np.ptp(batch, axis=0).tolist() == [3, 3]


def test_without_a_view_shards_come_in_reading_order() -> None:
    tissue = np.ones((40, 40), bool)
    plan = Plan(TileGrid((400, 400), (0, 0, 400, 400), 10, 10, (1.0, 1.0)), tissue, (8, 8))
    order = [p.shard for p in iter(WorkQueue(plan, todo_of(plan), 32).take, None)]
    assert order == todo_of(plan)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, ()),
        ((), ()),
        ((1.0, 2.0, 3.0, 4.0), ((1.0, 2.0, 3.0, 4.0),)),
        ([(1, 2, 3, 4), (5, 6, 7, 8)], ((1, 2, 3, 4), (5, 6, 7, 8))),
    ],
)
def test_views_may_be_one_or_several(seen: Any, expected: Any) -> None:
    assert regions_of(seen) == expected


class Screen:
    """A camera, and a run that follows it: 16 shards of 8 × 8 tiles, batches of 4 × 4."""

    def __init__(self) -> None:
        self.region: Region | None = None
        tissue = np.ones((32, 32), bool)
        grid = TileGrid((320, 320), (0, 0, 320, 320), 10, 10, (1.0, 1.0))
        self.plan = Plan(grid, tissue, (8, 8))
        queue = WorkQueue(self.plan, todo_of(self.plan), 16, view=lambda: self.region)
        self.ready = ReadyBlocks(queue, 1, 0.01, threading.Event())

    def read(self) -> Piece:
        piece = self.ready.next_piece()
        assert piece is not None
        n = sum(map(len, piece.batches))
        self.ready.put(Block(piece, np.zeros((n, 1, 1, 3), np.uint8)))
        return piece

    def compute(self) -> tuple[Piece, np.ndarray, bool]:
        found = self.ready.next_batch()
        assert found is not None
        block, k, is_last = found
        return block.piece, block.piece.batches[k], is_last


def test_the_camera_overtakes_what_is_already_read() -> None:
    screen = Screen()
    for _ in range(3):
        screen.read()
    first, *_ = screen.compute()
    screen.region = (315.0, 315.0, 5.0, 5.0)  # the last tile of all
    piece = screen.read()  # although the others fill the room that there is
    assert [b.tolist()[-1] for b in piece.batches] == [[31, 31]]
    computed, batch, is_last = screen.compute()
    assert computed is piece
    assert is_last
    assert in_view(screen.plan.grid, batch, [screen.region])
    assert screen.compute()[0] is first


def test_what_comes_on_screen_of_a_block_is_stored_before_the_rest_of_it() -> None:
    screen = Screen()
    piece = screen.read()
    screen.region = (45.0, 0.0, 5.0, 15.0)  # of the third batch only
    _, batch, is_last = screen.compute()
    assert batch[0].tolist() == [4, 0]
    assert is_last
    screen.region = None
    assert [screen.compute()[2] for _ in range(3)] == [False, False, True]
    assert piece.whole


def test_readers_wait_while_there_is_no_room() -> None:
    screen = Screen()
    taken = [screen.read() for _ in range(3)]
    waiting = threading.Thread(target=screen.read, daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    for _ in range(4):  # the first block's batches
        assert screen.compute()[0] is taken[0]
    waiting.join(60)
    assert not waiting.is_alive()
