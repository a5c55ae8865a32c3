"""What ties a dock to the session it shows. The dock is a view: it may come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from weakref import ref

if TYPE_CHECKING:
    from qtpy.QtCore import SignalInstance

    from napari_ood.viewer.bridge import Bridge
    from napari_ood.viewer.state import State


class Dock(Protocol):
    """A widget that shows a session."""

    @property
    def bridge(self) -> Bridge:
        """The bridge to the viewer."""

    @property
    def destroyed(self) -> SignalInstance:
        """Qt's signal at the end of the widget."""

    def show_state(self, new: State, old: State | None) -> None:
        """Redraw what differs between two snapshots; everything when ``old`` is None."""


class Link:
    """Calls a dock on every change of the session until one of the two is gone.

    Not a Qt object: it outlives the dock's C++ half, which Qt may destroy without telling Python.
    Made last in a dock's constructor, as it shows the state at once; cut in its ``teardown``.
    """

    def __init__(self, dock: Dock) -> None:
        self._dock = ref(dock)
        self._session = dock.bridge.session
        self._session.changed.connect(self._forward)
        dock.destroyed.connect(self.cut)
        dock.show_state(self._session.state, None)

    def cut(self, *_: object) -> None:
        """Stop following the session; may be called more than once."""
        self._session.changed.disconnect(self._forward, missing_ok=True)

    def _forward(self, new: State, old: State) -> None:
        dock = self._dock()
        if dock is not None:
            dock.show_state(new, old)
