"""The timer that shows a run as it goes on. It belongs to the window, not to a dock.

A run outlives the dock that started it, and ends with the window.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from qtpy.QtCore import QCoreApplication, QEvent, QTimer
from qtpy.QtWidgets import QMainWindow, QWidget

if TYPE_CHECKING:
    from napari_ood.viewer.bridge import Bridge

TICK_INTERVAL_MS = 200
DRAWING_SHARE = 0.02
"""Of the time; the rest is the network's. Without a graphics card both want the same cores."""
MOST_BETWEEN_S = 2.0
"""However slow drawing is, the overlays move on so often."""
NESTED_LAYOUTS = 4
"""A label's row, its section, the dock's column, the area that scrolls it."""


class Ticker(QTimer):
    """Calls ``bridge.tick`` five times per second until the run has ended.

    Where drawing is slow the overlays and numbers are redrawn more rarely, all at once: whatever
    changes, the whole window is composed anew. What is on screen is told to the engine each time.
    """

    def __init__(self, bridge: Bridge, widget: QWidget) -> None:
        super().__init__(main_window(widget))
        self._bridge = bridge
        self._drew_at = self._draw_at = 0.0
        self.timeout.connect(self._tick)
        # Qt destroys children with their window and sends them no event that they could handle.
        self.destroyed.connect(bridge.session.end)
        app = QCoreApplication.instance()
        assert app is not None
        app.aboutToQuit.connect(bridge.session.end)
        self.start(TICK_INTERVAL_MS)

    def _tick(self) -> None:
        now = perf_counter()
        draws = now >= self._draw_at
        if not self._bridge.tick(draws):
            self.stop()
            self.deleteLater()
        elif draws:
            self._drew_at = now
            lay_out_now()
            QTimer.singleShot(0, self._on_drawn)  # comes after what the tick left to be painted

    def _on_drawn(self) -> None:
        now = perf_counter()
        took = now - self._drew_at
        self._draw_at = now + min(took * (1 / DRAWING_SHARE - 1), MOST_BETWEEN_S)


def lay_out_now() -> None:
    """Find places for what has changed before it is painted: what moves afterwards costs a frame.

    Texts that change ask for a layout, that for one of the layout around it, and so on: each comes
    in a turn of the event loop of its own, with the whole window composed anew in between.
    """
    for _ in range(NESTED_LAYOUTS):
        QCoreApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest.value)


def main_window(widget: QWidget) -> QWidget:
    """The main window that a widget is docked in or floats over; without one, the widget."""
    parent: QWidget | None = widget
    while parent is not None:
        if isinstance(parent, QMainWindow):
            return parent
        parent = parent.parentWidget()
    return widget
