"""Sections of the dock *OOD compare runs*. They know Qt and no session."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QBrush, QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
)
from superqt.utils import signals_blocked

from napari_ood.analysis.diverging import By, threshold_of
from napari_ood.viewer.comparison import ROLES, Choice, Compared, describe_run
from napari_ood.viewer.difference_layer import RAMP
from napari_ood.viewer.widgets import ColorBar, Section, Segmented, text_label

if TYPE_CHECKING:
    from napari_ood.analysis.difference import RunDifference
    from napari_ood.analysis.diverging import Divergence

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
KAPPA_WORDS = ((0.8, "almost perfect"), (0.6, "substantial"), (0.4, "moderate"), (0.2, "fair"))
"""Landis & Koch, Biometrics 33, 1977."""
MOST_CLASSES = 9
"""Beyond it the table would need a window of its own."""
LIST_ROWS = 9
ALIGNED = (*[Qt.AlignmentFlag.AlignRight] * 3, Qt.AlignmentFlag.AlignLeft)


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
        text = choice.error or (choice.why_not if len(self._paths) > 1 else "")
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _show_scores(self, choice: Choice) -> None:
        offered = (
            choice.compared.scores
            if choice.compared
            else tuple(dict.fromkeys((*ROLES, choice.score)))
        )
        with signals_blocked(self.score):
            self.score.clear()
            for name in offered:
                self.score.addItem(SCORE_TITLES.get(name, name), name)
            self.score.setCurrentIndex(self.score.findData(choice.score))


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


class RegionsSection(Section):
    """Where the runs diverge most; a chosen row is flown to."""

    by_chosen = Signal(object)  # By
    chosen = Signal(object)  # Divergence

    def __init__(self) -> None:
        super().__init__("Where they diverge most")
        self._regions: tuple[Divergence, ...] = ()
        self.by: Segmented[By] = Segmented(((By.SCORE, "By score"), (By.CLASS, "By class")))
        self.by.chosen.connect(self.by_chosen)
        self.words = text_label()
        self.list = QTableWidget(0, 4)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.list.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.list.setShowGrid(False)
        header, numbers = self.list.horizontalHeader(), self.list.verticalHeader()
        assert header is not None and numbers is not None
        numbers.setVisible(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(3, QHeaderView.ResizeMode.Stretch)
        self.list.setMinimumHeight(LIST_ROWS * numbers.defaultSectionSize())
        # The row that is current, by mouse or by arrow keys, is the one that is shown.
        self.list.currentCellChanged.connect(self._on_row)
        for widget in (self.by, self.words, self.list):
            self.body.addWidget(widget)

    def show_regions(self, choice: Choice) -> None:
        """List the regions of a comparison; nothing while there is none."""
        self.setVisible(choice.compared is not None)
        if choice.compared is None:
            return
        self.by.set_value(choice.by)
        self._regions = choice.regions
        difference = choice.compared.difference
        self.words.setText(regions_text(difference, choice.by, len(self._regions)))
        self.list.setVisible(bool(self._regions))
        area = "mm²" if any(r.area_mm2 is not None for r in self._regions) else "Tiles"
        with signals_blocked(self.list):
            self.list.setHorizontalHeaderLabels(["#", "B − A", area, "A → B"])
            self.list.setRowCount(len(self._regions))
            for row, region in enumerate(self._regions):
                for column, text in enumerate(region_cells(region)):
                    item = QTableWidgetItem(text)
                    item.setTextAlignment(ALIGNED[column] | Qt.AlignmentFlag.AlignVCenter)
                    self.list.setItem(row, column, item)
            self.list.setCurrentCell(-1, -1)

    def _on_row(self, row: int, _column: int, before: int, _before: int) -> None:
        if row != before and 0 <= row < len(self._regions):
            self.chosen.emit(self._regions[row])


def region_cells(region: Divergence) -> tuple[str, str, str, str]:
    """A region's row in the list."""
    size = f"{region.n_tiles:,}" if region.area_mm2 is None else f"{region.area_mm2:.3g}"
    same = region.label_a == region.label_b
    labels = region.label_a if same else f"{region.label_a} → {region.label_b}"
    return str(region.number), signed(region.peak), size, labels


def signed(value: float) -> str:
    """A difference with its sign; a real minus, as in the text beside it."""
    return "?" if math.isnan(value) else f"{value:+.3g}".replace("-", "−")


def facts_text(d: RunDifference) -> str:
    """Score, unit, how tiles were paired and how alike the scores are."""
    finite = d.delta[np.isfinite(d.delta)]
    name = d.names[0] if d.names[0] == d.names[1] else f"{d.names[0]} in A, {d.names[1]} in B"
    # A label breaks lines at zero-width spaces; long score names have no others.
    name = re.sub(r"([+@,(])", "\\1\u200b", name)
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


def regions_text(difference: RunDifference, by: By, n: int) -> str:
    """What the list shows, and what to do with it."""
    if by is By.CLASS:
        if not n:
            return "Both runs say the same class everywhere."
        return "Tiles whose classes differ, the largest region first. Click a row to go there."
    limit = threshold_of(difference)
    if not n:
        return f"Nowhere do the scores differ by {limit:.3g} or more."
    return f"Tiles that differ by {limit:.3g} or more, the furthest first. Click a row to go there."
