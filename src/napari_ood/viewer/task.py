"""Work of a dock in a thread of its own: it can be watched, cancelled and waited for. No Qt."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from napari_ood.errors import OodError

T = TypeVar("T")

log = logging.getLogger(__name__)


class Task(Generic[T]):
    """One piece of work; its attributes are polled from the GUI.

    Attributes
    ----------
    share : how much is done, 0 to 1; None while that is not known
    stage : what is being done, in words
    error : one line for the user when the work has failed
    """

    def __init__(self, work: Callable[[Task[T]], T]) -> None:
        self.share: float | None = None
        self.stage = ""
        self.error: str | None = None
        self._work = work
        self._result: list[T] = []
        self._cancel = threading.Event()
        # Not a daemon: a thread killed half-way through a file leaves half a file.
        self._thread = threading.Thread(target=self._run, name="napari-ood task", daemon=False)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the work is still going on."""
        return self._thread.is_alive()

    @property
    def result(self) -> T | None:
        """What came of it; None while it is going on and after an error."""
        return self._result[0] if self._result else None

    @property
    def cancelled(self) -> bool:
        """Whether the work was asked to stop, or the program is ending."""
        return self._cancel.is_set() or not threading.main_thread().is_alive()

    def cancel(self) -> None:
        """Ask the work to stop; it looks from time to time."""
        self._cancel.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the work has ended; whether it has. For scripts, tests and the end."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def tell(self, share: float | None, stage: str = "") -> None:
        """Report how far it is; called by the work."""
        self.share, self.stage = share, stage or self.stage

    def _run(self) -> None:
        try:
            self._result.append(self._work(self))
        except OodError as error:
            self.error = str(error)
        except Exception as error:
            log.exception("a task failed")
            self.error = f"This failed: {type(error).__name__}: {error}"
