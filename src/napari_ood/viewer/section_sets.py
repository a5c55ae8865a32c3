"""Conformal prediction sets: the classes that cannot be ruled out at a chosen error rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout
from superqt.utils import signals_blocked

from napari_ood.scores.conformal import METHODS
from napari_ood.viewer.section_meaning import spin_box
from napari_ood.viewer.widgets import Section, text_label

if TYPE_CHECKING:
    from napari_ood.viewer.sets import Sets, SetsAsked

TITLES = {"lac": "Smallest sets (LAC)", "aps": "Adaptive sets (APS)"}
START = 0.05
"""Error rate that is asked for first."""


class SetsSection(Section):
    """Signals
    -------
    asked(error, method) : an error rate and ``lac`` or ``aps``; None for no sets
    outlined(on) : outline the tiles whose set is not a single class, instead of flagged ones
    """

    asked = Signal(object, str)
    outlined = Signal(bool)

    def __init__(self) -> None:
        super().__init__("Conformal prediction sets")
        self.on = QCheckBox("At an error rate of")
        self.error = spin_box(0.1, 50.0, 1, " %")
        self.error.setValue(100 * START)
        self.method = QComboBox()
        self.method.addItems([TITLES[method] for method in METHODS])
        self.outline = QCheckBox("Outline tiles that are not one class")
        self.text = text_label()
        self.on.toggled.connect(self._ask)
        self.error.valueChanged.connect(self._ask)
        self.method.activated.connect(self._ask)
        self.outline.toggled.connect(self.outlined)
        row = QHBoxLayout()
        row.addWidget(self.on, 1)
        row.addWidget(self.error)
        self.body.addLayout(row)
        for widget in (self.method, self.outline, self.text):
            self.body.addWidget(widget)

    def _ask(self, *_: object) -> None:
        error = self.error.value() / 100 if self.on.isChecked() else None
        self.asked.emit(error, METHODS[self.method.currentIndex()])

    def show_sets(self, asked: SetsAsked | None, sets: Sets | None, outlined: bool) -> None:
        """Show what was asked for and what came of it."""
        with signals_blocked(self.on), signals_blocked(self.error), signals_blocked(self.method):
            self.on.setChecked(asked is not None)
            if asked is not None:
                self.error.setValue(100 * asked.error)
                self.method.setCurrentIndex(METHODS.index(asked.method))
        with signals_blocked(self.outline):
            self.outline.setChecked(outlined)
        self.method.setVisible(asked is not None)
        self.outline.setVisible(asked is not None)
        self.text.setVisible(sets is not None)
        if sets is not None:
            self.text.setText(sets.words())
