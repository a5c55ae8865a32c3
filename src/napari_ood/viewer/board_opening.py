"""Open a slide of a cohort where it is worst. No Qt beyond the camera's timer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

from napari_ood.viewer.flight import CONTEXT_TILES, Flight, view_of
from napari_ood.viewer.layers import maps_of, slide_of
from napari_ood.viewer.maps import Overlay

if TYPE_CHECKING:
    from napari import Viewer

    from napari_ood.board import SlideRow
    from napari_ood.slides import Slide
    from napari_ood.viewer.bridge import Bridge
    from napari_ood.viewer.maps import Maps
    from napari_ood.viewer.state import Result

PLUGIN = "napari-ood"
FRAME_MS = 16


class BoardOpening(QObject):
    """Opens a board's slides in a viewer, one after the other.

    What was opened from here before is closed: whoever goes through a cohort does not want a
    hundred slides in the window. What the user opened otherwise stays.

    Parameters
    ----------
    viewer : Viewer
    bridge : Bridge
    parent : QObject
    """

    def __init__(self, viewer: Viewer, bridge: Bridge, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._bridge = viewer, bridge
        self._opened: tuple[Slide | None, Maps] | None = None
        self._moved: tuple[Path, Path] | None = None
        self._flight = Flight(viewer)
        self._timer = QTimer(self)
        self._timer.setInterval(FRAME_MS)
        self._timer.timeout.connect(self._fly_on)

    def open(self, row: SlideRow) -> str:
        """Open a slide with its run at its worst region; what stands against it, "" for nothing."""
        if not Path(row.run).is_dir():
            return row.error or f"There is no run at {row.run}."
        shown = self._result(row)
        if shown is None:
            self._close_last()
            self._viewer.open(row.run, plugin=PLUGIN)
            shown = self._result(row)
            if shown is None:
                return f"The run at {row.run} cannot be opened."
            self._opened = (shown.slide, shown.maps)
            if shown.slide is None:
                shown = self._try_moved(row, shown)
        elif shown.slide is not None:
            self._bridge.session.choose_slide(shown.slide)
        if Overlay.OOD in shown.maps.overlays:
            self._bridge.session.set_overlay(Overlay.OOD)
        self._go(row, shown.maps)
        if shown.slide is None:
            return f"The slide is not at {shown.maps.slide_record['path']} any more."
        return ""

    def locate(self, row: SlideRow, path: Path) -> bool:
        """Give a run its slide that was moved; whether it is the right one.

        The next ones are looked for where this one was found.
        """
        shown = self._result(row)
        if shown is None:
            return False
        self._bridge.locate(path)
        shown = self._result(row)
        if shown is None or shown.slide is None:
            return False
        self._moved = _move(Path(shown.maps.slide_record["path"]), path)
        self._opened = (shown.slide, shown.maps)
        self._go(row, shown.maps)
        return True

    def stop(self) -> None:
        """Let the camera stay where it is."""
        self._timer.stop()

    def _result(self, row: SlideRow) -> Result | None:
        path = Path(row.run).absolute()
        return next(
            (r for r in self._bridge.session.state.results
             if r.maps.path is not None and r.maps.path.absolute() == path),
            None,
        )  # fmt: skip

    def _try_moved(self, row: SlideRow, shown: Result) -> Result:
        if self._moved is not None:
            recorded = Path(shown.maps.slide_record["path"])
            before, now = self._moved
            if recorded.is_relative_to(before):
                path = now / recorded.relative_to(before)
                if path.exists():
                    self.locate(row, path)
        return self._result(row) or shown

    def _close_last(self) -> None:
        """Close what was opened from here last, unless something is being computed on it."""
        if self._opened is None or self._bridge.session.busy:
            return
        slide, maps = self._opened
        self._opened = None
        layers = list(self._viewer.layers)
        own = [x for x in layers if slide is not None and slide_of(x) is slide]
        # With the slide its maps go, a layer per turn of the event loop.
        for layer in own or [x for x in layers if maps_of(x) is maps]:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _go(self, row: SlideRow, maps: Maps) -> None:
        if row.worst is None or maps.whole_image:
            self._viewer.fit_to_view()
            return
        least = CONTEXT_TILES * max(maps.grid.tile_size)
        view = view_of(row.worst.box, maps.mpp, self._viewer.canvas.size, least)
        if self._flight.begin(view):
            self._timer.start()

    def _fly_on(self) -> None:
        if not self._flight.step():
            self._timer.stop()


def _move(before: Path, now: Path) -> tuple[Path, Path]:
    """The folders above the part that two paths have in common at their ends."""
    a, b = before.parent, now.parent
    while a.name and a.name == b.name:
        a, b = a.parent, b.parent
    return a, b
