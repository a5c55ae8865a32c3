"""Which pixels speak for it: method, target, layer, the map's colours and caveats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QStandardItem, QStandardItemModel
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_ood.viewer.saliency_choices import (
    CAMS,
    FOR_ONLY,
    kind_of,
    method_groups,
    target_choices,
)
from napari_ood.viewer.saliency_layer import limits_of, ramp_of
from napari_ood.viewer.widgets import ColorBar, sentence, text_label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ood.explain.methods import Method
    from napari_ood.models import Card
    from napari_ood.viewer.inspector_state import Inspected, Shown

OWN_LAYER = "last with maps"
SIGNED = "Signed: cyan speaks for the target, orange against."
UNSIGNED = "Unsigned: how much, not whether for or against."
ONE_SIDED = "Cyan speaks for the target; what speaks against it is not shown."
NO_MAP = "This map is 0 everywhere: by this method, nothing here speaks for or against the target."
FAINT = "Hardly visible: at most {share:.0%} of the scale. By this method, little here matters."
FAINT_SHARE = 0.15
"""Of the scale; less than this is all but transparent."""
LOADING = "Loading the network…"
PERCENT = 100


class SaliencySection(QWidget):
    """Asks for maps and says what the one at hand means.

    Signals
    -------
    method_chosen(name), target_chosen(Target | None), layer_chosen(name | None)
    explain_asked(), cancel_asked(), following_chosen(on), tissue_asked(bare)
    """

    method_chosen = Signal(str)
    target_chosen = Signal(object)
    layer_chosen = Signal(object)
    explain_asked = Signal()
    cancel_asked = Signal()
    following_chosen = Signal(bool)
    tissue_asked = Signal(bool)

    def __init__(self, methods: dict[str, Method]) -> None:
        super().__init__()
        self._methods = methods
        self._offered: object = None
        self.method, self.target, self.layer = QComboBox(), QComboBox(), QComboBox()
        self.explain, self.cancel = QPushButton("Explain"), QPushButton("Cancel")
        self.following = QCheckBox("Follow the chosen tile")
        self.following.setToolTip("Explain each tile that is chosen, if the method is fast")
        self.tissue = QCheckBox("Hide the overlay beneath")
        self.tissue.setToolTip("Show tissue and saliency alone")
        self.bar, self.message = QProgressBar(), text_label()
        self.title, self.scale = text_label(bold=True), ColorBar()
        self.note, self.sign, self.faint = text_label(muted=True), text_label(), text_label()
        self._fill_methods()
        self._lay_out()
        self._connect()

    def _fill_methods(self) -> None:
        model = QStandardItemModel()
        for title, methods in method_groups(self._methods.values()):
            heading = QStandardItem(title)
            heading.setFlags(Qt.ItemFlag.NoItemFlags)
            model.appendRow(heading)
            for method in methods:
                item = QStandardItem(f"{method.title}{' (±)' if method.signed else ''}")
                item.setData(method.name, Qt.ItemDataRole.UserRole)
                item.setToolTip(method.note)
                model.appendRow(item)
        self.method.setModel(model)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(5)
        for title, combo in (
            ("Method", self.method), ("Target", self.target), ("Layer", self.layer),
        ):  # fmt: skip
            combo.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            combo.setMinimumContentsLength(8)
            form.addRow(title, combo)
        self._form = form
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        buttons.addWidget(self.explain, 1)
        buttons.addWidget(self.cancel, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(7)
        layout.addLayout(form)
        layout.addWidget(self.following)
        layout.addWidget(self.tissue)
        layout.addLayout(buttons)
        for widget in (
            self.bar, self.message, self.title, self.scale, self.faint, self.sign, self.note,
        ):  # fmt: skip
            layout.addWidget(widget)

    def _connect(self) -> None:
        self.method.activated.connect(
            lambda i: self.method_chosen.emit(self.method.itemData(i, Qt.ItemDataRole.UserRole))
        )
        self.target.activated.connect(lambda i: self.target_chosen.emit(self.target.itemData(i)))
        self.layer.activated.connect(lambda i: self.layer_chosen.emit(self.layer.itemData(i)))
        self.explain.clicked.connect(self.explain_asked)
        self.cancel.clicked.connect(self.cancel_asked)
        self.following.toggled.connect(self.following_chosen)
        self.tissue.toggled.connect(self.tissue_asked)

    # ---------------------------------------------------------------- view of the state

    def show_state(self, state: Inspected, card: Card | None, bare: bool) -> None:
        """Show what is asked for and what came of it."""
        method = self._methods[state.wish.method]
        self._show_choices(state, method, card)
        ready = state.cell is not None and card is not None
        self.explain.setEnabled(ready and not state.explaining)
        self.explain.setText("Explain" if state.shown is None else "Explain again")
        self.cancel.setEnabled(state.explaining)
        for box, on in ((self.following, state.following), (self.tissue, bare)):
            with signals_blocked(box):
                box.setChecked(on)
        self.bar.setVisible(state.explaining)
        self.bar.setRange(0, 0 if state.share is None else PERCENT)
        self.bar.setValue(round(PERCENT * (state.share or 0.0)))
        self._show_message(state)
        self._show_map(state.shown, method)

    def _show_message(self, state: Inspected) -> None:
        text = sentence(state.problem)
        if state.explaining:
            text = LOADING if state.share is None and not state.layers else ""
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _show_choices(self, state: Inspected, method: Method, card: Card | None) -> None:
        row = self.method.findData(method.name, Qt.ItemDataRole.UserRole)
        with signals_blocked(self.method):
            self.method.setCurrentIndex(row)
        offered = (card, method.name, state.layers)
        if offered != self._offered:
            self._offered = offered
            self._fill(card, method, state.layers)
        with signals_blocked(self.target):
            self.target.setCurrentIndex(_row_of(self.target, state.wish.target))
        with signals_blocked(self.layer):
            self.layer.setCurrentIndex(_row_of(self.layer, state.wish.layer))
        for combo in (self.target, self.explain):
            combo.setEnabled(card is not None)
        self._form.setRowVisible(self.layer, method.name in CAMS)

    def _fill(self, card: Card | None, method: Method, layers: tuple[str, ...]) -> None:
        with signals_blocked(self.target):
            self.target.clear()
            kind = None
            for words, target in target_choices(card, method) if card is not None else ():
                if kind is not None and kind_of(target) != kind:
                    self.target.insertSeparator(self.target.count())
                kind = kind_of(target)
                self.target.addItem(words, target)
        with signals_blocked(self.layer):
            self.layer.clear()
            self.layer.addItem(OWN_LAYER, None)
            for name in layers:
                self.layer.addItem(name, name)

    def _show_map(self, shown: Shown | None, method: Method) -> None:
        for widget in (self.title, self.scale):
            widget.setVisible(shown is not None)
        self.faint.setText(faint_in_words(shown.values, shown.limit) if shown is not None else "")
        self.faint.setVisible(bool(self.faint.text()))
        self.note.setText(method.note)
        self.sign.setText(sign_in_words(method))
        if shown is None:
            return
        n = len(shown.cells)
        self.title.setText(shown.title + (f", {n} tiles" if n > 1 else ""))
        low, high = limits_of(shown)
        words = ("against", "for") if shown.saliency.signed else ("nothing", "much")
        self.scale.set_scale(ramp_of(shown.saliency.signed).table(), low, high, words)
        self.sign.setText(
            f"{sign_in_words(method)} Unit: {shown.saliency.unit}; one scale for every tile of "
            "this slide."
        )


def faint_in_words(values: NDArray[np.float32], limit: float) -> str:
    """Why there is nothing to be seen of a map; empty where there is something."""
    peak = float(np.nanmax(np.abs(values)))
    if peak == 0:
        return NO_MAP
    share = peak / limit
    return FAINT.format(share=share).replace("%", " %") if share < FAINT_SHARE else ""


def sign_in_words(method: Method) -> str:
    """What a map's colours say of for and against."""
    if method.signed:
        return SIGNED
    return ONE_SIDED if method.name in FOR_ONLY else UNSIGNED


def _row_of(combo: QComboBox, value: object) -> int:
    """Row of an item's data, compared by value; −1 where there is none."""
    for i in range(combo.count()):
        # A separator has no text, and no data either: it is not the item whose data is None.
        if combo.itemText(i) and combo.itemData(i) == value:
            return i
    return -1
