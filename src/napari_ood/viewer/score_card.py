"""One score in the dock of thresholds: which it is, its histogram, what its threshold does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_ood.scores.names import score_and_formula
from napari_ood.viewer.histogram import Histogram
from napari_ood.viewer.widgets import capitalised, text_label

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_ood.analysis.summary import Summary
    from napari_ood.models import Card
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.viewer.figure import Figure
    from napari_ood.viewer.scales import Scale

NO_THRESHOLD = "No threshold: click into the histogram to set one."
SHORTEST_NAME = 12
"""Characters of a score's words that are always shown; the list has them in full."""
TIP = "Any score that the stored run can give; the network is not run."


class ScoreCard(QWidget):
    """Histogram and threshold of one overlay.

    Signals
    -------
    moved(value), reset_asked(), chosen() : of the histogram
    score_chosen(name) : another score for this overlay
    """

    moved = Signal(float)
    reset_asked = Signal()
    chosen = Signal()
    score_chosen = Signal(str)

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = text_label(title, bold=True)
        self.combo = QComboBox()
        policy = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self.combo.setSizeAdjustPolicy(policy)
        self.combo.setMinimumContentsLength(SHORTEST_NAME)
        self.combo.activated.connect(lambda i: self.score_chosen.emit(self.combo.itemData(i)))
        self.histogram = Histogram()
        self.histogram.moved.connect(self.moved)
        self.histogram.reset_asked.connect(self.reset_asked)
        self.histogram.chosen.connect(self.chosen)
        self.words = text_label()
        self.summary = text_label()
        row = QHBoxLayout()
        row.addWidget(self.title, 1)
        row.addWidget(self.combo, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(row)
        for widget in (self.histogram, self.words, self.summary):
            layout.addWidget(widget)

    def show_scores(self, names: Sequence[str], current: str, card: Card) -> None:
        """List the scores that can be chosen, in words, with their formulas."""
        words = [capitalised(score_and_formula(name, card)) for name in names]
        with signals_blocked(self.combo):
            if [self.combo.itemText(i) for i in range(self.combo.count())] != words:
                self.combo.clear()
                for text, name in zip(words, names, strict=True):
                    self.combo.addItem(text, name)
                # The list may be wider than the dock: what fused scores are called is long.
                width = max(map(self.fontMetrics().horizontalAdvance, words), default=0)
                view = self.combo.view()
                if view is not None:
                    view.setMinimumWidth(width + 40)
            self.combo.setCurrentIndex(self.combo.findData(current))
        self.combo.setToolTip(f"{self.combo.currentText()}\n{TIP}")  # it does not fit

    def show_figure(
        self, figure: Figure | None, scale: Scale, table: NDArray[np.float32], active: bool
    ) -> None:
        """Show the distribution; ``active`` when this score is on the slide."""
        self.histogram.set_figure(figure, table, (scale.low, scale.high))
        self.histogram.set_active(active)

    def move_line(self, threshold: Threshold | None) -> None:
        """Show where the threshold stands, without words."""
        self.histogram.set_threshold(None if threshold is None else threshold.value)

    def show_threshold(self, threshold: Threshold | None, summary: Summary | None) -> None:
        """Show where the threshold stands and what it does."""
        self.move_line(threshold)
        self.words.setText(
            NO_THRESHOLD
            if threshold is None
            else f"Threshold {threshold.value:.4g}: {threshold.words()}."
        )
        self.summary.setVisible(summary is not None)
        if summary is not None:
            self.summary.setText(f"{summary.words()[:1].upper()}{summary.words()[1:]}.")
