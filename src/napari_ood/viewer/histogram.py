"""A histogram of one score with a threshold that can be dragged. Knows Qt, nothing of sessions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QFocusEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QPixmap,
)
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_ood.viewer.figure import Figure
from napari_ood.viewer.widgets import bar_image

PLOT_PX = 64
RAMP_PX = 7
GRAB_PX = 7
"""How near the line the mouse takes hold of it."""
STEPS = 200
"""Arrow keys move the threshold by this part of the plot's range; with Shift by ten of them."""
INK = "#4f9fd8"
"""Bars of this run."""
FAMILIAR_ALPHA = 70
KEY = (
    f'<span style="color:{INK}">■</span> this slide&nbsp;&nbsp; '
    '<span style="color:#8a8d93">■</span> in-distribution tiles'
)
"""What the bars are; heights are square roots of shares."""


class Histogram(QWidget):
    """This run in front, in-distribution tiles behind, and the threshold as a line.

    Signals
    -------
    moved(value) : while the line is dragged or moved by a key
    reset_asked() : double-click, or Home
    chosen() : a click, or the keyboard's focus
    """

    moved = Signal(float)
    reset_asked = Signal()
    chosen = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._figure: Figure | None = None
        self._ramp = QImage()
        self._bar = (0.0, 1.0)
        self._picture: QPixmap | None = None
        self._threshold: float | None = None
        self._active = False
        self._dragging = False
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "Drag the line to move the threshold; arrow keys move it too (Shift: faster).\n"
            "Double-click: keep 95 % of in-distribution tiles."
        )

    # ---------------------------------------------------------------- what it shows

    def set_figure(
        self, figure: Figure | None, table: NDArray[np.float32], bar: tuple[float, float]
    ) -> None:
        """Show a figure; ``table`` [n, 4] are the colours from ``bar[0]`` to ``bar[1]``."""
        self._figure, self._ramp, self._bar = figure, bar_image(table), bar
        self._picture = None
        self.update()

    def set_threshold(self, value: float | None) -> None:
        """Put the line at a value; None draws none."""
        if value != self._threshold:
            self._threshold = value
            self.update()

    def set_active(self, active: bool) -> None:
        """Whether this score is the one on the slide."""
        if active != self._active:
            self._active = active
            self.update()

    def sizeHint(self) -> QSize:
        """Plot, ramp and a line of numbers."""
        return QSize(200, PLOT_PX + RAMP_PX + self.fontMetrics().height() + 6)

    minimumSizeHint = sizeHint

    # ---------------------------------------------------------------- places

    @property
    def _plot(self) -> QRectF:
        return QRectF(1, 1, self.width() - 2, PLOT_PX)

    def x_of(self, value: float) -> float:
        """Place of a value in widget pixels, inside the plot."""
        plot, figure = self._plot, self._figure
        if figure is None:
            return float(plot.left())
        share = (value - figure.low) / (figure.high - figure.low)
        return float(plot.left() + min(max(share, 0.0), 1.0) * plot.width())

    def value_at(self, x: float) -> float:
        """Value at a place, inside the plot's range."""
        plot, figure = self._plot, self._figure
        assert figure is not None
        share = min(max((x - plot.left()) / plot.width(), 0.0), 1.0)
        return figure.low + share * (figure.high - figure.low)

    # ---------------------------------------------------------------- mouse and keys

    def _near(self, x: float) -> bool:
        if self._figure is None:
            return False
        return self._threshold is None or abs(x - self.x_of(self._threshold)) <= GRAB_PX

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Take hold of the line; anywhere else only choose this score."""
        if event is None or event.button() != Qt.MouseButton.LeftButton:
            return
        self.chosen.emit()
        x = event.position().x()
        self._dragging = self._near(x)
        if self._dragging and self._threshold is None:
            self.moved.emit(self.value_at(x))

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Drag the line, or show that it can be."""
        if event is None:
            return
        x = event.position().x()
        if self._dragging:
            self.moved.emit(self.value_at(x))
        shape = Qt.CursorShape.SplitHCursor if self._near(x) else Qt.CursorShape.ArrowCursor
        self.setCursor(shape)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Let go."""
        self._dragging = False

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:
        """Back to keeping 95 %."""
        self._dragging = False
        self.reset_asked.emit()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Arrow keys move the line, Home resets it."""
        steps = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_Down: -1, Qt.Key.Key_Up: 1}
        if event is None or self._figure is None:
            return
        if event.key() == Qt.Key.Key_Home:
            self.reset_asked.emit()
        elif event.key() in steps:
            fast = 10 if event.modifiers() & Qt.KeyboardModifier.ShiftModifier else 1
            self._step(steps[Qt.Key(event.key())] * fast)
        else:
            super().keyPressEvent(event)

    def _step(self, n: int) -> None:
        figure = self._figure
        assert figure is not None
        unit = (figure.high - figure.low) / STEPS
        start = self._threshold if self._threshold is not None else figure.high
        self.moved.emit(min(max(start + n * unit, figure.low), figure.high))

    def focusInEvent(self, event: QFocusEvent | None) -> None:
        """Show that keys go here."""
        super().focusInEvent(event)
        self.update()

    def focusOutEvent(self, event: QFocusEvent | None) -> None:
        """Show that keys go elsewhere."""
        super().focusOutEvent(event)
        self.update()

    # ---------------------------------------------------------------- drawing

    def changeEvent(self, event: QEvent | None) -> None:
        """Draw anew in the colours of another theme."""
        self._picture = None
        super().changeEvent(event)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw bars, ramp, numbers and the line."""
        painter = QPainter(self)
        plot = self._plot
        if self._figure is not None:
            painter.drawPixmap(0, 0, self._picture_of(self._figure))
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            if self._threshold is not None:
                self._draw_line(painter, plot, self._threshold)
            self._draw_numbers(painter, plot, self._figure)
        if self._active or self.hasFocus():
            color = self.palette().highlight() if self.hasFocus() else self.palette().mid()
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(color.color(), 2 if self.hasFocus() else 1))
            painter.drawRect(plot)
        painter.end()

    def _picture_of(self, figure: Figure) -> QPixmap:
        """Bars and ramp, drawn once per figure and size: a moved line must not wait for them."""
        ratio = self.devicePixelRatioF()
        size = (self.size() * ratio).expandedTo(QSize(1, 1))
        if self._picture is None or self._picture.size() != size:
            self._picture = QPixmap(size)
            self._picture.setDevicePixelRatio(ratio)
            self._picture.fill(Qt.GlobalColor.transparent)
            painter = QPainter(self._picture)
            painter.fillRect(self._plot, self.palette().base())
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            self._draw_bars(painter, self._plot, figure)
            self._draw_ramp(painter, self._plot)
            painter.end()
        return self._picture

    def _draw_bars(self, painter: QPainter, plot: QRectF, figure: Figure) -> None:
        groups = [c for c in (figure.counts, figure.familiar) if c is not None]
        # The outer bins hold all that lies beyond: they may rise above the plot.
        highest = max(float(c[1:-1].max()) for c in groups) or max(float(c.max()) for c in groups)
        scale = plot.height() - 3
        painter.setPen(Qt.PenStyle.NoPen)
        if figure.familiar is not None:
            behind = self.palette().windowText().color()
            behind.setAlpha(FAMILIAR_ALPHA)
            painter.fillPath(_steps(plot, _heights(figure.familiar, highest) * scale), behind)
        front = QColor(INK)
        front.setAlpha(200)
        painter.fillPath(_steps(plot, _heights(figure.counts, highest) * scale), front)

    def _draw_ramp(self, painter: QPainter, plot: QRectF) -> None:
        """The colours of the map below the bars, so that a place has its colour on the slide."""
        left, right = (self.x_of(v) for v in self._bar)
        y, n = plot.bottom() + 1, self._ramp.width()
        painter.drawImage(QRectF(left, y, right - left, RAMP_PX), self._ramp)
        last = QRectF(right, y, plot.right() - right, RAMP_PX)
        painter.drawImage(last, self._ramp, QRectF(n - 1, 0, 1, 1))

    def _draw_line(self, painter: QPainter, plot: QRectF, value: float) -> None:
        x = self.x_of(value)
        shade = self.palette().windowText().color()
        shade.setAlpha(28)
        painter.fillRect(QRectF(x, plot.top(), plot.right() - x, plot.height()), shade)
        painter.setPen(QPen(self.palette().windowText().color(), 2))
        painter.drawLine(QPointF(x, plot.top()), QPointF(x, plot.bottom() + RAMP_PX + 1))
        painter.setBrush(self.palette().windowText())
        painter.drawEllipse(QPointF(x, plot.top() + 4), 3.5, 3.5)

    def _draw_numbers(self, painter: QPainter, plot: QRectF, figure: Figure) -> None:
        metrics = self.fontMetrics()
        baseline = plot.bottom() + RAMP_PX + 3 + metrics.ascent()
        places = [(plot.left(), figure.low), (plot.right(), figure.high)]
        if self._threshold is not None:
            places.insert(0, (self.x_of(self._threshold), self._threshold))
        painter.setPen(QPen(self.palette().windowText().color()))
        taken: list[tuple[float, float]] = []
        for x, value in places:
            text = f"{value:.3g}"
            width = metrics.horizontalAdvance(text)
            start = min(max(x - width / 2, 0.0), self.width() - width)
            if all(start + width + 6 < low or start > high + 6 for low, high in taken):
                taken.append((start, start + width))
                painter.drawText(QPointF(start, baseline), text)


def _heights(shares: NDArray[np.float64], highest: float) -> NDArray[np.float64]:
    """Heights of bars, 0 to 1: square roots, or the few foreign tiles would not be seen."""
    return np.sqrt(np.minimum(shares / highest, 1.0)) if highest else np.zeros_like(shares)


def _steps(plot: QRectF, heights: NDArray[np.float64]) -> QPainterPath:
    """Outline of bars of these heights, from the bottom of the plot."""
    width = plot.width() / len(heights)
    path = QPainterPath(QPointF(plot.left(), plot.bottom()))
    for i, height in enumerate(heights.tolist()):
        # A bin with a single tile of a million still has a line of its own.
        y = plot.bottom() - (max(height, 1.0) if height > 0 else 0.0)
        path.lineTo(plot.left() + i * width, y)
        path.lineTo(plot.left() + (i + 1) * width, y)
    path.lineTo(plot.right(), plot.bottom())
    path.closeSubpath()
    return path
