"""Keys of the review: they work wherever the focus is in the window, but not while one types."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QShortcut, QWidget

NEXT, BACK = "N", "P"
AGREE, UNKNOWN, SKIP = "A", "T", "S"
COMMENT, UNDO, REDO = "C", "Z", "Shift+Z"
OVERLAY = "H"
ARTEFACTS = {"pen": "I", "fold": "F", "blur": "B", "bubble": "U", "other": "O"}
"""Keys by kind of artefact; a pen leaves ink, as P goes back."""
N_CLASS_KEYS = 9


class Keys:
    """Shortcuts of one window, while they are bound.

    Qt asks the widget that has the focus first, and text fields keep what can be typed into them.
    """

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        self._actions = dict(actions)
        self._shortcuts: list[QShortcut] = []

    @property
    def bound(self) -> bool:
        """Whether the keys do anything."""
        return bool(self._shortcuts)

    def bind(self, window: QWidget) -> None:
        """Let the keys work in a window; in one only."""
        self.unbind()
        for key, action in self._actions.items():
            # Of the window, not of the dock: a dock that floats is a window of its own.
            shortcut = QShortcut(QKeySequence(key), window)
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.setAutoRepeat(False)  # a key held down must not judge one region after another
            shortcut.activated.connect(action)
            self._shortcuts.append(shortcut)

    def unbind(self) -> None:
        """Give the keys back to napari. May be called more than once."""
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.deleteLater()
        self._shortcuts.clear()
