"""The lower part of the review dock: who reviews, whether keys work, and agreement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_ood.viewer.review_figures import figures_html
from napari_ood.viewer.review_state import Stage
from napari_ood.viewer.widgets import Disclosure

if TYPE_CHECKING:
    from napari_ood.review.verdicts import Verdict
    from napari_ood.viewer.review_state import QueueState


class ReviewTail(QWidget):
    """Reviewer's name, switch for the keys, agreement between reviewers and errors."""

    reviewer_entered = Signal(str)
    keys_toggled = Signal(bool)
    figures_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.reviewer = QLineEdit()
        self.reviewer.setToolTip("Verdicts are kept per reviewer; others' are not shown to you")
        self.reviewer.editingFinished.connect(self._enter)
        self.keys = QCheckBox("Keys")
        self.keys.setChecked(True)
        self.keys.setToolTip(
            "The keys in brackets work in the whole window while this dock is in front.\n"
            "Switch them off to use napari's own, to draw shapes for instance."
        )
        self.keys.toggled.connect(self.keys_toggled)
        self.figures = Disclosure("agreement and errors")
        self.figures.button.toggled.connect(
            lambda on: self.figures_requested.emit() if on else None
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(5)
        row = QHBoxLayout()
        row.addWidget(QLabel("Reviewer"))
        row.addWidget(self.reviewer, 1)
        row.addSpacing(8)
        row.addWidget(self.keys)
        layout.addLayout(row)
        layout.addWidget(self.figures)

    @property
    def keys_wanted(self) -> bool:
        """Whether the keys are to work."""
        return self.keys.isChecked()

    @property
    def figures_shown(self) -> bool:
        """Whether agreement and errors are on screen."""
        return self.figures.button.isChecked()

    def show_state(self, state: QueueState) -> None:
        """Show the reviewer; all of it only where there is something to review."""
        if self.reviewer.text() != state.reviewer:
            self.reviewer.setText(state.reviewer)
        self.setVisible(state.stage in (Stage.READY, Stage.EMPTY, Stage.FAILED))

    def show_figures(self, state: QueueState, verdicts: Mapping[str, tuple[Verdict, ...]]) -> None:
        """Show agreement between reviewers, and the model's errors by their verdicts."""
        self.figures.text.setText(figures_html(state, verdicts))

    def _enter(self) -> None:
        name = self.reviewer.text().strip()
        if name:
            self.reviewer_entered.emit(name)
