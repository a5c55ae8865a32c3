"""Section of the dock *OOD compare runs*: where two runs part ways. Knows Qt and no session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
)
from superqt.utils import signals_blocked

from napari_ood.analysis.diverging import By, threshold_of
from napari_ood.viewer.comparison import Choice
from napari_ood.viewer.section_difference import signed
from napari_ood.viewer.widgets import Section, Segmented, text_label

if TYPE_CHECKING:
    from napari_ood.analysis.difference import RunDifference
    from napari_ood.analysis.diverging import Divergence

LIST_ROWS = 9
ALIGNED = (*[Qt.AlignmentFlag.AlignRight] * 3, Qt.AlignmentFlag.AlignLeft)


class RegionsSection(Section):
    """Where the runs diverge most; a chosen row is flown to."""

    by_chosen = Signal(object)  # By
    chosen = Signal(object)  # Divergence
    review_requested = Signal()

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
        self._header = header
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(3, QHeaderView.ResizeMode.Stretch)
        self.list.setMinimumHeight(LIST_ROWS * numbers.defaultSectionSize())
        # The row that is current, by mouse or by arrow keys, is the one that is shown.
        self.list.currentCellChanged.connect(self._on_row)
        self.review_button = QPushButton("Review these places")
        self.review_button.clicked.connect(self.review_requested)
        self.why_not = text_label(muted=True)
        for widget in (self.by, self.words, self.list, self.review_button, self.why_not):
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
        # Columns that fit their contents measure all rows anew for each cell that is filled.
        fitted = range(self.list.columnCount() - 1)
        for column in fitted:
            self._header.setSectionResizeMode(column, QHeaderView.ResizeMode.Interactive)
        with signals_blocked(self.list):
            self.list.setHorizontalHeaderLabels(["#", "B − A", area, "A → B"])
            self.list.setRowCount(len(self._regions))
            for row, region in enumerate(self._regions):
                for column, text in enumerate(region_cells(region)):
                    item = QTableWidgetItem(text)
                    item.setTextAlignment(ALIGNED[column] | Qt.AlignmentFlag.AlignVCenter)
                    self.list.setItem(row, column, item)
            self.list.setCurrentCell(-1, -1)
        for column in fitted:
            self._header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)

    def show_review(self, why_not: str, busy: bool) -> None:
        """Offer to review the places, or say why that cannot be."""
        self.review_button.setVisible(bool(self._regions))
        self.review_button.setEnabled(not (why_not or busy))
        self.why_not.setText(why_not)
        self.why_not.setVisible(bool(why_not and self._regions))

    def _on_row(self, row: int, _column: int, before: int, _before: int) -> None:
        if row != before and 0 <= row < len(self._regions):
            self.chosen.emit(self._regions[row])


def region_cells(region: Divergence) -> tuple[str, str, str, str]:
    """A region's row in the list."""
    size = f"{region.n_tiles:,}" if region.area_mm2 is None else f"{region.area_mm2:.3g}"
    same = region.label_a == region.label_b
    labels = region.label_a if same else f"{region.label_a} → {region.label_b}"
    return str(region.number), signed(region.peak), size, labels


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
