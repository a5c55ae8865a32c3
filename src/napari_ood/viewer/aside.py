"""A listener in a thread of its own, so that what it listens to need not wait. No Qt, no napari."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")

MOST_WAITING = 16
"""News that lie before the listener; who tells more waits until it has caught up."""
POLL_S = 0.1


class Aside(Generic[T]):
    """Calls a listener with each news in order, in a thread that ends with the ``with`` block.

    What the listener raises is raised to who tells it the next news, or at the block's end.
    """

    def __init__(self, listener: Callable[[T], None], name: str) -> None:
        self._listener = listener
        self._news: queue.Queue[tuple[T] | None] = queue.Queue(MOST_WAITING)
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
            while (item := self._news.get()) is not None:
                self._listener(*item)
        except Exception as error:  # noqa: BLE001 - handed to who tells the news
            self._failure = error
