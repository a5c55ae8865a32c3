"""The lower part of the review dock: who reviews, whether keys work, and agreement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_ood.viewer.review_state import Stage
from napari_ood.viewer.widgets import Disclosure, text_label

if TYPE_CHECKING:
    from napari_ood.viewer.review_state import QueueState


FILES = "GeoJSON (*.geojson *.json *.geojson.gz *.geojson.zip)"


class ReviewTail(QWidget):
    """Reviewer's name, switch for the keys, agreement between reviewers and errors."""

    reviewer_entered = Signal(str)
    keys_toggled = Signal(bool)
    figures_requested = Signal()
    import_requested = Signal(object)  # Path

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
        self.import_button = QPushButton("Import from QuPath…")
        self.import_button.setToolTip(
            "Add verdicts from a GeoJSON file: annotations whose classification is a class, an\n"
            "artefact or unknown tissue. They become yours, unless they say whose they are."
        )
        self.import_button.clicked.connect(self._choose_file)
        self.imported = text_label()
        self.imported.hide()
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
        layout.addWidget(self.import_button)
        layout.addWidget(self.imported)

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
        self.import_button.setEnabled(state.found is not None)

    def show_figures(self, html: str) -> None:
        """Show agreement between reviewers, and the model's errors by their verdicts."""
        self.figures.text.setText(html)

    def show_import(self, text: str, busy: bool = False) -> None:
        """Say what an import does or did; nothing for none."""
        self.import_button.setEnabled(not busy)
        self.imported.setText(text)
        self.imported.setVisible(bool(text))

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import verdicts from QuPath", "", FILES)
        if path:
            self.import_requested.emit(Path(path))

    def _enter(self) -> None:
        name = self.reviewer.text().strip()
        if name:
            self.reviewer_entered.emit(name)
