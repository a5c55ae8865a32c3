"""The legend on the canvas: colours, threshold and outline of what lies on the slide.

A Qt widget over napari's canvas, as napari's own colour bar can neither mark a threshold nor show
fading. It belongs to the window, lets the mouse through, and is part of pictures of the window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEvent, QObject, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent, QPalette, QPen
from qtpy.QtWidgets import QFrame, QLabel, QMainWindow, QSizePolicy, QVBoxLayout, QWidget

from napari_ood.scores.names import score_in_words
from napari_ood.viewer.combined import fade_table
from napari_ood.viewer.layers import TITLES
from napari_ood.viewer.link import Link
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.section_results import RAMPS, WORDS
from napari_ood.viewer.ticker import main_window
from napari_ood.viewer.widgets import ColorBar, capitalised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ood.viewer.bridge import Bridge
    from napari_ood.viewer.state import State

WIDTH_PX = 230
MARGIN_PX = 12
BACKGROUND = QColor(20, 20, 24, 205)
TEXT = QColor("#f2f2f2")
FADE_PX = 84
MAX_CLASSES = 8
KEY_PX = 20
"""Height of the piece of outline."""
COLORS = ("results", "slide", "overlay", "scales", "legend")
"""Fields of the state on which more depends than the threshold's place."""


class CanvasLegend(QFrame):
    """Legend in the canvas's lower left corner.

    Parameters
    ----------
    bridge : Bridge
    canvas : QWidget
        The window's central widget.
    """

    def __init__(self, bridge: Bridge, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.bridge = bridge
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        palette = self.palette()
        palette.setColor(QPalette.ColorRole.Window, BACKGROUND)
        palette.setColor(QPalette.ColorRole.WindowText, TEXT)
        self.setPalette(palette)
        self.title, self.words = QLabel(), QLabel()
        self.words.setWordWrap(True)
        for label in (self.title, self.words):
            label.setStyleSheet("padding: 0")  # napari's theme indents labels
        self.bar = ColorBar()
        self.fades = ClassFades()
        self.flagged = FlaggedKey()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 7, 10, 8)
        layout.setSpacing(4)
        for widget in (self.title, self.words, self.bar, self.fades, self.flagged):
            layout.addWidget(widget)
        canvas.installEventFilter(self)
        self._link = Link(self)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the box."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(BACKGROUND)
        painter.drawRoundedRect(QRectF(self.rect()), 4, 4)
        painter.end()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Stay in the corner."""
        if event is not None and event.type() == QEvent.Type.Resize:
            self._place()
        return False

    def _place(self) -> None:
        canvas = self.parentWidget()
        if canvas is not None:
            self.setFixedWidth(WIDTH_PX)
            self.adjustSize()
            self.move(MARGIN_PX, canvas.height() - self.height() - MARGIN_PX)
            self.raise_()

    def show_state(self, new: State, old: State | None) -> None:
        """Redraw what differs."""
        if old is None or new.differs(old, *COLORS):
            self._show_colors(new)
            self._show_threshold(new)
        elif new.differs(old, "thresholds", "outlined", "sets", "sets_outlined"):
            self._show_threshold(new)

    def _show_colors(self, state: State) -> None:
        maps, overlay = state.maps, state.overlay
        shown = maps is not None and overlay is not None and not maps.whole_image
        self.setVisible(shown and state.legend)
        if maps is None or overlay is None or not shown:
            return
        scale = state.scales.get(overlay)
        self.title.setText(TITLES[overlay])
        self.words.setVisible(scale is not None)
        if scale is not None:
            self.words.setText(capitalised(score_in_words(scale.score, maps.card)))
        self.bar.setVisible(scale is not None)
        if scale is not None:
            self.bar.set_scale(RAMPS[overlay].table(), scale.low, scale.high, WORDS[overlay])
        by_class = overlay in (Overlay.COMBINED, Overlay.PREDICTION)
        self.fades.setVisible(by_class)
        if by_class:
            self.fades.show_classes(maps.classes, maps.colors, overlay is Overlay.COMBINED)

    def _show_threshold(self, state: State) -> None:
        flagging = state.flagging
        threshold = state.thresholds.get(flagging) if flagging is not None else None
        self.bar.set_threshold(None if threshold is None else threshold.value)
        text = ""
        if state.sets_outlined and state.sets is not None and state.sets_asked is not None:
            text = f"Not one class at {100 * state.sets_asked.error:.3g} % error"
        elif threshold is not None and flagging is not None:
            text = f"{TITLES[flagging]} > {threshold.value:.3g}: {threshold.words()}"
        self.flagged.setVisible(bool(text) and state.outlined)
        self.flagged.show_text(text)
        self._place()


class ClassFades(QWidget):
    """One row per class: its colour, fading to white where fading means something, and its name."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[tuple[str, QImage], ...] = ()
        self._fading = False
        self._n_more = 0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_classes(self, names: Sequence[str], colors: Sequence[str], fading: bool) -> None:
        """Show classes; ``fading`` adds what pale means."""
        table = fade_table(colors)[1:, :, :3]
        table = table if fading else np.repeat(table[:, :1], table.shape[1], axis=1)
        rows = zip(names[:MAX_CLASSES], table, strict=False)
        self._rows = tuple((name, _strip(np.ascontiguousarray(pixels))) for name, pixels in rows)
        self._fading, self._n_more = fading, len(names) - len(self._rows)
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """A line per class, one for the words of the fading, one for classes that are left out."""
        n = len(self._rows) + self._fading + (self._n_more > 0)
        return QSize(WIDTH_PX, n * (self.fontMetrics().height() + 3))

    minimumSizeHint = sizeHint

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw strips and words."""
        painter = QPainter(self)
        painter.setPen(self.palette().windowText().color())
        line = self.fontMetrics().height() + 3
        y = 0
        if self._fading:
            words = QRectF(0, y, FADE_PX, line)
            painter.drawText(words, Qt.AlignmentFlag.AlignLeft, "sure")
            painter.drawText(words, Qt.AlignmentFlag.AlignRight, "unsure")
            y += line
        for name, strip in self._rows:
            painter.drawImage(QRectF(0, y + 2, FADE_PX, line - 5), strip)
            painter.drawText(QPointF(FADE_PX + 8, y + self.fontMetrics().ascent()), name)
            y += line
        if self._n_more > 0:
            text = f"and {self._n_more} more"
            painter.drawText(QPointF(FADE_PX + 8, y + self.fontMetrics().ascent()), text)
        painter.end()


class FlaggedKey(QWidget):
    """What the outline means: a piece of it, and the threshold in words."""

    def __init__(self) -> None:
        super().__init__()
        self._text = ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_text(self, text: str) -> None:
        """Say which tiles are outlined."""
        self._text = text
        self.updateGeometry()
        self.update()

    def _words(self) -> QRectF:
        flags = Qt.TextFlag.TextWordWrap
        room = QRectF(26, 0, WIDTH_PX - 20 - 26, 1000)
        return QRectF(self.fontMetrics().boundingRect(room.toRect(), flags, self._text))

    def sizeHint(self) -> QSize:
        """The lines of the text."""
        return QSize(WIDTH_PX, max(int(self._words().height()) + 2, KEY_PX))

    minimumSizeHint = sizeHint

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw a square of the outline, and the words."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        box = QRectF(3, 3, 13, 13)
        for color, width in (("#ffffff", 4.0), ("#1a1a1a", 2.0)):
            painter.setPen(QPen(QColor(color), width))
            painter.drawRect(box)
        painter.setPen(self.palette().windowText().color())
        painter.drawText(self._words(), Qt.TextFlag.TextWordWrap, self._text)
        painter.end()


def _strip(pixels: np.ndarray) -> QImage:
    """One row of RGB pixels as an image that owns its memory."""
    n = len(pixels)
    return QImage(pixels.tobytes(), n, 1, 3 * n, QImage.Format.Format_RGB888).copy()


def show_legend(bridge: Bridge, dock: QWidget) -> None:
    """Put the legend on the canvas of a dock's window, unless it is there."""
    window = main_window(dock)
    canvas = window.centralWidget() if isinstance(window, QMainWindow) else None
    if canvas is not None and canvas.findChild(CanvasLegend) is None:
        CanvasLegend(bridge, canvas)
