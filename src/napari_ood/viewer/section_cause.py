"""A named probable cause for the chosen tile, with the measured numbers that speak for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_ood.explain.cause_rules import SHARE
from napari_ood.explain.causes import NOTHING
from napari_ood.viewer.widgets import sentence, text_label

if TYPE_CHECKING:
    from napari_ood.explain import Cause, Evidence
    from napari_ood.viewer.inspector_state import Answer

HEADINGS = ("measured", "value", "usual")
FAMILIAR = "Its scores are below their thresholds all the same."


class CauseSection(QWidget):
    """Name, one sentence, and a table of numbers; what lies outside of the usual is marked."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.words, self.message = text_label(bold=True), text_label(), text_label()
        self._cells: list[QLabel] = []
        self._table = QGridLayout()
        self._table.setContentsMargins(0, 0, 0, 0)
        self._table.setHorizontalSpacing(10)
        self._table.setVerticalSpacing(3)
        self._table.setColumnStretch(0, 1)
        self.note = text_label(
            "A hint from simple measurements, not a finding. Usual: all but 1 % of the tiles that "
            "the bundle was trained on.",
            muted=True,
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for widget in (self.message, self.name, self.words):
            layout.addWidget(widget)
        layout.addLayout(self._table)
        layout.addWidget(self.note)

    def show_cause(self, answer: Answer[Cause], foreign: bool | None) -> None:
        """Show the answer for one tile; ``foreign`` by its thresholds, None where not known."""
        cause = answer.value
        self.message.setText(sentence(answer.words))
        self.message.setVisible(bool(answer.words))
        for widget in (self.name, self.words, self.note):
            widget.setVisible(cause is not None)
        self._clear()
        if cause is None:
            return
        self.name.setText(cause.name[:1].upper() + cause.name[1:])
        self.words.setText(cause_in_words(cause, foreign))
        for column, heading in enumerate(HEADINGS if cause.evidence else ()):
            self._put(0, column, f"<i>{heading}</i>")
        for row, evidence in enumerate(cause.evidence, 1):
            for column, text in enumerate(evidence_row(evidence)):
                self._put(row, column, text)

    def _put(self, row: int, column: int, text: str) -> None:
        label = text_label(text) if column == 0 else QLabel(text)
        if column:
            label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop)
        self._table.addWidget(label, row, column)
        self._cells.append(label)

    def _clear(self) -> None:
        while self._cells:
            cell = self._cells.pop()
            self._table.removeWidget(cell)
            cell.hide()
            cell.deleteLater()


def evidence_row(evidence: Evidence) -> tuple[str, str, str]:
    """What was measured, the number with a mark where it is unusual, and what is usual."""
    low, high, value, unit = evidence.low, evidence.high, evidence.value, evidence.unit
    number = with_unit(value, unit)
    if evidence.outside:
        number = f"<b>{'▼' if low is not None and value < low else '▲'} {number}</b>"
    if low is not None and high is not None:
        same = in_unit(low, unit) == in_unit(high, unit)
        least = "" if same else f"{in_unit(low, unit)} to "
        return evidence.what, number, f"{least}{with_unit(high, unit)}"
    if high is not None:
        return evidence.what, number, f"≤ {with_unit(high, unit)}"
    return evidence.what, number, "–" if low is None else f"≥ {with_unit(low, unit)}"


def with_unit(value: float, unit: str) -> str:
    """A number as people read it: ``9.0 %``, ``−0.31 log₁₀``, ``12.4 SD``."""
    return f"{in_unit(value, unit)}\u00a0{unit}" if unit else in_unit(value, unit)


def in_unit(value: float, unit: str) -> str:
    """The number alone, with as many decimals as mean something."""
    if unit == SHARE:
        value *= 100
        decimals = 1 if 0 < abs(value) < 99.95 else 0
    else:
        decimals = 2 if abs(value) < 10 else 1
    return f"{value:.{decimals}f}".replace("-", "−")


def cause_in_words(cause: Cause, foreign: bool | None) -> str:
    """The sentence of a cause, what else applies, and what the scores say of it."""
    also = f" Also: {', '.join(cause.also)}." if cause.also else ""
    familiar = f" {FAMILIAR}" if foreign is False and cause.name != NOTHING else ""
    return f"{cause.words}{also}{familiar}"
