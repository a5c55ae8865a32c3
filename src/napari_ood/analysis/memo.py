"""Values that are computed once, whoever asks first, from whichever thread."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

T = TypeVar("T")
Key = tuple[str, ...]


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

    def fill(self, keys: Sequence[Key], compute: Callable[[Sequence[Key]], Iterable[Any]]) -> None:
        """Compute together what is not there yet of several keys.

        Parameters
        ----------
        keys : who computes one of them must ask for no other one
        compute : those that are missing → their values; not called if none is
        """
        with ExitStack() as stack:
            # In order, so that two who fill the same keys don't wait for each other.
            for key in sorted(set(keys)):
                with self._guard:
                    lock = self._locks.setdefault(key, threading.RLock())
                stack.enter_context(lock)
            missing = [key for key in dict.fromkeys(keys) if key not in self._values]
            if missing:
                self._values.update(zip(missing, compute(missing), strict=True))


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
