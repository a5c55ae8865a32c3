"""Threads that compute side by side, each a batch of its own (needs torch)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier, Lock
from typing import TypeVar

import torch

T = TypeVar("T")

MOST_LANES = 8
"""More cores work together on a batch instead: each batch under way takes memory of its own."""
BEGINNING = Lock()
"""Two at a time would take each other's setting of torch for the usual one."""


class Lanes:
    """Threads that share this process's cores among them.

    A batch that several cores work on together waits, after each layer, for the slowest of them:
    for one that reads tiles or draws the window in between. Batches side by side wait for nobody,
    and a layer that computes on one core gives the same bits however many cores there are.

    Parameters
    ----------
    n_threads : cores to use; as many as torch would by default
    most : lanes at most

    Attributes
    ----------
    n : threads, which all use the same number of cores
    """

    def __init__(self, n_threads: int | None = None, most: int = MOST_LANES) -> None:
        with BEGINNING:
            self._begin(n_threads, most)

    def _begin(self, n_threads: int | None, most: int) -> None:
        usual = torch.get_num_threads()
        total = n_threads or usual
        each = -(-total // most)  # fewer cores than that are left over
        self.n = total // each
        self._pool = ThreadPoolExecutor(self.n, thread_name_prefix="ood-forward")
        # What a thread sets holds for it, and for threads that begin after: hence the way back,
        # once all of them have done so.
        met = Barrier(self.n + 1)

        def enter() -> None:
            torch.get_num_threads()  # or torch's first operation here sets what others set last
            torch.set_num_threads(each)
            met.wait()

        try:
            for _ in range(self.n):
                self._pool.submit(enter)
            met.wait()
        except BaseException:  # or those that wait would keep the program from ending
            met.abort()
            self.close()
            raise
        finally:
            torch.set_num_threads(usual)

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Call in the next lane that is free."""
        return self._pool.submit(call)

    def drop_waiting(self) -> None:
        """Drop what waits for a lane: who asks for it gets CancelledError; nothing new is taken."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the threads; what waits for a lane is dropped."""
        self._pool.shutdown(cancel_futures=True)
