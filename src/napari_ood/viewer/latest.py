"""One piece of work at a time, of which the latest wish counts. No Qt."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from napari_ood.viewer.task import Task

T = TypeVar("T")
Work = Callable[[Task[T]], T]

WAIT_STEP_S = 0.01


class Latest(Generic[T]):
    """Does what was asked for last; what was asked before is cancelled and its outcome dropped.

    However quickly wishes come, one thread works: ten clicks do not leave ten threads behind.
    """

    def __init__(self) -> None:
        self._task: Task[T] | None = None
        self._next: Work[T] | None = None

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come, or has come and was not taken."""
        return self._next is not None or (self._task is not None and not self._task.cancelled)

    @property
    def working(self) -> bool:
        """Whether :meth:`take` has something to do: cancelled work also has to end."""
        return self._task is not None

    @property
    def share(self) -> float | None:
        """How much is done, 0 to 1; None while that is not known."""
        return None if self._task is None or self._task.cancelled else self._task.share

    def ask(self, work: Work[T]) -> None:
        """Have this done instead of what is being done."""
        if self._task is None:
            self._task = Task(work)
        else:
            self._task.cancel()
            self._next = work

    def drop(self) -> None:
        """Have nothing done; what is being done ends when it next looks."""
        self._next = None
        if self._task is not None:
            self._task.cancel()

    def take(self) -> Task[T] | None:
        """The task that did what was asked for last, once; None until it has ended."""
        task = self._task
        if task is None or task.alive:
            return None
        following, self._next = self._next, None
        self._task = Task(following) if following is not None else None
        return None if task.cancelled else task

    def wait(self, timeout: float) -> bool:
        """Block until nothing is left but to be taken; whether so. For scripts and tests."""
        end = time.monotonic() + timeout
        while self._task is not None and time.monotonic() < end:
            if not self._task.alive and self._next is None:
                return True
            if not self._task.alive:
                self.take()
            time.sleep(WAIT_STEP_S)
        return self._task is None or not self._task.alive
