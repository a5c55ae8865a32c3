"""Deletion and insertion curves of a saliency map. Knows Qt, nothing of sessions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

PLOT_PX = 96
FAINT_ALPHA = 110
PROBABILITY = "probability"
"""Unit of curves that are shown in per cent."""
DELETION, INSERTION = "#f57c00", "#00acc1"


class CurvesPlot(QWidget):
    """How the target changes as ever more of the most salient pixels go, or come."""

    def __init__(self) -> None:
        super().__init__()
        self._fractions: NDArray[np.floating] = np.zeros(0)
        self._curves: tuple[tuple[str, NDArray[np.floating]], ...] = ()
        self._range = (0.0, 1.0)
        self._name, self._unit = "", ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_curves(
        self,
        fractions: NDArray[np.floating],
        deletion: NDArray[np.floating],
        insertion: NDArray[np.floating],
        name: str,
        unit: str,
    ) -> None:
        """Show both curves over the share of pixels, each [n]; ``name`` says what they are of."""
        self._name, self._unit = name, unit
        self.setAccessibleName(f"{name}, while pixels are blurred or revealed")
        self._fractions = fractions
        self._curves = ((DELETION, deletion), (INSERTION, insertion))
        values = np.concatenate([deletion, insertion])
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        if unit == PROBABILITY:
            low, high = 0.0, 1.0  # the same axis for every tile
        self._range = (low, high if high > low else low + 1.0)
        self.update()

    def sizeHint(self) -> QSize:
        """The name, the plot, and one line of numbers."""
        return QSize(200, PLOT_PX + self.fontMetrics().height() * 5 // 2 + 8)

    minimumSizeHint = sizeHint

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw axes and curves."""
        line = self.fontMetrics().height()
        left = max(map(self.fontMetrics().horizontalAdvance, self._ends())) + 6
        plot = QRectF(left, line * 3 / 2 + 2, self.width() - left - 4, PLOT_PX)
        painter = QPainter(self)
        painter.setPen(QPen(self.palette().windowText().color()))
        name = self.fontMetrics().elidedText(
            self._name, Qt.TextElideMode.ElideRight, self.width() - 4
        )
        painter.drawText(QRectF(0, 0, self.width() - 4, line), Qt.AlignmentFlag.AlignLeft, name)
        painter.fillRect(plot, self.palette().base())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._draw_axes(painter, plot)
        for color, values in self._curves:
            self._draw_curve(painter, plot, color, values)
        painter.end()

    def _ends(self) -> tuple[str, str]:
        """Both ends of the upright axis."""
        low, high = self._range
        if self._unit == PROBABILITY:
            return f"{100 * low:.0f} %", f"{100 * high:.0f} %"
        return f"{low:.3g}".replace("-", "−"), f"{high:.3g}".replace("-", "−")

    def _draw_curve(
        self, painter: QPainter, plot: QRectF, color: str, values: NDArray[np.floating]
    ) -> None:
        low, high = self._range
        path, begun = QPainterPath(), False
        for x, y in zip(self._fractions, values, strict=True):
            if not np.isfinite(y):
                continue
            at = QPointF(
                plot.left() + float(x) * plot.width(),
                plot.bottom() - (float(y) - low) / (high - low) * plot.height(),
            )
            (path.lineTo if begun else path.moveTo)(at)
            begun = True
        painter.setPen(QPen(QColor(color), 2))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPath(path)

    def _draw_axes(self, painter: QPainter, plot: QRectF) -> None:
        ink = self.palette().windowText().color()
        faint = QColor(ink)
        faint.setAlpha(FAINT_ALPHA)
        painter.setPen(QPen(faint, 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(plot)
        painter.setPen(QPen(ink))
        line = self.fontMetrics().height()
        right, centre = Qt.AlignmentFlag.AlignRight, Qt.AlignmentFlag.AlignHCenter
        for text, y in zip(self._ends(), (plot.bottom(), plot.top()), strict=True):
            box = QRectF(0, y - line / 2, plot.left() - 4, line)
            painter.drawText(box, right | Qt.AlignmentFlag.AlignVCenter, text)
        below = QRectF(plot.left(), plot.bottom() + 2, plot.width(), line)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "0 %")
        painter.drawText(below, centre, "pixels, most salient first")
        painter.drawText(below, right, "100 %")
