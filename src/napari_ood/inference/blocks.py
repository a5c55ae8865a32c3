"""Tiles between the readers and the network: read in blocks, handed on batch by batch."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.inference.network import Answer
from napari_ood.inference.order import Ints, Piece, WorkQueue, in_view
from napari_ood.inference.plan import Plan
from napari_ood.slides.tiles import grid_view

if TYPE_CHECKING:
    from napari_ood.slides import Slide
    from napari_ood.slides.grid import Region


@dataclass(eq=False)  # two blocks are never the same
class Block:
    """A piece's tiles, read, and what the network has answered so far.

    Attributes
    ----------
    piece : Piece
    tiles : [n, t, t, 3] uint8, contiguous, batch after batch
    waiting : numbers of the batches that the network has not been given
    answers : by number of the batch; emptied as they are handed on
    """

    piece: Piece
    tiles: NDArray[np.uint8]
    waiting: list[int] = field(init=False)
    answers: dict[int, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.waiting = list(range(len(self.piece.batches)))
        self._starts = np.cumsum([0, *map(len, self.piece.batches)])

    def batch(self, k: int) -> NDArray[np.uint8]:
        """Tiles of a batch."""
        return self.tiles[self._starts[k] : self._starts[k + 1]]


SPARED_BY_CUT = 1.0
"""Tiles that a cut through a piece must spare, per tile along it: readers without a cache decode
what lies on the cut twice, and each call costs something."""


class TileReader:
    """Cuts tiles from the slide. Thread-safe, as the slide is."""

    def __init__(self, slide: Slide, plan: Plan) -> None:
        grid = plan.grid
        self._tile, self._stride = grid.tile, grid.stride
        self._pixels = grid_view(slide, grid)

    def read(self, piece: Piece) -> Block:
        """Read the rectangles around a piece's tiles and cut them."""
        index: Ints = np.concatenate(piece.batches)
        tiles = np.empty((len(index), self._tile, self._tile, 3), np.uint8)
        for part in compact_parts(index):
            self._read(index, part, tiles)
        return Block(piece, tiles)

    def _read(self, index: Ints, part: Ints, out: NDArray[np.uint8]) -> None:
        tile, first = self._tile, index[part].min(axis=0)
        height, width = (index[part].max(axis=0) - first) * self._stride + tile
        top, left = first * self._stride
        pixels = self._pixels.read(int(top), int(left), int(height), int(width))
        for k, (y, x) in zip(part, (index[part] - first) * self._stride, strict=True):
            out[k] = pixels[y : y + tile, x : x + tile]


def compact_parts(index: Ints) -> list[Ints]:
    """Divide tiles [n, 2] such that the rectangles around the parts hold few others.

    At the edges of tissue, half of a piece's rectangle may be glass.

    Returns
    -------
    list of [k] positions in ``index``; each position is in one of them
    """
    return _divided(index, np.arange(len(index)))


def _divided(index: Ints, part: Ints) -> list[Ints]:
    cells = index[part]
    low, high = cells.min(axis=0), cells.max(axis=0)
    others = _area(cells) - len(cells)
    most, best = 0.0, None
    for axis in (0, 1):
        needed = SPARED_BY_CUT * float(high[1 - axis] - low[1 - axis] + 1)
        if others < needed:
            continue
        for cut in range(low[axis] + 1, high[axis] + 1):
            before = cells[:, axis] < cut
            spared = _area(cells) - _area(cells[before]) - _area(cells[~before]) - needed
            if spared >= most:
                most, best = spared, before
    if best is None:
        return [part]
    return [*_divided(index, part[best]), *_divided(index, part[~best])]


def _area(cells: Ints) -> int:
    """Tiles in the rectangle around some."""
    height, width = cells.max(axis=0) - cells.min(axis=0) + 1
    return int(height * width)


class ReadyBlocks:
    """Blocks on their way from readers to the network: few, and what is on screen overtakes.

    Parameters
    ----------
    queue : WorkQueue
    n_readers : threads that read
    poll_s : seconds after which a waiting thread looks again at the view, and at ``stop``
    stop : set when everybody should give up
    """

    def __init__(
        self, queue: WorkQueue, n_readers: int, poll_s: float, stop: threading.Event
    ) -> None:
        self._queue, self._poll_s, self._stop = queue, poll_s, stop
        # Each reader has one in hand; one more lies ready, and one is being computed.
        self._most = n_readers + 2
        # What comes on screen need not wait until these are through.
        self._most_on_screen = self._most + n_readers
        self._n_open = 0
        self._n_readers = n_readers
        self._blocks: list[Block] = []
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def next_piece(self) -> Piece | None:
        """For a reader: what to read next, as soon as there is room; None when it is through."""
        with self._changed:
            while not self._stop.is_set():
                if self._n_open < self._most:
                    piece = self._queue.take()
                    if piece is None:
                        return None
                else:
                    has_room = self._n_open < self._most_on_screen
                    piece = self._queue.take(on_screen_only=True) if has_room else None
                if piece is not None:
                    self._n_open += 1
                    return piece
                self._changed.wait(self._poll_s)
        return None

    def put(self, block: Block) -> None:
        """Hand over a block that was read."""
        with self._changed:
            self._blocks.append(block)
            self._changed.notify_all()

    def leave(self, error: Exception | None = None) -> None:
        """For a reader: say that it is through, or what went wrong."""
        with self._changed:
            self._n_readers -= 1
            self._error = self._error or error
            self._changed.notify_all()

    def regions(self) -> tuple[Region, ...]:
        """What is on screen now."""
        return self._queue.regions()

    @property
    def is_over(self) -> bool:
        """Whether nothing is ready and nothing will come."""
        with self._changed:
            return not self._blocks and not self._n_readers

    def next_batch(self) -> tuple[Block, int, bool] | None:
        """Wait a moment for a batch: its block, its number, and whether to store what is there.

        Batches on screen come first; after the last of them in a block, what the block holds so far
        should be stored and shown. Returns None when there is none (yet); raises what a reader
        raised.
        """
        with self._changed:
            if not self._blocks and self._n_readers and not self._error:
                self._changed.wait(self._poll_s)
            if self._error:
                raise self._error
            if not self._blocks:
                return None
            block, k, is_last = self._chosen()
            block.waiting.remove(k)
            if not block.waiting:
                self._blocks.remove(block)
                self._n_open -= 1
                self._changed.notify_all()
            return block, k, is_last or not block.waiting

    def _chosen(self) -> tuple[Block, int, bool]:
        regions, grid = self._queue.regions(), self._queue.grid
        if regions:
            for block in self._blocks:
                batches = block.piece.batches
                seen = [k for k in block.waiting if in_view(grid, batches[k], regions)]
                if seen:
                    return block, seen[0], len(seen) == 1
        first = self._blocks[0]
        return first, first.waiting[0], False
