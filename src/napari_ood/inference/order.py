"""In which order the shards of a run are read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import chain

from napari_ood.inference.plan import Plan
from napari_ood.inference.store import Shard
from napari_ood.slides.grid import Region


class ShardQueue:
    """Hands out shards, those on screen first, else in reading order. Thread-safe."""

    def __init__(
        self, plan: Plan, todo: list[Shard], view: Callable[[], Region | None] | None
    ) -> None:
        self._grid = plan.grid
        self._todo = todo
        self._pending = set(todo)
        self._in_order = iter(todo)
        self._view = view
        self._region: Region | None = None
        self._on_screen: Iterator[Shard] = iter(())
        self._lock = threading.Lock()

    def take(self) -> Shard | None:
        """Return the next shard; None when all are taken."""
        region = self._view() if self._view else None
        with self._lock:
            if region != self._region:
                self._region = region
                self._on_screen = self._overlapping(region) if region else iter(())
            for shard in chain(self._on_screen, self._in_order):
                if shard in self._pending:
                    self._pending.remove(shard)
                    return shard
            return None

    def _overlapping(self, region: Region) -> Iterator[Shard]:
        visible = self._grid.tiles_in(region)
        return (shard for shard in self._todo if visible[shard.slices].any())
