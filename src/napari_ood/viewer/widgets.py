"""Small widgets that the docks are made of. They know Qt and nothing of sessions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QFont, QImage, QPainter, QPaintEvent, QPen, QPixmap, QPolygonF
from qtpy.QtWidgets import (
    QButtonGroup,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

SWATCH_PX = 12
BAR_HEIGHT_PX = 14
MARKER_PX = 8
TISSUE = "#e6bcd2"
"""Pink under the colour bar: the maps are translucent, so it shows them as they look on tissue."""

E = TypeVar("E", bound=StrEnum)


def text_label(text: str = "", *, bold: bool = False, muted: bool = False) -> QLabel:
    """Label that wraps, can be copied from, and never widens its dock."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    font = QFont(label.font())
    font.setBold(bold)
    font.setItalic(muted)
    label.setFont(font)
    return label


@contextmanager
def painted_later(widget: QWidget) -> Iterator[None]:
    """Context in which a widget that paints at once, as a progress bar does, does not.

    It is painted with whatever else changes: each time the whole window is composed anew.
    """
    widget.setUpdatesEnabled(False)
    try:
        yield
    finally:
        widget.setUpdatesEnabled(True)


def breakable(name: str) -> str:
    """A file name that a label may break after ``_ - . /`` where it would be cut off."""
    return re.sub(r"([_\-./\\])(?=\S)", "\\1\u200b", name)


def capitalised(text: str) -> str:
    """The same with a large first letter; the others stay as they are."""
    return text[:1].upper() + text[1:]


def sentence(message: str) -> str:
    """An error's message, which begins small and has no full stop, as a sentence."""
    ended = message.endswith((".", "…", "?", "!")) or not message
    return capitalised(message) + ("" if ended else ".")


def swatch(color: str, size: int = SWATCH_PX) -> QPixmap:
    """A square of one colour."""
    pixmap = QPixmap(size, size)
    pixmap.fill(QColor(color))
    return pixmap


class Section(QWidget):
    """A titled block of a dock; children go into ``body``."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.body = QVBoxLayout()
        self.body.setContentsMargins(0, 0, 0, 0)
        self.body.setSpacing(5)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self.heading = text_label(title, bold=True)
        self.heading.setTextInteractionFlags(Qt.TextInteractionFlag.NoTextInteraction)
        layout.addWidget(self.heading)
        layout.addLayout(self.body)


class Disclosure(QWidget):
    """A button that shows and hides one wrapped text."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self.button = QPushButton()
        self.button.setCheckable(True)
        self.text = text_label()
        self.text.setTextFormat(Qt.TextFormat.RichText)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.text)
        self.button.toggled.connect(self._show)
        self._show(False)

    def _show(self, opened: bool) -> None:
        self.button.setText(f"{'Hide' if opened else 'Show'} {self._title}")
        self.text.setVisible(opened)


class Segmented(QWidget, Generic[E]):
    """Buttons of which one is pressed, or none."""

    chosen = Signal(object)

    def __init__(self, options: Sequence[tuple[E | None, str]]) -> None:
        super().__init__()
        self._group = QButtonGroup(self)
        self._group.setExclusive(True)
        self._values = [value for value, _ in options]
        self._buttons: list[QPushButton] = []
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for i, (_, title) in enumerate(options):
            button = QPushButton(title)
            button.setCheckable(True)
            self._group.addButton(button, i)
            self._buttons.append(button)
            layout.addWidget(button, 1)
        self._group.idClicked.connect(lambda i: self.chosen.emit(self._values[i]))

    def button(self, value: E | None) -> QPushButton:
        """The button of a value."""
        return self._buttons[self._values.index(value)]

    def set_value(self, value: E | None) -> None:
        """Press the button of a value without a signal."""
        self.button(value).setChecked(True)


class ColorBar(QWidget):
    """A horizontal colour bar with words at its ends and a mark at the threshold."""

    def __init__(self) -> None:
        super().__init__()
        self._image = QImage()
        self._low, self._high = 0.0, 1.0
        self._words = ("", "")
        self._threshold: float | None = None
        self._value: float | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_scale(
        self,
        table: NDArray[np.float32],
        low: float,
        high: float,
        words: tuple[str, str],
    ) -> None:
        """Show a colour table ([n, 4] RGBA, 0 to 1) from ``low`` to ``high``."""
        self._image = bar_image(table)
        self._low, self._high, self._words = low, high, words
        self.update()

    def set_threshold(self, threshold: float | None) -> None:
        """Mark the threshold on the bar; None marks none."""
        if threshold != self._threshold:
            self._threshold = threshold
            self.update()

    def set_value(self, value: float | None) -> None:
        """Mark a value, clipped to the bar; None marks nothing."""
        if value != self._value:
            self._value = value
            self.update()

    def sizeHint(self) -> QSize:
        """Height of bar, mark and two lines of text."""
        return QSize(200, MARKER_PX + BAR_HEIGHT_PX + 6 + 2 * self.fontMetrics().height())

    minimumSizeHint = sizeHint

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw bar, ticks and words."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        bar = QRectF(1, MARKER_PX, self.width() - 2, BAR_HEIGHT_PX)
        painter.drawImage(bar, self._image)
        painter.setPen(QPen(self.palette().windowText().color(), 1))
        self._draw_ticks(painter, bar)
        if self._value is not None:
            self._draw_value(painter, bar)
        painter.end()

    def _draw_ticks(self, painter: QPainter, bar: QRectF) -> None:
        left, right = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight
        line = self.fontMetrics().height()
        words = QRectF(0, bar.bottom() + 3 + line, self.width(), line + 1)
        for align, word in ((left, self._words[0]), (right, self._words[1])):
            painter.drawText(words, align, word)
        numbers = [(0.0, f"{self._low:.3g}"), (float(self.width()), f"{self._high:.3g}")]
        if self._threshold is not None:
            x = self._x(self._threshold, bar)
            painter.drawLine(QPointF(x, bar.top()), QPointF(x, bar.bottom() + 3))
            numbers.insert(0, (x, f"{self._threshold:.3g}"))
        self._draw_numbers(painter, bar.bottom() + 3 + self.fontMetrics().ascent(), numbers)

    def _draw_numbers(
        self, painter: QPainter, baseline: float, numbers: list[tuple[float, str]]
    ) -> None:
        """Write numbers centred at their places, inside the widget; later ones yield to earlier."""
        taken: list[tuple[float, float]] = []
        for x, text in numbers:
            width = self.fontMetrics().horizontalAdvance(text)
            start = min(max(x - width / 2, 0.0), self.width() - width)
            if all(start + width + 6 < low or start > high + 6 for low, high in taken):
                taken.append((start, start + width))
                painter.drawText(QPointF(start, baseline), text)

    def _x(self, value: float, bar: QRectF) -> float:
        """Place of a value on the bar, clipped to it."""
        share = (value - self._low) / (self._high - self._low)
        return float(bar.left() + min(max(share, 0.0), 1.0) * bar.width())

    def _draw_value(self, painter: QPainter, bar: QRectF) -> None:
        assert self._value is not None
        x = self._x(self._value, bar)
        painter.setBrush(self.palette().windowText())
        corners = [(x - 5, 0.0), (x + 5, 0.0), (x, bar.top())]
        painter.drawPolygon(QPolygonF([QPointF(*corner) for corner in corners]))


def bar_image(table: NDArray[np.float32]) -> QImage:
    """One row of pixels: the table drawn over tissue."""
    tissue = np.array(QColor(TISSUE).getRgbF()[:3])
    alpha = table[:, 3:]
    rgb = table[:, :3] * alpha + tissue * (1 - alpha)
    pixels = np.ascontiguousarray((rgb * 255).round().astype(np.uint8))
    n = len(pixels)
    # copy(): QImage does not keep the numpy buffer alive.
    return QImage(pixels.tobytes(), n, 1, 3 * n, QImage.Format.Format_RGB888).copy()


class ClassLegend(QWidget):
    """Colour, name, count and share of each class; the most frequent first when there are many."""

    MAX_ROWS = 12

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(1, 1)
        self._rows: list[tuple[QLabel, QLabel, QLabel]] = []
        self._shown: tuple[object, ...] = ()

    def show_counts(
        self, names: Sequence[str], colors: Sequence[str], counts: Sequence[int] | None = None
    ) -> None:
        """Show classes, with the number of tiles of each where given."""
        shown = (tuple(names), tuple(colors), None if counts is None else tuple(counts))
        if shown == self._shown:
            return
        self._shown = shown
        order = list(range(len(names)))
        if len(names) > self.MAX_ROWS and counts is not None:
            order.sort(key=lambda i: -counts[i])
        order = order[: self.MAX_ROWS]
        self._set_n_rows(len(order))
        total = max(1, sum(counts)) if counts is not None else 1
        for (icon, name, number), i in zip(self._rows, order, strict=True):
            icon.setPixmap(swatch(colors[i]))
            name.setText(names[i])
            if counts is None:
                number.setText("")
            else:
                number.setText(f"{counts[i]:,} tiles · {100 * counts[i] / total:.0f} %")

    def show_probabilities(
        self, names: Sequence[str], colors: Sequence[str], probabilities: Sequence[float]
    ) -> None:
        """Show the probability of each class, the most probable first."""
        order = sorted(range(len(names)), key=lambda i: -probabilities[i])[: self.MAX_ROWS]
        self._shown = ()
        self._set_n_rows(len(order))
        for (icon, name, number), i in zip(self._rows, order, strict=True):
            icon.setPixmap(swatch(colors[i]))
            name.setText(names[i])
            number.setText(f"{100 * probabilities[i]:.0f} %")

    def show_texts(self, names: Sequence[str], colors: Sequence[str], texts: Sequence[str]) -> None:
        """Show classes with a text beside each, in the order given."""
        shown = (tuple(names), tuple(colors), tuple(texts))
        if shown == self._shown:
            return
        self._shown = shown
        rows = list(zip(names, colors, texts, strict=True))[: self.MAX_ROWS]
        self._set_n_rows(len(rows))
        for labels, (name, color, text) in zip(self._rows, rows, strict=True):
            labels[0].setPixmap(swatch(color))
            labels[1].setText(name)
            labels[2].setText(text)

    def _set_n_rows(self, n: int) -> None:
        while len(self._rows) > n:
            for label in self._rows.pop():
                self._grid.removeWidget(label)
                label.deleteLater()
        while len(self._rows) < n:
            row = (QLabel(), text_label(), QLabel())
            for column, label in enumerate(row):
                self._grid.addWidget(label, len(self._rows), column)
            self._rows.append(row)
