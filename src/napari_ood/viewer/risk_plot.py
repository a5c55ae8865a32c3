"""The risk-coverage curve of the bundle's held-out tiles with its operating point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPaintEvent, QPen, QPixmap
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_ood.viewer.histogram import INK

if TYPE_CHECKING:
    from napari_ood.evaluation.selective import RiskCoverage

PLOT_PX = 84
MAX_POINTS = 400
LEAST_RISK = 0.01
"""The axis goes up to this at least: a model without an error is not drawn at the top."""


class RiskPlot(QWidget):
    """Error among kept tiles against the share that is kept; the dot is the threshold's."""

    def __init__(self) -> None:
        super().__init__()
        self._curve: RiskCoverage | None = None
        self._picture: QPixmap | None = None
        self._point: tuple[float, float] | None = None
        self._target: float | None = None
        self._top = LEAST_RISK
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "On the bundle's held-out tiles: how many of the kept ones the model gets wrong,\n"
            "if so many are kept. The dot is where the threshold stands."
        )

    def set_curve(self, curve: RiskCoverage | None) -> None:
        """Show a curve."""
        self._curve, self._picture = curve, None
        if curve is not None and len(curve.risk):
            # The first few tiles say next to nothing, and one error among them is 100 %.
            solid = curve.risk[curve.coverage >= 0.05]
            self._top = max(LEAST_RISK, 1.1 * float(solid.max()) if len(solid) else 1.0)
        self.update()

    def set_point(self, point: tuple[float, float] | None, target: float | None) -> None:
        """Mark (coverage, risk) of the threshold, and the error that was asked for."""
        if (point, target) != (self._point, self._target):
            self._point, self._target = point, target
            self.update()

    def sizeHint(self) -> QSize:
        """Plot and two lines of numbers."""
        return QSize(200, PLOT_PX + 2 * self.fontMetrics().height())

    minimumSizeHint = sizeHint

    def changeEvent(self, event: QEvent | None) -> None:
        """Draw anew in the colours of another theme."""
        self._picture = None
        super().changeEvent(event)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw axes, curve, target and operating point."""
        plot = self._plot
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._picture_of(plot))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._target is not None and self._target <= self._top:
            self._draw_target(painter, plot, self._target)
        if self._point is not None:
            painter.setPen(QPen(self.palette().windowText().color(), 1.5))
            painter.setBrush(QColor(INK))
            painter.drawEllipse(self._at(plot, *self._point), 5.0, 5.0)
        painter.end()

    @property
    def _plot(self) -> QRectF:
        left = self.fontMetrics().horizontalAdvance("00.0 %") + 4
        return QRectF(left, self.fontMetrics().height() / 2, self.width() - left - 8, PLOT_PX)

    def _picture_of(self, plot: QRectF) -> QPixmap:
        """Curve and axes, drawn once per curve and size: a moved dot must not wait for them."""
        ratio = self.devicePixelRatioF()
        size = (self.size() * ratio).expandedTo(QSize(1, 1))
        if self._picture is None or self._picture.size() != size:
            self._picture = QPixmap(size)
            self._picture.setDevicePixelRatio(ratio)
            self._picture.fill(Qt.GlobalColor.transparent)
            painter = QPainter(self._picture)
            painter.fillRect(plot, self.palette().base())
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            if self._curve is not None:
                self._draw_curve(painter, plot, self._curve)
            self._draw_axes(painter, plot)
            painter.end()
        return self._picture

    def _at(self, plot: QRectF, coverage: float, risk: float) -> QPointF:
        y = plot.bottom() - min(risk / self._top, 1.0) * plot.height()
        return QPointF(plot.left() + coverage * plot.width(), y)

    def _draw_curve(self, painter: QPainter, plot: QRectF, curve: RiskCoverage) -> None:
        n = len(curve.coverage)
        step = max(1, n // MAX_POINTS)
        # Counted from the end: the point where all are kept is always drawn.
        rows = range((n - 1) % step, n, step)
        path = QPainterPath()
        for k, i in enumerate(rows):
            point = self._at(plot, float(curve.coverage[i]), float(curve.risk[i]))
            (path.lineTo if k else path.moveTo)(point)
        painter.setPen(QPen(QColor(INK), 2))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPath(path)

    def _draw_target(self, painter: QPainter, plot: QRectF, target: float) -> None:
        painter.setPen(QPen(self.palette().windowText().color(), 1, Qt.PenStyle.DashLine))
        y = self._at(plot, 0.0, target).y()
        painter.drawLine(QPointF(plot.left(), y), QPointF(plot.right(), y))

    def _draw_axes(self, painter: QPainter, plot: QRectF) -> None:
        painter.setPen(QPen(self.palette().windowText().color()))
        height = self.fontMetrics().height()
        right, centre = Qt.AlignmentFlag.AlignRight, Qt.AlignmentFlag.AlignHCenter
        for risk in (0.0, self._top):
            y = self._at(plot, 0.0, risk).y()
            box = QRectF(0, y - height / 2, plot.left() - 4, height)
            painter.drawText(box, right | Qt.AlignmentFlag.AlignVCenter, f"{100 * risk:.1f} %")
        line = QRectF(plot.left(), plot.bottom() + 2, plot.width(), height)
        painter.drawText(line, Qt.AlignmentFlag.AlignLeft, "0 %")
        painter.drawText(line, centre, "held-out tiles kept")
        painter.drawText(line, right, "100 %")
