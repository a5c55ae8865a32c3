"""What a run asks of the whole process while it computes: that other threads hold it up little."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from threadpoolctl import threadpool_limits

SWITCH_S = 0.0005
"""Python's switch interval meanwhile."""


class Precedence:
    """Of runs that overlap, the first one sets, and the last one sets back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_users = 0
        self._undo = ExitStack()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Context in which a network computes.

        A thread that computes asks for the interpreter after every layer, and waits a switch
        interval for it when another one is busy with Python, such as a window's: with the usual
        5 ms a network was several times as slow beside a busy thread
        (``benchmarks/worker_thread.py``). And threads of OpenBLAS that have nothing to do wait by
        spinning: scores that a listener computed while a run went on took a sixth of its speed.
        """
        with self._lock:
            if not self._n_users:
                self._set()
            self._n_users += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_users -= 1
                if not self._n_users:
                    self._undo.close()

    def _set(self) -> None:
        usual = sys.getswitchinterval()
        self._undo.callback(sys.setswitchinterval, usual)
        sys.setswitchinterval(min(usual, SWITCH_S))
        self._undo.enter_context(threadpool_limits(1, user_api="blas"))


PRECEDENCE = Precedence()
"""The process's own: there is one interpreter, and one OpenBLAS."""
