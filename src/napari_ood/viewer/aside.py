"""A listener in a thread of its own, so that what it listens to need not wait. No Qt, no napari."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")

MOST_WAITING = 16
"""News that lie before the listener; who tells more waits until it has caught up."""
POLL_S = 0.1


class Aside(Generic[T]):
    """Calls a listener with all news since its last call, in a thread that ends with the block.

    What the listener raises is raised to who tells it the next news, or at the ``with`` block's
    end.

    Parameters
    ----------
    listener : called with 1 to ``MOST_WAITING`` news, in their order
    name : of the thread
    pause : seconds from one call to the next, at least, while few news come: one call with many is
        cheaper than many calls
    """

    def __init__(self, listener: Callable[[list[T]], None], name: str, pause: float = 0.0) -> None:
        self._listener, self._pause = listener, pause
        self._news: queue.Queue[tuple[T] | None] = queue.Queue(MOST_WAITING)
        self._ends = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._listen, name=name, daemon=False)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._put(None)
        self._thread.join()
        if self._failure and error is None:
            raise self._failure

    def __call__(self, news: T) -> None:
        """Tell the news; returns at once unless the listener is far behind."""
        self._put((news,))
        if self._failure:
            raise self._failure

    def _put(self, item: tuple[T] | None) -> None:
        while self._thread.is_alive():
            try:
                self._news.put(item, timeout=POLL_S)
                return
            except queue.Full:
                continue

    def _listen(self) -> None:
        try:
            since = 0.0
            while news := self._gathered(since + self._pause):
                since = time.monotonic()
                self._listener(news)
        except Exception as error:  # noqa: BLE001 - handed to who tells the news
            self._failure = error

    def _gathered(self, until: float) -> list[T]:
        """Wait for news, and for what else comes until then; empty once the block has ended."""
        news: list[T] = []
        while not self._ends and len(news) < MOST_WAITING:
            patience = max(0.0, until - time.monotonic()) if news else None
            try:
                item = self._news.get(timeout=patience)
            except queue.Empty:
                break
            if item is None:
                self._ends = True
            else:
                news.append(*item)
        return news
