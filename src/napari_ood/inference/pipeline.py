"""The engine's pipeline: reader threads → network in the calling thread → writer thread.

Queues between the stages are bounded, so memory does not grow with the slide. A batch never spans
two shards: what it holds depends on the plan alone, never on timing, so an interrupted and resumed
run equals an undisturbed one bit for bit.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.inference.network import Network
from napari_ood.inference.order import ShardQueue
from napari_ood.inference.plan import Plan
from napari_ood.inference.progress import Listener, Progress, StageClock
from napari_ood.inference.store import RunWriter, Shard
from napari_ood.slides.grid import Region
from napari_ood.slides.tiles import grid_view

if TYPE_CHECKING:
    from napari_ood.slides import Slide

POLL_S = 0.1
"""How long a thread waits before it looks whether it should stop."""


@dataclass(frozen=True)
class Block:
    """A shard's tiles, read."""

    shard: Shard
    index: NDArray[np.int64]  # [n, 2]
    tiles: NDArray[np.uint8]  # [n, t, t, 3], contiguous


@dataclass(frozen=True)
class Result:
    """A shard's tiles, computed."""

    shard: Shard
    index: NDArray[np.int64]
    logits: NDArray[np.float32]
    features: NDArray[np.float32]


def reader_count(device: str, cores: int | None = None) -> int:
    """Threads that read for a network on this device; ``cores``: those it may use, else all."""
    cores = cores or os.cpu_count() or 1
    # On the CPU the network needs the cores itself; one reader per four keeps it fed.
    return max(1, cores // 4) if device == "cpu" else min(max(2, cores - 1), 16)


class TileReader:
    """Cuts a shard's tiles from the slide. Thread-safe, as the slide is."""

    def __init__(self, slide: Slide, plan: Plan) -> None:
        grid = plan.grid
        self._tissue, self._tile, self._stride = plan.tissue, grid.tile, grid.stride
        self._pixels = grid_view(slide, grid)

    def read(self, shard: Shard) -> Block:
        """Read the rectangle around a shard's tissue at once and cut its tiles."""
        index = np.argwhere(self._tissue[shard.slices]) + shard.origin
        tile, first = self._tile, index.min(axis=0)
        height, width = (index.max(axis=0) - first) * self._stride + tile
        top, left = first * self._stride
        pixels = self._pixels.read(int(top), int(left), int(height), int(width))
        tiles = np.empty((len(index), tile, tile, 3), np.uint8)
        for out, (y, x) in zip(tiles, (index - first) * self._stride, strict=True):
            out[...] = pixels[y : y + tile, x : x + tile]
        return Block(shard, index, tiles)


@dataclass
class Session:
    """One call of the engine on one run: its threads, queues and counts."""

    slide: Slide
    plan: Plan
    writer: RunWriter
    network: Network
    todo: list[Shard]
    n_before: int
    on_progress: Listener | None
    view: Callable[[], Region | None] | None
    cores: int | None = None  # where other processes of the machine use the rest
    clock: StageClock = field(default_factory=StageClock)
    n_written: int = 0

    def __post_init__(self) -> None:
        self._tiles = TileReader(self.slide, self.plan)
        self._shards = ShardQueue(self.plan, self.todo, self.view)
        n_readers = min(reader_count(self.network.device, self.cores), len(self.todo))
        self._blocks: queue.Queue[Block | Exception | None] = queue.Queue(n_readers + 1)
        self._results: queue.Queue[Result | None] = queue.Queue(4)
        self._written: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._failure: Exception | None = None  # the writer's
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._readers = [
            threading.Thread(target=self._read_all, name=f"ood-read-{i}") for i in range(n_readers)
        ]
        self._start = time.perf_counter()

    def run(self, cancel: Callable[[], bool]) -> None:
        """Compute all shards; returns early when cancelled, raises what a stage raised."""
        writing = threading.Thread(target=self._write_all, name="ood-write")
        for thread in (*self._readers, writing):
            thread.start()
        try:
            for block in self._read_blocks(cancel):
                result = self._compute(block, cancel)
                if result is None:
                    break
                _put(self._results, result, self._stop)
                self._report()
        finally:
            # What is computed is kept, also when something failed or the user cancelled.
            self._shut_down(writing)
        self._report()
        if self._failure:
            raise self._failure

    def _read_blocks(self, cancel: Callable[[], bool]) -> Iterator[Block]:
        """Yield blocks until every reader has said that it is through, or the user cancels."""
        active = len(self._readers)
        while active and not self._stop.is_set() and not cancel():
            try:
                item = self._blocks.get(timeout=POLL_S)
            except queue.Empty:
                self._report()
                continue
            if item is None:
                active -= 1
            elif isinstance(item, Exception):
                raise item
            else:
                yield item

    def _compute(self, block: Block, cancel: Callable[[], bool]) -> Result | None:
        """Forward a shard batch by batch; None when cancelled or the writer failed."""
        parts = []
        for start in range(0, len(block.tiles), self.network.batch_size):
            if cancel() or self._stop.is_set():
                return None
            with self._timed("forward"):
                parts.append(self.network(block.tiles[start : start + self.network.batch_size]))
        logits, features = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Result(block.shard, block.index, logits, features)

    def _read_all(self) -> None:
        try:
            while not self._stop.is_set() and (shard := self._shards.take()) is not None:
                with self._timed("read"):
                    block = self._tiles.read(shard)
                _put(self._blocks, block, self._stop)
            _put(self._blocks, None, self._stop)
        except Exception as error:  # noqa: BLE001 - handed to the calling thread, which raises it
            _put(self._blocks, error, self._stop)

    def _write_all(self) -> None:
        try:
            while (result := self._next_result()) is not None:
                with self._timed("write"):
                    self.writer.write(result.shard, result.index, result.logits, result.features)
                self._written.put(result)
        except Exception as error:  # noqa: BLE001 - kept for the calling thread, which raises it
            self._failure = error
            self._stop.set()

    def _next_result(self) -> Result | None:
        """Wait for a result; None when the session stops and all are taken."""
        while True:
            try:
                return self._results.get(timeout=POLL_S)
            except queue.Empty:
                if self._stop.is_set():
                    return None

    def _shut_down(self, writing: threading.Thread) -> None:
        # A second Ctrl-C may strike anywhere in here: every thread ends by itself once this is set.
        self._stop.set()
        with suppress(queue.Full):
            self._results.put_nowait(None)  # wakes a writer that waits
        for thread in (*self._readers, writing):
            thread.join()

    def _report(self) -> None:
        """Tell the listener of the shards that became durable since."""
        while not self._written.empty():
            result = self._written.get()
            self.n_written += len(result.index)
            if self.on_progress:
                self.on_progress(self._progress(result))

    def _progress(self, result: Result) -> Progress:
        seconds = time.perf_counter() - self._start
        n_done, n_total = self.n_before + self.n_written, int(self.plan.tissue.sum())
        speed = self.n_written / seconds
        return Progress(
            n_done=n_done,
            n_total=n_total,
            seconds=seconds,
            tiles_per_s=speed,
            seconds_left=(n_total - n_done) / speed if speed else None,
            stage_seconds=self.clock.to_dict(),
            index=result.index,
            logits=result.logits,
            features=result.features,
        )

    def report(self) -> dict[str, Any]:
        """Numbers of this session, for the provenance."""
        seconds = time.perf_counter() - self._start
        return {
            "n_tiles": self.n_written,
            "seconds": seconds,
            "tiles_per_s": self.n_written / seconds,
            "stage_seconds": self.clock.to_dict(),
        }

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            with self._lock:
                setattr(self.clock, stage, getattr(self.clock, stage) + elapsed)


def _put(target: queue.Queue[Any], item: object, stop: threading.Event) -> None:
    """Put into a bounded queue, giving up when the session stops."""
    while not stop.is_set():
        try:
            target.put(item, timeout=POLL_S)
            return
        except queue.Full:
            continue
