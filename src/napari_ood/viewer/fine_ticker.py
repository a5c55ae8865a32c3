"""The timer that shows a fine map as it fills. It belongs to the window, not to a dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QCoreApplication, QTimer

from napari_ood.viewer.ticker import TICK_INTERVAL_MS, main_window

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_ood.viewer.mosaic_layer import MosaicLayer


class FineTicker(QTimer):
    """Calls ``mosaic_layer.tick`` five times per second until the map is filled or was stopped."""

    def __init__(self, mosaic_layer: MosaicLayer, window: QWidget) -> None:
        super().__init__(window)
        self._layer = mosaic_layer
        self.timeout.connect(self._tick)
        # Qt destroys children with their window and sends them no event that they could handle.
        self.destroyed.connect(mosaic_layer.fine.end)
        app = QCoreApplication.instance()
        assert app is not None
        app.aboutToQuit.connect(mosaic_layer.fine.end)
        self.start(TICK_INTERVAL_MS)

    def _tick(self) -> None:
        if not self._layer.tick():
            self.stop()
            self.destroyed.disconnect()  # the next map has a ticker of its own
            self.setParent(None)
            self.deleteLater()


def keep_ticking(mosaic_layer: MosaicLayer, widget: QWidget) -> None:
    """Show the map as it fills; once per window is enough."""
    window = main_window(widget)
    if window.findChild(FineTicker) is None:
        FineTicker(mosaic_layer, window)
