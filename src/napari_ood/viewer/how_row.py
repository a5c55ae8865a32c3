"""The row under the device that unfolds: precision, and what is kept. It knows Qt, no session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QSizePolicy, QToolButton, QWidget
from superqt.utils import signals_blocked

from napari_ood.models.precision import AUTO, BF16, FP32
from napari_ood.viewer.how import FULL, HALF, NONE

if TYPE_CHECKING:
    from napari_ood.models import Card
    from napari_ood.viewer.state import State

PRECISIONS = {AUTO: "Automatic", FP32: "fp32", BF16: "bf16"}
KEEP: dict[str | None, str] = {
    None: "Automatic",
    FULL: "Features in full",
    HALF: "Features in half",
    NONE: "Prediction and uncertainty only",
}
PRECISION_HINTS = {
    AUTO: "Goes on with a run in its own. A new one takes what is fastest here, which is measured "
    "once in two seconds; bf16 only with bundles that say it changes next to no decision.",
    FP32: "The precision that bundles are made with. Choose it for runs that are to be compared.",
    BF16: "Faster on many devices. Every number changes a little: a few tiles in a hundred may "
    "change sides at a threshold.",
}
KEEP_HINTS: dict[str | None, str] = {
    None: "As a run has them that goes on; in full in a new one.",
    FULL: "Any score can be worked out later without the network.{size}",
    HALF: "Half the space. Scores change less than anyone could see.{size}",
    NONE: "Least space. No OOD map, and none can be made later: that takes a new run.",
}
SIZE = " About {n:,} bytes per tile."
BYTES = {FULL: 4, HALF: 2}
MORE = "More"


class HowRow(QWidget):
    """Folded to one word, or to what is chosen; a click shows the choices."""

    precision_chosen = Signal(str)
    features_chosen = Signal(object)  # str or None
    opened = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.button = QToolButton()
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setAutoRaise(True)
        self.button.setCheckable(True)
        self.button.setIconSize(QSize(8, 8))
        self.button.setToolTip("How the run is computed, and what it keeps.")
        self.button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.precision, self.keep = QComboBox(), QComboBox()
        self._items = QStandardItemModel(self.precision)
        self.precision.setModel(self._items)
        for value, title in PRECISIONS.items():
            self.precision.addItem(title, value)
        for kept, title in KEEP.items():
            self.keep.addItem(title, kept)
        self.precision.activated.connect(
            lambda i: self.precision_chosen.emit(self.precision.itemData(i))
        )
        self.keep.activated.connect(lambda i: self.features_chosen.emit(self.keep.itemData(i)))
        self.button.toggled.connect(self._fold)
        self._lay_out()
        self._fold(False)

    def _lay_out(self) -> None:
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        grid.addWidget(self.button, 0, 0, 1, 2)
        self._labels = QLabel("Precision"), QLabel("Keep")
        for row, (label, combo) in enumerate(zip(self._labels, self._combos, strict=True), 1):
            grid.addWidget(label, row, 0)
            grid.addWidget(combo, row, 1)
            # The longest choice would widen the dock; in the open list it is whole.
            combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    @property
    def _combos(self) -> tuple[QComboBox, QComboBox]:
        return self.precision, self.keep

    def _fold(self, opened: bool) -> None:
        for widget in (*self._labels, *self._combos):
            widget.setVisible(opened)
        arrow = Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow
        self.button.setArrowType(arrow)
        if opened:
            self.opened.emit()

    # ---------------------------------------------------------------- view of the state

    def show_state(self, state: State, idle: bool) -> None:
        """Show what is chosen; it can be changed while no run goes on."""
        for combo, value in ((self.precision, state.precision), (self.keep, state.features)):
            with signals_blocked(combo):
                combo.setCurrentIndex(list(_values(combo)).index(value))
            combo.setEnabled(idle)
        self.button.setText(summary(state.precision, state.features))
        self._show_hints(state)

    def _show_hints(self, state: State) -> None:
        card = state.bundle.card if state.bundle is not None else None
        role = Qt.ItemDataRole.ToolTipRole
        for row, hint in enumerate(PRECISION_HINTS.values()):
            self.precision.setItemData(row, hint, role)
        for row, kept in enumerate(KEEP_HINTS):
            self.keep.setItemData(row, keep_hint(kept, card), role)
        item = self._items.item(list(PRECISIONS).index(BF16))
        assert item is not None  # it was added above
        item.setEnabled(not state.no_bf16)
        if state.no_bf16:
            item.setData(state.no_bf16, role)
        for combo in self._combos:
            combo.setToolTip(str(combo.currentData(role) or ""))


def _values(combo: QComboBox) -> list[str | None]:
    return [combo.itemData(i) for i in range(combo.count())]


def keep_hint(kept: str | None, card: Card | None) -> str:
    """What a choice of what is kept costs, in words."""
    per_value = BYTES.get(kept or "")
    size = ""
    if card is not None and per_value is not None:
        size = SIZE.format(n=per_value * card.n_features)
    return KEEP_HINTS[kept].format(size=size)


def summary(precision: str, features: str | None) -> str:
    """What the folded row says: a choice that was made never hides."""
    chosen = [PRECISIONS[precision]] if precision != AUTO else []
    if features is not None:
        title = KEEP[features]
        chosen.append(title[:1].lower() + title[1:] if chosen else title)
    return f"{MORE}: {', '.join(chosen)}" if chosen else MORE
