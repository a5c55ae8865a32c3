"""The camera goes to a tile of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

from qtpy.QtCore import QObject, QTimer

from napari_ood.viewer.flight import CONTEXT_TILES, Flight, view_of
from napari_ood.viewer.regions import view_region

if TYPE_CHECKING:
    from napari import Viewer

    from napari_ood.slides import Slide
    from napari_ood.viewer.inspector_state import Cell
    from napari_ood.viewer.maps import Maps

FRAME_INTERVAL_MS = 16


class TileFlight(QObject):
    """Flies to tiles, a frame at a time.

    Parameters
    ----------
    viewer : Viewer
    parent : QObject
    """

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._flight = ref(viewer), Flight(viewer)
        self._timer = QTimer(self)
        self._timer.setInterval(FRAME_INTERVAL_MS)
        self._timer.timeout.connect(self._fly_on)

    def in_view(self, slide: Slide, maps: Maps, cell: Cell) -> bool:
        """Whether the middle of a tile can be seen."""
        viewer = self._viewer()
        if viewer is None:
            return True
        view = view_region(viewer, slide)
        y, x, h, w = maps.grid.boxes([cell])[0]
        return view is not None and (
            view[0] <= y + h / 2 < view[0] + view[2] and view[1] <= x + w / 2 < view[1] + view[3]
        )

    def fly(self, maps: Maps, cell: Cell) -> None:
        """Go to a tile, and show what lies around it."""
        viewer = self._viewer()
        if viewer is None or maps.whole_image:
            return
        y, x, h, w = (float(v) for v in maps.grid.boxes([cell])[0])
        least = CONTEXT_TILES * max(maps.grid.tile_size)
        if self._flight.begin(view_of((y, x, h, w), maps.mpp, viewer.canvas.size, least)):
            self._timer.start()

    def stop(self) -> None:
        """Stay where the camera is."""
        self._timer.stop()

    def _fly_on(self) -> None:
        if not self._flight.step():
            self._timer.stop()
