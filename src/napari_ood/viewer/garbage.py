"""Python's garbage collector, kept from stopping the window.

A full collection looks at every object there is: hundreds of thousands of napari's, twice as many
with torch, 0.2 to 0.5 s of the window's thread, now and then by itself and each time that napari
removes a layer, as napari asks for one then. Nearly all of them are modules, functions and classes
that stay until the program ends.

So what there is when a dock opens, and once more when torch has been loaded, is *frozen*:
the collector passes over it. What is frozen is still freed as soon as nobody refers to it; only
cycles are not found any more. Layers are such cycles, and one that the user removes may hold
gigabytes. Therefore, when a removed layer lives on, all is thawed, collected and frozen again, but
in a pause: when the mouse rests. The collector is the whole program's, not this plugin's: when the
window closes it gets everything back.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any
from weakref import ref

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtGui import QCursor

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.utils.events import Event
    from qtpy.QtWidgets import QWidget

    from napari_ood.viewer.steps import Steps

LOOK_INTERVAL_MS = 5000
"""The mouse that has not moved for so long rests."""
MOST_LOOKS = 24
"""After two minutes without a rest memory is worth a moment of it."""


class Garbage(QObject):
    """Freezes what stays, and frees what was frozen and is not needed any more.

    Parameters
    ----------
    viewer : whose layers may be removed
    window : the main window; it is the parent
    steps : what is dropped when the window closes
    """

    def __init__(self, viewer: ViewerModel, window: QWidget, steps: Steps) -> None:
        super().__init__(window)
        self._steps = steps
        self._removed: list[ref[Layer]] = []
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
            self._steps.drop()
            gc.unfreeze()
        return False

    def _on_removed(self, event: Event) -> None:
        self._removed.append(ref(event.value))
        self._mouse, self._looks = None, 0
        self._timer.start()

    def _look(self) -> None:
        """In a pause, free what lives on; whoever still refers to a layer keeps it."""
        mouse, self._mouse = self._mouse, QCursor.pos()
        self._looks += 1
        if not any(layer() is not None for layer in self._removed):
            self._done()
        elif mouse == self._mouse or self._looks >= MOST_LOOKS:
            gc.collect()  # of what is not frozen, which is little
            if any(layer() is not None for layer in self._removed):
                gc.unfreeze()
                gc.collect()
                gc.freeze()
            self._done()

    def _done(self) -> None:
        self._timer.stop()
        self._removed.clear()


def keep_garbage_small(viewer: ViewerModel, window: QWidget, steps: Steps) -> None:
    """Have the collector pass over what there is; to be called whenever a dock has opened."""
    if window.findChild(Garbage) is None:
        Garbage(viewer, window, steps)
    gc.freeze()
