"""The upper part of the review dock: which regions, in which order, how many are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_ood.viewer.layers import TITLES
from napari_ood.viewer.review_state import Order, QueueState, Stage
from napari_ood.viewer.widgets import Segmented, text_label

if TYPE_CHECKING:
    from napari_ood.viewer.maps import Overlay
    from napari_ood.viewer.places import Places

ORDERS = ((Order.SCORE, "Score"), (Order.AREA, "Area"), (Order.DIVERSITY, "Diversity"))
ORDER_TIPS = {
    Order.SCORE: "The highest score first",
    Order.AREA: "The largest region first",
    Order.DIVERSITY: "Always the region least like those before it: one pen mark does not fill "
    "the list",
}
MAX_SMALLEST = 9999
MESSAGES = {
    Stage.NO_RUN: "No run on this slide yet.\n\nRun a bundle in the dock OOD, or open a stored run "
    "(.ood.zarr): the regions above the threshold are then listed here, one after the other.",
    Stage.RUNNING: "The run is still going on.\n\nIts regions are listed when it has finished, or "
    "when you stop it.",
    Stage.NO_THRESHOLD: "There is no threshold to list regions above.\n\nThe bundle has no "
    "reference that would say what is usual: set a value in the dock OOD thresholds.",
    Stage.SEARCHING: "Looking for regions…",
}
NO_TILES = (
    "The run has no finished tile, so there is nothing to review.\n\nContinue it in the dock OOD; "
    "if it is finished, no tissue was found."
)
NO_PLACES = "None of these places is as large as that: take smaller ones."
NO_SLIDE = "The slide was not found, so there are no pictures. Locate it in the dock OOD."


class ReviewHead(QWidget):
    """Score, order, smallest region; progress; what is not saved."""

    overlay_chosen = Signal(object)
    order_chosen = Signal(object)
    min_tiles_chosen = Signal(int)
    save_requested = Signal()
    folder_requested = Signal()
    all_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.overlay = QComboBox()
        self.overlay.activated.connect(
            lambda row: self.overlay_chosen.emit(self.overlay.itemData(row))
        )
        self.order: Segmented[Order] = Segmented(ORDERS)
        self.order.chosen.connect(self.order_chosen)
        for order, tip in ORDER_TIPS.items():
            self.order.button(order).setToolTip(tip)
        self.smallest = QSpinBox()
        self.smallest.setRange(1, MAX_SMALLEST)
        self.smallest.setToolTip("Leave out regions of fewer tiles")
        self.smallest.setKeyboardTracking(False)
        self.smallest.valueChanged.connect(self.min_tiles_chosen)
        self.threshold = text_label(muted=True)
        self.places = _Places()
        self.places.back.clicked.connect(self.all_requested)
        self.summary = text_label()
        self.progress = QProgressBar()
        self.progress.setTextVisible(True)
        self.no_slide = text_label(NO_SLIDE, muted=True)
        self.unsaved = _Unsaved()
        self.unsaved.again.clicked.connect(self.save_requested)
        self.unsaved.elsewhere.clicked.connect(self.folder_requested)
        self._lay_out()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(5)
        self.of_score = QLabel("Score")
        layout.addWidget(self.places)
        for parts in (
            (self.of_score, self.overlay),
            (QLabel("Order"), self.order),
            (QLabel("Regions of at least"), self.smallest, QLabel("tiles")),
        ):
            row = QHBoxLayout()
            for part in parts:
                row.addWidget(part, int(part in (self.overlay, self.order)))
            if self.smallest in parts:
                row.addStretch(1)
            layout.addLayout(row)
            if self.overlay in parts:
                layout.addWidget(self.threshold)
        for widget in (self.summary, self.progress, self.no_slide, self.unsaved):
            layout.addWidget(widget)

    def show_state(self, new: QueueState, old: QueueState | None) -> None:
        """Redraw what differs."""
        self.setVisible(new.overlay is not None)
        if new.differs(old, "overlays", "overlay"):
            self._show_overlays(new)
        if new.differs(old, "order"):
            self.order.set_value(new.order)
        if new.differs(old, "min_tiles"):
            with signals_blocked(self.smallest):
                self.smallest.setValue(new.min_tiles)
        if new.differs(old, "threshold", "places"):
            self._show_threshold(new)
        if new.differs(old, "found", "matches", "searching", "stage"):
            self._show_progress(new)
        self.no_slide.setVisible(new.stage is Stage.READY and new.slide is None)
        self.unsaved.show_number(new.unsaved)

    def _show_overlays(self, state: QueueState) -> None:
        with signals_blocked(self.overlay):
            self.overlay.clear()
            for overlay in reversed(state.overlays):
                self.overlay.addItem(TITLES[overlay], overlay)
            if state.overlay is not None:
                self.overlay.setCurrentIndex(_row(state.overlays, state.overlay))
        for widget in (self.overlay, self.smallest, self.order):
            widget.setEnabled(bool(state.overlays))

    def _show_threshold(self, state: QueueState) -> None:
        threshold = state.threshold
        self.places.show_places(state.places)
        for widget in (self.of_score, self.overlay):
            widget.setVisible(state.places is None)
        self.threshold.setVisible(threshold is not None and state.places is None)
        if threshold is not None:
            self.threshold.setText(f"above {threshold.value:.4g}: {threshold.words()}")

    def _show_progress(self, state: QueueState) -> None:
        ready = state.stage is Stage.READY
        self.summary.setVisible(ready)
        self.progress.setVisible(ready)
        if ready and state.found is not None:
            n, done = len(state.regions), state.n_done
            self.summary.setText(summary_of(state))
            self.progress.setMaximum(n)
            self.progress.setValue(done)
            self.progress.setFormat(f"{done:,} of {n:,} reviewed")


def _row(overlays: tuple[Overlay, ...], overlay: Overlay) -> int:
    return list(reversed(overlays)).index(overlay)


def summary_of(state: QueueState) -> str:
    """How many regions there are and how large they are together, in words."""
    assert state.found is not None
    n, tiles = len(state.regions), state.found.n_tiles
    area = state.found.area_mm2
    words = f"{n:,} region{'s' if n != 1 else ''} · {tiles:,} tile{'s' if tiles != 1 else ''}"
    if area is not None:
        words += f" · {area:.3g} mm²"
    return f"{words} · updating…" if state.searching else words


def message_of(state: QueueState) -> str:
    """What to say in place of the list."""
    if state.stage is Stage.FAILED:
        return state.message
    if state.stage is Stage.EMPTY and state.places is not None:
        return NO_PLACES
    if state.stage is not Stage.EMPTY or state.threshold is None:
        return MESSAGES.get(state.stage, "")
    if state.found is not None and not len(state.found.scored.index):
        return NO_TILES
    if state.min_tiles > 1:
        return (
            f"No region of {state.min_tiles} tiles or more lies above the threshold.\n\n"
            "Take smaller regions, or lower the threshold in the dock OOD thresholds."
        )
    return (
        "No region lies above the threshold: nothing is to be reviewed.\n\n"
        "To look at more, lower the threshold in the dock OOD thresholds."
    )


class _Places(QWidget):
    """Says that certain places are reviewed, and leads back to all regions."""

    def __init__(self) -> None:
        super().__init__()
        self.label = text_label(bold=True)
        self.back = QPushButton("Back to the regions above the threshold")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.label)
        layout.addWidget(self.back)

    def show_places(self, places: Places | None) -> None:
        self.setVisible(places is not None)
        if places is not None:
            self.label.setText(places.title)


class _Unsaved(QWidget):
    """Says that verdicts are not on the disk yet, and what can be done."""

    def __init__(self) -> None:
        super().__init__()
        self.label = text_label(bold=True)
        self.again = QPushButton("Save again")
        self.elsewhere = QPushButton("Save in…")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.label)
        row = QHBoxLayout()
        row.addWidget(self.again)
        row.addWidget(self.elsewhere)
        layout.addLayout(row)

    def show_number(self, n: int) -> None:
        self.setVisible(n > 0)
        changes = "1 change is" if n == 1 else f"{n} changes are"
        self.label.setText(f"{changes} not on the disk and lost when the window closes.")
