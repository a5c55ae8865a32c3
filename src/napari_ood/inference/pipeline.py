"""The engine's pipeline: reader threads → network in the calling thread → writer thread.

What lies between the stages is bounded, so memory does not grow with the slide. A batch never spans
two shards: what it holds depends on the plan alone, never on timing or on what is on screen, so an
interrupted and resumed run equals an undisturbed one bit for bit.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.inference.blocks import Block, ReadyBlocks, TileReader
from napari_ood.inference.network import Answer, Network
from napari_ood.inference.order import View, WorkQueue, in_view
from napari_ood.inference.plan import Plan
from napari_ood.inference.progress import Listener, Progress, StageClock
from napari_ood.inference.store import RunWriter, Shard

if TYPE_CHECKING:
    from napari_ood.slides import Slide
    from napari_ood.slides.grid import Region

POLL_S = 0.1
"""How long a thread waits before it looks whether it should stop."""
STORE_EVERY_S = 2.0
"""A slow network's answers are stored before their shard is complete, the first ones at once."""


@dataclass(frozen=True)
class Begun:
    """A batch that the network was given.

    Attributes
    ----------
    block, k : the batch
    is_last : what its block holds is stored then
    seen : what was on screen when it was chosen
    answer : waits for what the network makes of it
    """

    block: Block
    k: int
    is_last: bool
    seen: tuple[Region, ...]
    answer: Callable[[], Answer]


@dataclass(frozen=True)
class Result:
    """Tiles of a shard, computed; ``whole`` if nothing else of the shard is or will be stored."""

    shard: Shard
    index: NDArray[np.int64]
    logits: NDArray[np.float32]
    features: NDArray[np.float32]
    whole: bool


def reader_count(device: str, cores: int | None = None) -> int:
    """Threads that read for a network on this device; ``cores``: those it may use, else all."""
    cores = cores or os.cpu_count() or 1
    if device == "cpu":
        # The network needs the cores itself, unless it is so fast that reading is what takes time.
        return min(max(2, cores // 4), cores)
    return min(max(2, cores - 1), 16)


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
    view: View | None
    cores: int | None = None  # where other processes of the machine use the rest
    done: NDArray[np.bool_] | None = None  # tiles of ``todo`` that need not be computed again
    clock: StageClock = field(default_factory=StageClock)
    n_written: int = 0

    def __post_init__(self) -> None:
        self._tiles = TileReader(self.slide, self.plan)
        queue_ = WorkQueue(self.plan, self.todo, self.network.batch_size, self.view, self.done)
        n_readers = min(reader_count(self.network.device, self.cores), len(self.todo))
        self._stop = threading.Event()
        self._ready = ReadyBlocks(queue_, n_readers, POLL_S, self._stop)
        self._results: queue.Queue[Result | None] = queue.Queue(4)
        self._written: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._failure: Exception | None = None  # the writer's
        self._lock = threading.Lock()
        self._readers = [
            threading.Thread(target=self._read_all, name=f"ood-read-{i}") for i in range(n_readers)
        ]
        self._start = time.perf_counter()
        self._stored_at = -math.inf
        self._unstored: dict[Block, None] = {}  # those that hold answers, in order
        self._seen: tuple[Region, ...] = ()

    def run(self, cancel: Callable[[], bool]) -> None:
        """Compute all shards; returns early when cancelled, raises what a stage raised."""
        writing = threading.Thread(target=self._write_all, name="ood-write")
        for thread in (*self._readers, writing):
            thread.start()
        try:
            self._compute_all(cancel)
        finally:
            # What is computed is kept, also when something failed or the user cancelled.
            self._shut_down(writing)
        self._report()
        if self._failure:
            raise self._failure

    def _compute_all(self, cancel: Callable[[], bool]) -> None:
        """Give the network batch after batch, and collect its answers as they are ready."""
        begun: deque[Begun] = deque()
        while not self._stop.is_set():
            if cancel():
                self._finish(begun)
                return
            chosen = self._ready.next_batch()
            self._look()
            with self._timed("forward"):
                if chosen is not None:
                    block, k, is_last = chosen
                    answer = self.network.begin(block.batch(k))
                    begun.append(Begun(block, k, is_last, self._seen, answer))
                # A GPU computes one batch while the next one is on its way.
                while begun and (chosen is None or len(begun) > self.network.n_ahead):
                    self._collect(begun.popleft())
            self._report()
            if chosen is None and self._ready.is_over:
                return

    def _look(self) -> None:
        """Where the view has moved: show what is computed there already, and lies unstored."""
        seen = self._ready.regions()
        if seen != self._seen:
            self._seen = seen
            for block in list(self._unstored):
                if any(self._on_screen(block, k) for k in block.answers):
                    self._hand_on(block)

    def _on_screen(self, block: Block, k: int) -> bool:
        return in_view(self.plan.grid, block.piece.batches[k], self._seen)

    def _finish(self, begun: deque[Begun]) -> None:
        """Keep what the network has computed, or is computing: to end it takes as long."""
        self.network.drop_waiting()
        for batch in begun:
            with suppress(CancelledError):
                self._answered(batch)
        for block in list(self._unstored):
            self._hand_on(block)

    def _collect(self, begun: Begun) -> None:
        """Wait for an answer; hand on what its block holds once it is asked for."""
        self._answered(begun)
        is_due = time.perf_counter() - self._stored_at >= STORE_EVERY_S
        has_come = begun.seen != self._seen and self._on_screen(begun.block, begun.k)
        if begun.is_last or is_due or has_come:
            self._hand_on(begun.block)

    def _answered(self, begun: Begun) -> None:
        begun.block.answers[begun.k] = begun.answer()
        self._unstored[begun.block] = None

    def _hand_on(self, block: Block) -> None:
        """Give the writer what a block holds."""
        del self._unstored[block]
        self._stored_at = time.perf_counter()
        ks, answers = zip(*sorted(block.answers.items()), strict=True)
        block.answers.clear()
        index = np.concatenate([block.piece.batches[k] for k in ks])
        logits, features = (np.concatenate(arrays) for arrays in zip(*answers, strict=True))
        whole = block.piece.whole and len(ks) == len(block.piece.batches)
        if self.done is not None and (known := self.done[tuple(index.T)]).any():
            # They were computed in batches of another size: what is stored stays.
            index, logits, features = index[~known], logits[~known], features[~known]
            whole = False
        result = Result(block.piece.shard, index, logits, features, whole)
        _put(self._results, result, self._stop)

    def _read_all(self) -> None:
        try:
            while (piece := self._ready.next_piece()) is not None:
                with self._timed("read"):
                    block = self._tiles.read(piece)
                self._ready.put(block)
                del block  # or its memory would be held while this thread waits
            self._ready.leave()
        except Exception as error:  # noqa: BLE001 - handed to the calling thread, which raises it
            self._ready.leave(error)

    def _write_all(self) -> None:
        try:
            while (result := self._next_result()) is not None:
                with self._timed("write"):
                    self.writer.write(
                        result.shard, result.index, result.logits, result.features,
                        beside=not result.whole,
                    )  # fmt: skip
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
        while not self._written.empty():  # an exception came before they were told to the listener
            self.n_written += len(self._written.get().index)
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
