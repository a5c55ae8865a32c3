"""Ctrl-C, and a machine's request to end, as what a long computation answers when it is safe."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HEARD = (signal.SIGINT, signal.SIGTERM)
"""SIGTERM is what Slurm and Kubernetes send before they kill: what is held would stay held."""


@contextmanager
def interrupt_sets_event() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into a request that the computation answers within a batch.

    A second one interrupts at once; what is on disk already stays good.
    """
    event = threading.Event()

    def request(signum: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    previous = {number: signal.signal(number, request) for number in HEARD}
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
