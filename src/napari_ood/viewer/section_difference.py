"""Section of the dock *OOD compare runs*: how far two runs agree. Knows Qt and no session."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QBrush, QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHeaderView,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
)

from napari_ood.scores.names import score_and_formula, score_in_words
from napari_ood.viewer.comparison import Compared
from napari_ood.viewer.difference_layer import RAMP
from napari_ood.viewer.widgets import ColorBar, Section, text_label

if TYPE_CHECKING:
    from napari_ood.analysis.difference import RunDifference
    from napari_ood.models import Card

KAPPA_WORDS = ((0.8, "almost perfect"), (0.6, "substantial"), (0.4, "moderate"), (0.2, "fair"))
"""Landis & Koch, Biometrics 33, 1977."""
MOST_CLASSES = 9
"""Beyond it the table would need a window of its own."""


class DifferenceSection(Section):
    """The colours of the difference layer, what the numbers say, and the agreement table."""

    shown = Signal(bool)

    def __init__(self) -> None:
        super().__init__("Difference")
        self.show_box = QCheckBox("Show on the slide")
        self.show_box.clicked.connect(self.shown)
        self.bar = ColorBar()
        self.facts = text_label()
        self.agreement = text_label()
        self.table = AgreementTable()
        for widget in (self.show_box, self.bar, self.facts, self.agreement, self.table):
            self.body.addWidget(widget)

    def show_compared(self, compared: Compared | None) -> None:
        """Show an outcome; nothing while there is none."""
        self.setVisible(compared is not None)
        if compared is None:
            return
        d = compared.difference
        self.bar.set_scale(RAMP.table(), -d.scale.limit, d.scale.limit, ("A higher", "B higher"))
        self.bar.set_threshold(0.0)
        self.facts.setText(facts_text(d))
        self.facts.setToolTip("\n".join(dict.fromkeys(names_in_words(d, score_and_formula))))
        self.agreement.setText(agreement_text(d))
        self.table.show_table(d)


class AgreementTable(QTableWidget):
    """Tiles by class: rows what A says, columns what B says."""

    def __init__(self) -> None:
        super().__init__()
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = self.horizontalHeader()
        assert header is not None
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        header.setTextElideMode(Qt.TextElideMode.ElideRight)
        self._header = header
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def show_table(self, difference: RunDifference) -> None:
        """Fill it; hidden where there are no tiles or too many classes."""
        classes = difference.classes
        self.setVisible(difference.n > 0 and len(classes) <= MOST_CLASSES)
        self.setRowCount(len(classes))
        self.setColumnCount(len(classes))
        self.setVerticalHeaderLabels(classes)
        self.setHorizontalHeaderLabels(classes)
        for i, name in enumerate(classes):
            for cell in (self.verticalHeaderItem(i), self.horizontalHeaderItem(i)):
                if cell is not None:
                    cell.setToolTip(name)
        largest = max(1, int(difference.agreement.max(initial=0)))
        for (i, j), count in np.ndenumerate(difference.agreement):
            item = _count_item(int(count), i == j, count / largest)
            item.setToolTip(
                f"A says {classes[i]}, B says {classes[j]}: {count:,} of {difference.n:,} tiles"
            )
            self.setItem(i, j, item)
        rows = sum(self.rowHeight(i) for i in range(len(classes)))
        self.setFixedHeight(rows + self._header.sizeHint().height() + 4)


def _count_item(count: int, agrees: bool, share: float) -> QTableWidgetItem:
    item = QTableWidgetItem(f"{count:,}" if count else "–")
    item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
    color = QColor("#018571" if agrees else "#a6611a")
    color.setAlphaF(0.15 + 0.6 * math.sqrt(share) if count else 0.0)
    item.setBackground(QBrush(color))
    return item


def signed(value: float) -> str:
    """A difference with its sign; a real minus, as in the text beside it."""
    return "?" if math.isnan(value) else f"{value:+.3g}".replace("-", "−")


def names_in_words(d: RunDifference, say: Callable[[str, Card], str]) -> tuple[str, str]:
    """What the score is in A and in B."""
    first, second = d.names
    return say(first, d.a.card), say(second, d.b.card)


def facts_text(d: RunDifference) -> str:
    """Score, unit, how tiles were paired and how alike the scores are."""
    finite = d.delta[np.isfinite(d.delta)]
    name, other = names_in_words(d, score_in_words)
    name = name if name == other else f"{name} in A, {other} in B"
    lines = [f"B − A of {name}, {d.scale.words}."]
    if len(finite):
        lines.append(f"Median {signed(float(np.median(finite)))}.")
    if d.correlation is not None:
        lines[-1] += f" Rank correlation {d.correlation:.2f}."
    return "\n".join([*lines, d.match.words])


def agreement_text(d: RunDifference) -> str:
    """How often both say the same class."""
    if d.agreed is None:
        return "There are no tiles to compare."
    if not set(d.a.classes) & set(d.b.classes):
        return "The bundles have no class in common. Rows: A, columns: B."
    text = f"Same class on {100 * d.agreed:.1f} % of tiles."
    if d.kappa is None:
        return f"{text} Cohen's κ is not defined: both say one class everywhere."
    words = next((word for least, word in KAPPA_WORDS if d.kappa > least), "slight or none")
    return f"{text} Cohen's κ {d.kappa:.2f} ({words}). Rows: A, columns: B."
