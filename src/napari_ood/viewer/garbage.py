"""Python's garbage collector, kept from stopping the window.

A full collection looks at every object there is: hundreds of thousands of napari's, twice as many
with torch, 0.2 to 0.5 s of the window's thread, now and then by itself and each time that napari
removes a layer, as napari asks for one then. Nearly all of them are modules, functions and classes
that stay until the program ends.

So what there is when a dock opens, and once more when torch has been loaded, is *frozen*:
the collector passes over it. What is frozen is still freed as soon as nobody refers to it; only
cycles are not found any more. Layers are such cycles, and one that the user removes may hold
gigabytes. Therefore, when removed layers live on that hold much, all is thawed, collected and
frozen again, but in a pause: when the mouse rests and no run goes on. What holds little waits for
the window's end. The collector is the whole program's, not this plugin's: when the window closes it
gets everything back.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtGui import QCursor

from napari_ood.viewer.layers import slide_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.utils.events import Event
    from qtpy.QtWidgets import QWidget

    from napari_ood.viewer.bridge import Bridge

LOOK_INTERVAL_MS = 5000
"""The mouse that has not moved for so long rests."""
MOST_LOOKS = 24
"""After two minutes without a rest memory is worth a moment of it."""
WORTH_BYTES = 256 * 2**20
"""What is held for nothing before it is worth to stop the window for most of a second."""
SLIDE_BYTES = 64 * 2**20
"""Decoded tiles that a slide keeps, at most."""


class Garbage(QObject):
    """Freezes what stays, and frees what was frozen and is not needed any more.

    Parameters
    ----------
    viewer : whose layers may be removed
    window : the main window; it is the parent
    bridge : the viewer's; its steps are dropped when the window closes
    """

    def __init__(self, viewer: ViewerModel, window: QWidget, bridge: Bridge) -> None:
        super().__init__(window)
        self._bridge = ref(bridge)
        self._removed: list[tuple[ref[Layer], int]] = []
        self._mouse: Any = None
        self._looks = 0
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_INTERVAL_MS)
        self._timer.timeout.connect(self._look)
        viewer.layers.events.removed.connect(self._on_removed)
        window.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """When the window closes, give everything back to the collector."""
        if event is not None and event.type() == QEvent.Type.Close:
            self._timer.stop()
            self._removed.clear()
            if (bridge := self._bridge()) is not None:
                bridge.steps.drop()
            gc.unfreeze()
        return False

    def _on_removed(self, event: Event) -> None:
        self._removed.append((ref(event.value), bytes_of(event.value)))
        self._mouse, self._looks = None, 0
        self._timer.start()

    def _look(self) -> None:
        """In a pause, free what lives on; whoever still refers to a layer keeps it."""
        mouse, self._mouse = self._mouse, QCursor.pos()
        self._looks += 1
        bridge = self._bridge()
        if self._held() < WORTH_BYTES:
            self._timer.stop()
        elif bridge is not None and bridge.session.busy:
            return
        elif mouse == self._mouse or self._looks >= MOST_LOOKS:
            gc.collect()  # of what is not frozen, which is little
            if self._held() >= WORTH_BYTES:
                gc.unfreeze()
                gc.collect()
                gc.freeze()
            self._removed.clear()
            self._timer.stop()

    def _held(self) -> int:
        """Bytes of the removed layers that live on."""
        self._removed = [(layer, n) for layer, n in self._removed if layer() is not None]
        return sum(n for _, n in self._removed)


def bytes_of(layer: Layer) -> int:
    """Memory that a layer holds, about: its arrays, or the decoded tiles of its slide."""
    if slide_of(layer) is not None:
        return SLIDE_BYTES
    data = layer.data
    parts = data if isinstance(data, Sequence) else [data]
    return sum(part.nbytes for part in parts if isinstance(part, np.ndarray))


def keep_garbage_small(bridge: Bridge, window: QWidget) -> None:
    """Have the collector pass over what there is; to be called whenever a dock has opened."""
    viewer = bridge.viewer
    if viewer is not None and window.findChild(Garbage) is None:
        Garbage(viewer, window, bridge)
    gc.freeze()
