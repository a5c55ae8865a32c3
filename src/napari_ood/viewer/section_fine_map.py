"""Slide-wide maps: what is mapped, where, how far it is, and what the colours mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QProgressBar, QPushButton
from superqt.utils import signals_blocked

from napari_ood.viewer.fine_map_words import meaning, progress_words
from napari_ood.viewer.fine_maps import FineState, fine_kinds, fine_targets, fine_title, target_of
from napari_ood.viewer.state import Scope
from napari_ood.viewer.widgets import ColorBar, Section, Segmented, text_label

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_ood.viewer.colors import Ramp

SCOPES = ((Scope.SHAPE, "Drawn box"), (Scope.VIEW, "On screen"), (Scope.SLIDE, "Whole slide"))


class FineMapSection(Section):
    """Asks for maps finer than a tile and says how far the one at hand is, and what it means.

    Signals
    -------
    kind_chosen(name), target_chosen(Target), scope_chosen(Scope), start_asked(), stop_asked()
    """

    kind_chosen = Signal(str)
    target_chosen = Signal(object)
    scope_chosen = Signal(object)
    start_asked = Signal()
    stop_asked = Signal()

    def __init__(self) -> None:
        super().__init__("Slide-wide map")
        self._offered: object = None
        self.kind, self.target = QComboBox(), QComboBox()
        self.scope: Segmented[Scope] = Segmented(SCOPES)
        self.start, self.stop = QPushButton("Start"), QPushButton("Stop")
        self.bar, self.progress = QProgressBar(), text_label()
        self.message = text_label()
        self.title, self.scale = text_label(bold=True), ColorBar()
        self.meaning = text_label()
        self._lay_out()
        self.kind.activated.connect(lambda i: self.kind_chosen.emit(self.kind.itemData(i)))
        self.target.activated.connect(lambda i: self.target_chosen.emit(self.target.itemData(i)))
        self.scope.chosen.connect(self.scope_chosen)
        self.start.clicked.connect(self.start_asked)
        self.stop.clicked.connect(self.stop_asked)

    def _lay_out(self) -> None:
        self._form = QFormLayout()
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setSpacing(5)
        for title, combo in (("Map", self.kind), ("Target", self.target)):
            combo.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            combo.setMinimumContentsLength(8)
            self._form.addRow(title, combo)
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        buttons.addWidget(self.start, 1)
        buttons.addWidget(self.stop, 1)
        self.bar.setTextVisible(False)
        self.body.addLayout(self._form)
        self.body.addWidget(self.scope)
        self.body.addLayout(buttons)
        for widget in (
            self.bar, self.progress, self.message, self.title, self.scale, self.meaning,
        ):  # fmt: skip
            self.body.addWidget(widget)

    # ---------------------------------------------------------------- view of the state

    def show_state(self, new: FineState, old: FineState | None, ramp: Ramp | None) -> None:
        """Redraw what differs between two snapshots; everything when ``old`` is None.

        Parameters
        ----------
        ramp : colours of the map at hand; None where there is none
        """
        self._show_progress(new)
        if old is None or new.differs(old, "bundle", "slide", "wish"):
            self._show_choices(new)
        if old is None or new.differs(old, "made", "n_tiles"):  # tiles are known with the mosaic
            self._show_map(new, ramp)

    def _show_progress(self, state: FineState) -> None:
        busy = state.running or state.stopping
        self.start.setEnabled(not state.obstacle and not state.running)
        self.stop.setEnabled(state.running)
        # No bar that runs to and fro: each of its steps has the canvas painted anew.
        self.bar.setVisible(busy and state.n_tiles > 0)
        self.bar.setRange(0, max(state.n_tiles, 1))
        self.bar.setValue(state.n_done)
        for label, text in (
            (self.progress, progress_words(state)),
            (self.message, state.problem or state.obstacle),
        ):
            if text != label.text():
                label.setText(text)
            label.setVisible(bool(text))

    def _show_choices(self, state: FineState) -> None:
        wish, bundle = state.wish, state.bundle
        if self._offered != (bundle, wish.kind):
            self._offered = (bundle, wish.kind)
            targets = fine_targets(bundle.card, wish.kind) if bundle is not None else ()
            _fill(self.kind, [(title, name) for name, title in fine_kinds(bundle)])
            _fill(self.target, targets)
            self._form.setRowVisible(self.target, bool(targets))
        with signals_blocked(self.kind):
            self.kind.setCurrentIndex(self.kind.findData(wish.kind))
        if bundle is not None:
            with signals_blocked(self.target):
                self.target.setCurrentIndex(_row_of(self.target, target_of(wish, bundle)))
        self.scope.set_value(wish.scope)
        for widget in (self.kind, self.target, self.scope):
            widget.setEnabled(not state.obstacle)

    def _show_map(self, state: FineState, ramp: Ramp | None) -> None:
        made = state.made
        mosaic = made.mosaic if made is not None else None
        for widget in (self.title, self.scale, self.meaning):
            widget.setVisible(mosaic is not None)
        if made is None or mosaic is None or ramp is None:
            return
        mapper = mosaic.mapper
        words = ("against", "for") if mapper.signed else ("nothing", "much")
        self.title.setText(fine_title(made.request))
        low = -mapper.limit if mapper.signed else 0.0
        self.scale.set_scale(ramp.table(), low, mapper.limit, words)
        self.scale.setToolTip(f"{mapper.unit}. The same scale for all of this slide.")
        self.meaning.setText(meaning(made.request, mapper.unit))


def _fill(combo: QComboBox, choices: Iterable[tuple[str, object]]) -> None:
    with signals_blocked(combo):
        combo.clear()
        for words, value in choices:
            combo.addItem(words, value)


def _row_of(combo: QComboBox, value: object) -> int:
    """Row of an item's data, compared by value; −1 where there is none."""
    return next((i for i in range(combo.count()) if combo.itemData(i) == value), -1)
