"""A canvas that stays as it is on the screen for a moment, while much is done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QSize
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
        self._size_held = self._window_size()

    def hold(self) -> None:
        """Draw nothing until it is released."""
        self._size_held = self._window_size()
        self._canvas.installEventFilter(self)

    def release(self) -> None:
        """Draw what was not drawn."""
        self._canvas.removeEventFilter(self)
        self._canvas.update()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Swallow what asks to be painted, but not from who changes the window's size.

        A canvas of another size has no last frame and is black. That it also is before the first
        slide, which takes some of its room for its controls.
        """
        resized = event is not None and event.type() == QEvent.Type.Resize
        if resized and self._window_size() != self._size_held:
            self._canvas.removeEventFilter(self)
        return event is not None and event.type() == QEvent.Type.Paint

    def _window_size(self) -> QSize | None:
        window = self._canvas.window()
        return None if window is None else window.size()


def still_canvas(window: QWidget) -> Still | None:
    """What keeps a window's canvas as it is; None where it has none."""
    canvas = window.findChild(QOpenGLWidget)
    return None if canvas is None else canvas.findChild(Still) or Still(canvas)
