"""Work that only the GUI's thread may do, in pieces: one per turn of the window's event loop.

napari takes 80 ms of that thread to add a layer and 20 ms to remove one. Six at once stop the
window for half a second; one at a time, with drawing and the user's own events in between, do not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

Step = Callable[[], None]

STEP_INTERVAL_MS = 20
"""Between two steps: long enough for what was changed to be drawn and for clicks to be heard."""


class Steps:
    """Does steps in the order in which they were asked for.

    Parameters
    ----------
    in_window : whether there is an event loop to wait for; without one each step is done at once
    """

    def __init__(self, in_window: bool) -> None:
        self._in_window = in_window
        self._due: deque[Step] = deque()
        self._waiting = False

    @property
    def pending(self) -> bool:
        """Whether steps are still to be done."""
        return bool(self._due)

    def add(self, step: Step) -> None:
        """Have a step done; it must bear that the layers it is about are gone by then."""
        self._due.append(step)
        self._begin()

    def add_next(self, step: Step) -> None:
        """Have a step done before all others that are due."""
        self._due.appendleft(step)
        self._begin()

    def _begin(self) -> None:
        if self._in_window:
            self._wait()
        else:
            self.finish()

    def finish(self) -> None:
        """Do all that is due now: for scripts and tests."""
        while self._due:
            self._due.popleft()()

    def drop(self) -> None:
        """Do nothing of what is due: the window closes."""
        self._due.clear()

    def _wait(self) -> None:
        if not self._waiting:
            from qtpy.QtCore import QTimer

            self._waiting = True
            QTimer.singleShot(STEP_INTERVAL_MS, self._next)

    def _next(self) -> None:
        self._waiting = False
        if self._due:
            step = self._due.popleft()
            if self._due:
                self._wait()
            step()
