"""A canvas that stays as it is on the screen for a moment, while much is done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject
from qtpy.QtOpenGLWidgets import QOpenGLWidget

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget


class Still(QObject):
    """Keeps an OpenGL canvas from being drawn anew; the window shows its last frame.

    Qt's own ``setUpdatesEnabled`` leaves a hole where the window is uncovered meanwhile, and in
    pictures of the window.

    Parameters
    ----------
    canvas : QOpenGLWidget
        It is the parent.
    """

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self._canvas = canvas

    def hold(self) -> None:
        """Draw nothing until it is released."""
        self._canvas.installEventFilter(self)

    def release(self) -> None:
        """Draw what was not drawn."""
        self._canvas.removeEventFilter(self)
        self._canvas.update()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Swallow what asks to be painted; a canvas of another size has no last frame."""
        if event is not None and event.type() == QEvent.Type.Resize:
            self._canvas.removeEventFilter(self)
        return event is not None and event.type() == QEvent.Type.Paint


def still_canvas(window: QWidget) -> Still | None:
    """What keeps a window's canvas as it is; None where it has none."""
    canvas = window.findChild(QOpenGLWidget)
    return None if canvas is None else canvas.findChild(Still) or Still(canvas)
