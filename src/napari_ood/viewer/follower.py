"""The timer that takes over scores and figures that a thread has worked out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from napari_ood.viewer.ticker import main_window

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_ood.viewer.bridge import Bridge

FOLLOW_INTERVAL_MS = 25


class Follower(QTimer):
    """Calls ``session.follow`` until nothing is worked out any more; belongs to the window."""

    def __init__(self, bridge: Bridge, window: QWidget) -> None:
        super().__init__(window)
        self._bridge = bridge
        self.timeout.connect(self._look)
        self.start(FOLLOW_INTERVAL_MS)

    def _look(self) -> None:
        if not self._bridge.session.follow():
            self.stop()
            self.setParent(None)
            self.deleteLater()


def follow(bridge: Bridge, widget: QWidget) -> None:
    """Follow the session's work for as long as it goes on; once per window is enough."""
    window = main_window(widget)
    if window.findChild(Follower) is None:
        Follower(bridge, window)
