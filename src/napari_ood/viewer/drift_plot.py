"""Shares of a scanner's slides over time, with their control chart. Knows Qt, no sessions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QHelpEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QPolygonF,
)
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_ood.passport import Light
from napari_ood.viewer.histogram import INK
from napari_ood.viewer.section_passport import COLORS

if TYPE_CHECKING:
    from napari_ood.board import SlideRow, Track

LEAST_PX = 120
NEAR_PX = 12
"""How near a dot the mouse means it."""
DOT_PX = 3.5
MOST_DOTS = 3000
"""Dots beyond these would be a blot and take longer than a frame; of more, every n-th is drawn."""
LEVELS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
EXPECTED = 0.05
LEAST_TOP = 0.12
EPOCH = date(1970, 1, 1)

Floats = NDArray[np.float64]


class DriftPlot(QWidget):
    """Dots are slides; the band is what is usual, the line the moving average.

    Signals
    -------
    chosen(place) : a dot was clicked
    opened(place) : a dot was double-clicked
    """

    chosen = Signal(int)
    opened = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._track: Track | None = None
        self._lights: Sequence[Light] = ()
        self._names: Sequence[str] = ()
        self._picture: QPixmap | None = None
        self._current: int | None = None
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def set_track(self, track: Track | None, rows: Sequence[SlideRow]) -> None:
        """Show a scanner's slides; None for nothing."""
        self._track, self._picture = track, None
        places = track.rows.tolist() if track is not None else []
        self._lights = [Light(rows[i].light) for i in places]
        self._names = [rows[i].name for i in places]
        self.update()

    def set_current(self, place: int | None) -> None:
        """Mark a slide."""
        if place != self._current:
            self._current = place
            self.update()

    def sizeHint(self) -> QSize:
        """Wide and low."""
        return QSize(320, LEAST_PX + 40)

    def minimumSizeHint(self) -> QSize:
        """Enough for axes and a curve."""
        return QSize(180, LEAST_PX)

    # ---------------------------------------------------------------- mouse

    def event(self, event: QEvent | None) -> bool:
        """Say which slide a dot is."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            i = self.dot_at(QPointF(event.pos()))
            if i is None:
                QToolTip.hideText()
            else:
                QToolTip.showText(event.globalPos(), self._words(i), self)
            return True
        return bool(super().event(event))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Choose the slide of a dot."""
        i = None if event is None else self.dot_at(event.position())
        if i is not None and self._track is not None:
            self.chosen.emit(int(self._track.rows[i]))

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:
        """Open the slide of a dot."""
        i = None if event is None else self.dot_at(event.position())
        if i is not None and self._track is not None:
            self.opened.emit(int(self._track.rows[i]))

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Show that a dot can be clicked."""
        over = event is not None and self.dot_at(event.position()) is not None
        hand, arrow = Qt.CursorShape.PointingHandCursor, Qt.CursorShape.ArrowCursor
        self.setCursor(hand if over else arrow)

    def dot_at(self, position: QPointF) -> int | None:
        """The dot under the mouse, by its number in the track."""
        if self._track is None or not len(self._track.rows):
            return None
        x, y = self._points(self._track.days, self._track.shares)
        distance = np.hypot(x - position.x(), y - position.y())
        nearest = int(distance.argmin())
        return nearest if distance[nearest] <= NEAR_PX else None

    def _words(self, i: int) -> str:
        assert self._track is not None
        share = f"{100 * float(self._track.shares[i]):.1f} %"
        text = f"{self._names[i]}: {share}, {self._track.dates[i][:10]}"
        return f"{text}\nthe moving average is out of its limits" if self._track.out[i] else text

    # ---------------------------------------------------------------- places

    @property
    def _plot(self) -> QRectF:
        metrics = self.fontMetrics()
        left, line = metrics.horizontalAdvance("100 %") + 8, metrics.height()
        return QRectF(left, 6, self.width() - left - 8, self.height() - line - 14)

    @property
    def _top(self) -> float:
        track = self._track
        if track is None or not len(track.rows):
            return LEAST_TOP
        top = float(track.shares.max())
        if track.high is not None:
            # Limits far beyond all slides would squeeze these together.
            top = max(top, min(float(track.high.max()), 2 * top))
        return min(1.0, max(LEAST_TOP, 1.08 * top))

    def _span(self) -> tuple[float, float]:
        assert self._track is not None
        first, last = float(self._track.days[0]), float(self._track.days[-1])
        return (first, last) if last - first >= 1 else (first - 0.5, last + 0.5)

    def _points(self, days: Floats, shares: Floats) -> tuple[Floats, Floats]:
        """Pixels, on a square-root scale: 2 and 5 % are told apart beside 70 %."""
        plot, (first, last) = self._plot, self._span()
        x = plot.left() + (days - first) / (last - first) * plot.width()
        y = plot.bottom() - np.sqrt(np.clip(shares / self._top, 0, 1)) * plot.height()
        return np.asarray(x, np.float64), np.asarray(y, np.float64)

    def _y(self, share: float) -> float:
        plot = self._plot
        return plot.bottom() - float(np.sqrt(min(share / self._top, 1.0))) * plot.height()

    # ---------------------------------------------------------------- drawing

    def changeEvent(self, event: QEvent | None) -> None:
        """Draw anew in the colours of another theme."""
        self._picture = None
        super().changeEvent(event)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the chart, and a ring around the chosen slide."""
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._picture_now())
        places = self._track.rows.tolist() if self._track is not None else []
        if self._track is not None and self._current in places:
            i = places.index(self._current)
            x, y = self._points(self._track.days[i : i + 1], self._track.shares[i : i + 1])
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(self.palette().windowText().color(), 2))
            painter.drawEllipse(QPointF(x[0], y[0]), 2 * DOT_PX, 2 * DOT_PX)
        painter.end()

    def _picture_now(self) -> QPixmap:
        """Everything but the ring, drawn once per track and size."""
        ratio = self.devicePixelRatioF()
        size = (self.size() * ratio).expandedTo(QSize(1, 1))
        if self._picture is None or self._picture.size() != size:
            self._picture = QPixmap(size)
            self._picture.setDevicePixelRatio(ratio)
            self._picture.fill(Qt.GlobalColor.transparent)
            painter = QPainter(self._picture)
            painter.setFont(self.font())
            painter.fillRect(self._plot, self.palette().base())
            self._draw_levels(painter)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            if self._track is not None and len(self._track.rows):
                self._draw_dates(painter)
                self._draw_chart(painter, self._track)
                self._draw_dots(painter, self._track)
            painter.end()
        return self._picture

    def _draw_levels(self, painter: QPainter) -> None:
        plot, height = self._plot, self.fontMetrics().height()
        faint = QColor(self.palette().windowText().color())
        faint.setAlphaF(0.15)
        above: float | None = None
        for level in sorted(LEVELS, reverse=True):
            y = self._y(level)
            if level > self._top or (above is not None and y - above < height and level):
                continue
            above = y
            painter.setPen(QPen(faint))
            painter.drawLine(QPointF(plot.left(), y), QPointF(plot.right(), y))
            painter.setPen(self.palette().windowText().color())
            box = QRectF(0, y - height / 2, plot.left() - 6, height)
            right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(box, right, f"{100 * level:.0f} %")
        faint.setAlphaF(0.6)
        painter.setPen(QPen(faint, 1, Qt.PenStyle.DotLine))
        y = self._y(EXPECTED)
        painter.drawLine(QPointF(plot.left(), y), QPointF(plot.right(), y))

    def _draw_dates(self, painter: QPainter) -> None:
        plot, height = self._plot, self.fontMetrics().height()
        painter.setPen(self.palette().windowText().color())
        box = QRectF(plot.left(), plot.bottom() + 3, plot.width(), height)
        sides = (Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight)
        for day, side in zip(self._span(), sides, strict=True):
            painter.drawText(box, side, (EPOCH + timedelta(day)).isoformat())

    def _draw_chart(self, painter: QPainter, track: Track) -> None:
        painter.setBrush(Qt.BrushStyle.NoBrush)
        if track.ewma is not None and track.low is not None and track.high is not None:
            outline = _corners(*self._points(track.days, track.high))
            outline += _corners(*self._points(track.days[::-1], track.low[::-1]))
            band = QColor(INK)
            band.setAlphaF(0.2)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(band)
            painter.drawPolygon(QPolygonF(outline))
            painter.setBrush(Qt.BrushStyle.NoBrush)
        grey = QColor(self.palette().windowText().color())
        grey.setAlphaF(0.45)
        painter.setPen(QPen(grey, 1))
        painter.drawPolyline(_path(*self._points(track.days, track.median)))
        if track.ewma is not None:
            painter.setPen(QPen(QColor(INK), 2))
            painter.drawPolyline(_path(*self._points(track.days, track.ewma)))

    def _draw_dots(self, painter: QPainter, track: Track) -> None:
        x, y = self._points(track.days, track.shares)
        out = track.out
        for i in range(0, len(x), max(1, len(x) // MOST_DOTS)):
            color = QColor(COLORS[self._lights[i]])
            painter.setPen(QPen(self.palette().windowText().color() if out[i] else color.darker()))
            painter.setBrush(color)
            painter.drawEllipse(QPointF(x[i], y[i]), DOT_PX, DOT_PX)


def _path(x: Floats, y: Floats) -> QPolygonF:
    return QPolygonF(_corners(x, y))


def _corners(x: Floats, y: Floats) -> list[QPointF]:
    return [QPointF(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
