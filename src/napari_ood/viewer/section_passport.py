"""The rows of a slide passport: a light with words, a value, what to do, an override."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_ood.passport import Check, Light, PassportOverride
from napari_ood.viewer.reviewer import remembered_reviewer
from napari_ood.viewer.widgets import breakable, text_label

if TYPE_CHECKING:
    from qtpy.QtWidgets import QLabel

LIGHT_PX = 18
COLORS = {
    Light.GREEN: "#3fa34d",
    Light.YELLOW: "#f2c12e",
    Light.RED: "#e5484d",
    Light.GREY: "#8b919c",
}
MARKS = {Light.GREEN: "✓", Light.YELLOW: "!", Light.RED: "✕", Light.GREY: "?"}
"""Signs beside the colours: a tenth of the men who look at slides do not tell red from green."""


class LightIcon(QWidget):
    """A traffic light: a disc, a triangle or an octagon with its sign; hollow where overridden."""

    def __init__(self, size: int = LIGHT_PX) -> None:
        super().__init__()
        self._light, self._hollow = Light.GREY, False
        self._size = size
        self.setFixedSize(QSize(size, size))

    def show_light(self, light: Light, hollow: bool = False) -> None:
        """Show a light."""
        self._light, self._hollow = light, hollow
        self.setToolTip(light.words + (", overridden" if hollow else ""))
        self.setAccessibleName(self.toolTip())
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw shape and sign."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        color = QColor(COLORS[self._light])
        painter.setPen(QPen(color, 1.5))
        painter.setBrush(Qt.BrushStyle.NoBrush if self._hollow else color)
        box = QRectF(1, 1, self._size - 2, self._size - 2)
        if self._light is Light.YELLOW:
            top, left, right = box.topLeft(), box.bottomLeft(), box.bottomRight()
            painter.drawPolygon(QPolygonF([QPointF(box.center().x(), top.y()), left, right]))
            box.translate(0, self._size * 0.12)
        elif self._light is Light.RED:
            painter.drawPolygon(_octagon(box))
        else:
            painter.drawEllipse(box)
        dark = self._light is Light.YELLOW
        painter.setPen(color if self._hollow else QColor("#1b1b1b" if dark else "#ffffff"))
        font = painter.font()
        font.setBold(True)
        font.setPixelSize(round(self._size * 0.62))
        painter.setFont(font)
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, MARKS[self._light])
        painter.end()


def _octagon(box: QRectF) -> QPolygonF:
    cut = box.width() * 0.29
    x0, y0, x1, y1 = box.left(), box.top(), box.right(), box.bottom()
    corners = (
        (x0 + cut, y0), (x1 - cut, y0), (x1, y0 + cut), (x1, y1 - cut),
        (x1 - cut, y1), (x0 + cut, y1), (x0, y1 - cut), (x0, y0 + cut),
    )  # fmt: skip
    return QPolygonF([QPointF(x, y) for x, y in corners])


class CheckRow(QWidget):
    """One check; what is green takes two lines, the rest says what to do."""

    overridden = Signal(str, str, str)  # key, reason, reviewer
    withdrawn = Signal(str, str)  # key, reviewer

    def __init__(self, check: Check, override: PassportOverride | None, can_save: bool) -> None:
        super().__init__()
        self.check = check
        self.icon = LightIcon()
        self.icon.show_light(check.light, hollow=override is not None)
        text = text_label(row_text(check, override))
        text.setTextFormat(Qt.TextFormat.RichText)
        text.setToolTip(html.escape(tooltip(check)))
        column = QVBoxLayout()
        column.setSpacing(4)
        column.addWidget(text)
        self._add_actions(column, override, can_save)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.icon, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(column, 1)

    def _add_actions(
        self, column: QVBoxLayout, override: PassportOverride | None, can_save: bool
    ) -> None:
        """A button to override, or to take that back; nothing on what fits."""
        self.button: QPushButton | None = None
        if self.check.light in (Light.GREEN, Light.GREY) and override is None:
            return
        self.button = QPushButton("Withdraw the override" if override else "Override…")
        self.button.setEnabled(can_save)
        if not can_save:
            self.button.setToolTip(
                "Choose a bundle and the whole slide first: overrides are kept beside the run."
            )
        beside = QHBoxLayout()
        beside.addWidget(self.button)
        beside.addStretch(1)
        column.addLayout(beside)
        if override is not None:
            self.button.clicked.connect(
                lambda: self.withdrawn.emit(self.check.key, remembered_reviewer())
            )
            return
        self.form = OverrideForm()
        self.form.hide()
        self.form.entered.connect(lambda *what: self.overridden.emit(self.check.key, *what))
        self.form.cancelled.connect(lambda: self._open(False))
        self.button.clicked.connect(lambda: self._open(True))
        column.addWidget(self.form)

    def _open(self, opened: bool) -> None:
        assert self.button is not None
        self.button.setVisible(not opened)
        self.form.setVisible(opened)
        if opened:
            self.form.reason.setFocus()


class OverrideForm(QWidget):
    """Asks for a reason and a name."""

    entered = Signal(str, str)  # reason, reviewer
    cancelled = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.reason, self.reviewer = QLineEdit(), QLineEdit(remembered_reviewer())
        self.reason.setPlaceholderText("Why it may be passed over")
        self.reviewer.setPlaceholderText("Your name")
        self.save_button, self.cancel_button = QPushButton("Override"), QPushButton("Cancel")
        self.reason.textChanged.connect(self._enable)
        self.reviewer.textChanged.connect(self._enable)
        self.reason.returnPressed.connect(self._enter)
        self.save_button.clicked.connect(self._enter)
        self.cancel_button.clicked.connect(self.cancelled)
        layout, row = QVBoxLayout(self), QHBoxLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        row.addWidget(self.reviewer, 1)
        row.addWidget(self.save_button)
        row.addWidget(self.cancel_button)
        layout.addWidget(self.reason)
        layout.addLayout(row)
        self._enable()

    def _enable(self) -> None:
        filled = bool(self.reason.text().strip() and self.reviewer.text().strip())
        self.save_button.setEnabled(filled)

    def _enter(self) -> None:
        if self.save_button.isEnabled():
            self.entered.emit(self.reason.text(), self.reviewer.text())


class SummaryRow(QWidget):
    """The worst light that nobody overrode, and what it means."""

    def __init__(self) -> None:
        super().__init__()
        self.icon = LightIcon(2 * LIGHT_PX)
        self.text: QLabel = text_label(bold=True)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(10)
        row.addWidget(self.icon)
        row.addWidget(self.text, 1)

    def show_summary(self, light: Light, words: str) -> None:
        """Show light and words."""
        self.icon.show_light(light)
        self.text.setText(f"{words}.")


def tooltip(check: Check) -> str:
    """The words of a check, and the exact name of the score that it was decided by."""
    score = check.numbers.get("score")
    return f"{check.words}\nScore: {score}" if score else check.words


def row_text(check: Check, override: PassportOverride | None) -> str:
    """Title, light in words, value, what to do, and who passed over it; as rich text."""
    lines = [f"<b>{html.escape(check.title)}</b> · {check.light.words}"]
    if check.value != check.light.words:
        lines.append(html.escape(breakable(check.value)))
    if check.light is not Light.GREEN:
        lines.append(f"<i>{html.escape(check.words)}</i>")
    if override is not None:
        who, why = html.escape(override.reviewer), html.escape(override.reason)
        lines.append(f"Overridden by {who} on {override.time[:10]}: “{why}”")
    return "<br>".join(lines)
