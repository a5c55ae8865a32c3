"""A cache of decoded codec tiles, bounded in bytes and safe for threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from napari_ood.slides.backends.base import RGB

DEFAULT_CACHE_BYTES = 64 * 2**20


class TileCache:
    """Least-recently-used tiles up to ``max_bytes`` in all.

    Neighbouring reads that are not aligned with the codec's tiles share tiles; the cache makes
    each be decoded once. The newest tile is kept even when it alone exceeds the bound: a file
    stored as one huge strip would otherwise be decoded whole for every read.
    """

    def __init__(self, max_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._tiles: OrderedDict[Hashable, RGB] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> RGB | None:
        """Return the tile and mark it as used, or None."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def put(self, key: Hashable, tile: RGB) -> None:
        """Keep a tile, dropping the least recently used ones that no longer fit."""
        with self._lock:
            old = self._tiles.pop(key, None)
            self.n_bytes += tile.nbytes - (0 if old is None else old.nbytes)
            self._tiles[key] = tile
            while self.n_bytes > self.max_bytes and len(self._tiles) > 1:
                _, dropped = self._tiles.popitem(last=False)
                self.n_bytes -= dropped.nbytes

    def clear(self) -> None:
        """Forget all tiles."""
        with self._lock:
            self._tiles.clear()
            self.n_bytes = 0
