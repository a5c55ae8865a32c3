"""Values that are computed once, whoever asks first, from whichever thread."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Memo:
    """Keeps what was computed under a key; threads that ask for the same key compute it once.

    Keys don't wait for one another: a slow score of the features never holds up the entropy.
    """

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}
        self._locks: dict[Hashable, threading.RLock] = {}
        self._guard = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the value under a key, computed now if it is new; errors are not kept."""
        with self._guard:
            lock = self._locks.setdefault(key, threading.RLock())
        with lock:
            if key not in self._values:
                self._values[key] = compute()
            value: T = self._values[key]
            return value


class RecentMemos:
    """One :class:`Memo` per key, of the keys that were asked for last."""

    def __init__(self, n_kept: int) -> None:
        self._n_kept = n_kept
        self._memos: OrderedDict[Hashable, Memo] = OrderedDict()
        self._guard = threading.Lock()

    def of(self, key: Hashable) -> Memo:
        """Return the memo of a key; that of the key that was not asked for longest may go."""
        with self._guard:
            memo = self._memos.setdefault(key, Memo())
            self._memos.move_to_end(key)
            while len(self._memos) > self._n_kept:
                self._memos.popitem(last=False)
            return memo
