"""What docks have in common: a column that scrolls, a session they follow, an end that is clean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QFrame, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from napari_ood.viewer.bridge import Bridge, bridge_of
from napari_ood.viewer.docking import dock_of, join_tabs
from napari_ood.viewer.garbage import keep_garbage_small
from napari_ood.viewer.link import Link
from napari_ood.viewer.still import still_canvas
from napari_ood.viewer.ticker import main_window

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_ood.viewer.state import State

WIDTH_PX = 330


class _Content(QWidget):
    """As tall as its wrapped texts need: Qt would rather cut them off than scroll."""

    def __init__(self) -> None:
        super().__init__()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.grow)

    def event(self, event: QEvent | None) -> bool:
        """Measure anew when the width or the texts have changed."""
        if event is not None and event.type() in _RESHAPED:
            # Later: rows that were just added are measured as nothing until Qt has shown them.
            self._timer.start(SETTLE_MS)
        return bool(super().event(event))

    def grow(self) -> None:
        """Take the height that the texts need at this width."""
        layout = self.layout()
        if layout is not None:
            for child in self.findChildren(QWidget):
                if (inner := child.layout()) is not None:
                    inner.activate()
            layout.invalidate()
            self.setMinimumHeight(max(layout.totalHeightForWidth(self.width()), 0))


_RESHAPED = (QEvent.Type.Resize, QEvent.Type.LayoutRequest)
SETTLE_MS = 10


class ScrollDock(QWidget):
    """A dock of one viewer that holds no state: closed and opened again it shows the same.

    A subclass fills ``column``, then calls :meth:`follow` as the last thing in its constructor.

    Parameters
    ----------
    napari_viewer : ViewerModel
    content : QWidget, optional
        What scrolls; it gets the column as its layout.
    """

    def __init__(self, napari_viewer: ViewerModel, content: QWidget | None = None) -> None:
        super().__init__()
        self._bridge: Bridge | None = bridge_of(napari_viewer)
        self._link: Link | None = None
        content = QWidget() if content is None else content
        self.column = QVBoxLayout(content)
        self.column.setContentsMargins(8, 4, 8, 8)
        self.column.setSpacing(14)
        self.scroll_area = QScrollArea()
        self.scroll_area.setFrameShape(QFrame.Shape.NoFrame)
        self.scroll_area.setWidgetResizable(True)
        self.scroll_area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll_area.setWidget(content)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.scroll_area)
        self.setMinimumWidth(WIDTH_PX)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    @property
    def bridge(self) -> Bridge:
        """The bridge to the viewer; RuntimeError once the dock has been closed."""
        if self._bridge is None:
            raise RuntimeError("this dock was closed; open it again from the Plugins menu")
        return self._bridge

    def follow(self) -> None:
        """Show the session's state now and after every change of it."""
        self._link = Link(self)

    def show_state(self, new: State, old: State | None) -> None:
        """Redraw what differs between two snapshots; everything when ``old`` is None."""
        raise NotImplementedError

    def event(self, event: QEvent | None) -> bool:
        """Unbind when napari takes the widget out of its dock: no close event ever comes."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.teardown()
        return bool(super().event(event))

    def showEvent(self, event: QShowEvent | None) -> None:
        """Have the window's garbage and painting looked after: only now the window is known."""
        super().showEvent(event)
        window = main_window(self)
        if self._bridge is not None and self._bridge.viewer is not None and window is not self:
            keep_garbage_small(self._bridge, window)
            self._bridge.steps.canvas = still_canvas(window)

    def teardown(self) -> None:
        """Stop following the session; a run goes on. May be called more than once."""
        if self._bridge is not None:
            if self._link is not None:
                self._link.cut()
            self._bridge = None
            self.deleteLater()  # nobody else owns a widget without a parent


class TabbedDock(ScrollDock):
    """A dock that finds its place on the tabs of the plugin's others, as tall as its texts need.

    Attributes
    ----------
    in_front : whether it can be seen. To Qt a dock behind another tab is visible, and it gets no
        hide event: what works in the whole window must go by this
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer, _Content())
        self._placed = False
        self.in_front = False

    def on_front(self, front: bool) -> None:
        """Do what is due when it comes to the front, or goes behind another dock or away."""

    def showEvent(self, event: QShowEvent | None) -> None:
        """Find a place among the plugin's docks, the first time."""
        super().showEvent(event)
        if not self._placed:
            self._placed = True
            dock = dock_of(self)
            if dock is not None:
                dock.visibilityChanged.connect(self._set_front)
            QTimer.singleShot(0, self._join_tabs)
        self._set_front(True)

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Go away."""
        super().hideEvent(event)
        self._set_front(False)

    def _set_front(self, front: bool) -> None:
        if front != self.in_front and not (front and self._bridge is None):
            self.in_front = front
            self.on_front(front)

    def _join_tabs(self) -> None:
        join_tabs(self)
