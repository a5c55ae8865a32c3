"""The timer that shows a run as it goes on. It belongs to the window, not to a dock.

A run outlives the dock that started it, and ends with the window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QCoreApplication, QTimer
from qtpy.QtWidgets import QMainWindow, QWidget

if TYPE_CHECKING:
    from napari_ood.viewer.bridge import Bridge

TICK_INTERVAL_MS = 200


class Ticker(QTimer):
    """Calls ``bridge.tick`` five times per second until the run has ended."""

    def __init__(self, bridge: Bridge, widget: QWidget) -> None:
        super().__init__(main_window(widget))
        self._bridge = bridge
        self.timeout.connect(self._tick)
        # Qt destroys children with their window and sends them no event that they could handle.
        self.destroyed.connect(bridge.session.end)
        app = QCoreApplication.instance()
        assert app is not None
        app.aboutToQuit.connect(bridge.session.end)
        self.start(TICK_INTERVAL_MS)

    def _tick(self) -> None:
        if not self._bridge.tick():
            self.stop()
            self.deleteLater()


def main_window(widget: QWidget) -> QWidget:
    """The main window that a widget is docked in or floats over; without one, the widget."""
    parent: QWidget | None = widget
    while parent is not None:
        if isinstance(parent, QMainWindow):
            return parent
        parent = parent.parentWidget()
    return widget
