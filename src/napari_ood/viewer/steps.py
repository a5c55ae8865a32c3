"""Work that only the GUI's thread may do, in pieces: one per turn of the window's event loop.

napari takes 70 ms of that thread to add a layer, 40 ms to remove one, and 20 ms more to draw what
has changed. Six at once stop the window for half a second; one at a time, drawn in turns of their
own and with the user's own events in between, do not.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

Step = Callable[[], None]

STEP_INTERVAL_MS = 40
"""Between two steps: long enough for what was changed to be drawn, which takes 30 ms without a
graphics card, and for clicks to be heard."""
PAINT_INTERVAL_MS = 10
"""Between a step and its drawing: for clicks to be heard."""
PAINT_EVERY_S = 0.1
"""Several steps are drawn at once where they follow each other faster: most are about hidden
layers, and without a graphics card a frame costs a run what it costs to compute six tiles. But who
moves the camera meanwhile is not to see it stand still for longer."""


class Canvas(Protocol):
    """What steps change."""

    def hold(self) -> None:
        """Draw nothing until it is released."""

    def release(self) -> None:
        """Draw what was not drawn."""


class Steps:
    """Does steps in the order in which they were asked for.

    Parameters
    ----------
    in_window : whether there is an event loop to wait for; without one each step is done at once

    Attributes
    ----------
    canvas : it is not painted in the turn of a step but in one of its own
    """

    def __init__(self, in_window: bool) -> None:
        self.canvas: Canvas | None = None
        self._in_window = in_window
        self._due: deque[Step] = deque()
        self._waiting = False
        self._still = self._goes_on = False
        self._painted_at = -math.inf

    @property
    def pending(self) -> bool:
        """Whether steps are still to be done or to be seen."""
        return bool(self._due) or self._still

    def add(self, step: Step) -> None:
        """Have a step done; it must bear that the layers it is about are gone by then."""
        self._due.append(step)
        self._begin()

    def add_once(self, step: Step) -> None:
        """Have a step done after all others that are due, once however often it is asked for."""
        if step in self._due:
            self._due.remove(step)
        self.add(step)

    def add_next(self, step: Step) -> None:
        """Have a step done before all others that are due, and before anything is painted."""
        self._goes_on = True
        self._due.appendleft(step)
        self._begin()

    def _begin(self) -> None:
        if self._in_window:
            self._wait(STEP_INTERVAL_MS)
        else:
            self.finish()

    def paint_apart(self) -> None:
        """Have what is being changed in this turn painted in one of its own."""
        if self.canvas is not None and not self._still:
            self._still = True
            self.canvas.hold()
            self._wait(PAINT_INTERVAL_MS)

    def finish(self) -> None:
        """Do all that is due now: for scripts and tests."""
        while self._due:
            self._due.popleft()()
        self._paint()

    def drop(self) -> None:
        """Do nothing of what is due: the window closes."""
        self._due.clear()
        self._paint()
        self.canvas = None

    def _wait(self, milliseconds: int) -> None:
        if not self._waiting:
            from qtpy.QtCore import QTimer

            self._waiting = True
            QTimer.singleShot(milliseconds, self._next)

    def _next(self) -> None:
        """Paint what the last step has changed, or do the next step; then wait for the other."""
        try:
            if self._still and self._paints_now:
                self._paint()
            elif self._due:
                self._goes_on = False
                self.paint_apart()
                self._due.popleft()()
        finally:
            # Only now: a timer that runs during a step is due at once when the step is over.
            self._waiting = False
            if self.pending:
                self._wait(PAINT_INTERVAL_MS if self._still else STEP_INTERVAL_MS)

    @property
    def _paints_now(self) -> bool:
        overdue = time.monotonic() - self._painted_at > PAINT_EVERY_S
        return not self._due or (overdue and not self._goes_on)

    def _paint(self) -> None:
        if self._still and self.canvas is not None:
            self.canvas.release()
            self._painted_at = time.monotonic()
        self._still = False
