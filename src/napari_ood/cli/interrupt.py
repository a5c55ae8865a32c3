"""Ctrl-C as a request that a long computation answers when it is safe."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupt_sets_event() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a request that the computation answers within a batch.

    A second Ctrl-C interrupts at once; what is on disk already stays good.
    """
    event = threading.Event()

    def request(signum: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    previous = signal.signal(signal.SIGINT, request)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
