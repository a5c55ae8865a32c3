"""Section of the dock *OOD compare runs*: which runs, which score. Knows Qt and no session."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QHBoxLayout, QPushButton, QSizePolicy
from superqt.utils import signals_blocked

from napari_ood.scores.names import score_and_formula
from napari_ood.viewer.comparison import ROLES, Choice, describe_run
from napari_ood.viewer.widgets import Section, capitalised, text_label

INTRO = (
    "Two runs of one slide: two models, or one model before and after a change of the pixels. "
    "B is compared with A."
)
EMPTY = (
    "No two runs are at hand. Run the slide with two bundles, or open stored runs here: "
    "each is a folder that ends in .ood.zarr."
)
SCORE_TITLES = {
    "ood": "OOD",
    "uncertainty": "Uncertainty",
    "appearance": "OOD: appearance",
    "tissue": "OOD: tissue",
}


class ChoiceSection(Section):
    """Which runs, which score."""

    a_chosen = Signal(object)  # Path
    b_chosen = Signal(object)
    open_requested = Signal()
    swap_requested = Signal()
    score_chosen = Signal(str)
    copies_chosen = Signal(bool)
    start_requested = Signal()

    def __init__(self) -> None:
        super().__init__("Runs")
        self._paths: tuple[Path, ...] = ()
        self.intro = text_label(INTRO)
        self.a, self.b, self.score = QComboBox(), QComboBox(), QComboBox()
        for combo in (self.a, self.b, self.score):
            combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.a.activated.connect(lambda i: self.a_chosen.emit(self._paths[i]))
        self.b.activated.connect(lambda i: self.b_chosen.emit(self._paths[i]))
        self.score.activated.connect(lambda i: self.score_chosen.emit(self.score.itemData(i)))
        self.open_button = QPushButton("Open a run…")
        self.swap_button = QPushButton("Swap A and B")
        self.copies = QCheckBox("One slide is a changed copy of the other")
        self.copies.setToolTip(
            "A stain-normalised copy, say: another file of the same size in pixels, on which "
            "everything lies where it lay."
        )
        self.compare_button = QPushButton("Compare")
        self.message = text_label(muted=True)
        self.open_button.clicked.connect(self.open_requested)
        self.swap_button.clicked.connect(self.swap_requested)
        self.copies.clicked.connect(self.copies_chosen)
        self.compare_button.clicked.connect(self.start_requested)
        self._lay_out()

    def _lay_out(self) -> None:
        form, row = QFormLayout(), QHBoxLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for title, combo in (("A", self.a), ("B", self.b), ("Score", self.score)):
            form.addRow(title, combo)
        row.addWidget(self.open_button, 1)
        row.addWidget(self.swap_button, 1)
        self.body.addWidget(self.intro)
        self.body.addLayout(form)
        self.body.addLayout(row)
        self.body.addWidget(self.copies)
        self.body.addWidget(self.compare_button)
        self.body.addWidget(self.message)

    def offer(self, paths: Sequence[Path], choice: Choice) -> None:
        """Fill the lists of runs."""
        self._paths = tuple(paths)
        titles = [describe_run(path) for path in paths]
        for combo, chosen in ((self.a, choice.a), (self.b, choice.b)):
            with signals_blocked(combo):
                combo.clear()
                combo.addItems(titles)
                for i, path in enumerate(paths):
                    combo.setItemData(i, str(path), Qt.ItemDataRole.ToolTipRole)
                combo.setCurrentIndex(paths.index(chosen) if chosen in paths else -1)
        self.intro.setText(INTRO if len(paths) > 1 else EMPTY)

    def show_choice(self, choice: Choice) -> None:
        """Show what is chosen and whether it can be compared."""
        for combo, chosen in ((self.a, choice.a), (self.b, choice.b)):
            with signals_blocked(combo):
                combo.setCurrentIndex(self._paths.index(chosen) if chosen in self._paths else -1)
                combo.setToolTip(str(chosen or ""))
        self._show_scores(choice)
        for widget in (self.a, self.b, self.score, self.open_button):
            widget.setEnabled(not choice.busy)
        self.swap_button.setEnabled(not choice.busy and None not in (choice.a, choice.b))
        self.copies.setVisible(choice.copies or "copy" in choice.error)
        self.copies.setChecked(choice.copies)
        done = choice.compared is not None
        self.compare_button.setEnabled(not (choice.busy or choice.why_not or done))
        self.compare_button.setText(
            "Comparing…" if choice.busy else "Compared" if done else "Compare"
        )
        # What a terminal calls --copies is the box above.
        error = choice.error.replace(" (--copies)", "")
        text = f"{error[:1].upper()}{error[1:]}." if error else ""
        if not error and len(self._paths) > 1:
            text = choice.why_not
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _show_scores(self, choice: Choice) -> None:
        offered = (
            choice.compared.scores
            if choice.compared
            else tuple(dict.fromkeys((*ROLES, choice.score)))
        )
        card = choice.compared.difference.a.card if choice.compared else None
        with signals_blocked(self.score):
            self.score.clear()
            for name in offered:
                title = SCORE_TITLES.get(name) or capitalised(score_and_formula(name, card))
                self.score.addItem(title, name)
            self.score.setCurrentIndex(self.score.findData(choice.score))
