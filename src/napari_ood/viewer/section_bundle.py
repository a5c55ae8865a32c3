"""The dock's section about the bundle: which one, and its card."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QFileDialog
from superqt.utils import signals_blocked

from napari_ood.models import list_bundles
from napari_ood.scores.names import role_in_words, score_and_formula
from napari_ood.viewer.latest import Latest
from napari_ood.viewer.widgets import ClassLegend, Disclosure, Section, capitalised, text_label

if TYPE_CHECKING:
    from napari_ood.models import Bundle, BundleEntry, Card
    from napari_ood.viewer.state import State

CHOOSE = "Choose a bundle…"
OPEN_FOLDER = "Open a folder…"
LOOK_INTERVAL_MS = 20


class BundleSection(Section):
    """Shows bundles at hand and the card of the chosen one.

    Bundles are looked for in a thread: to check their cards loads what checks schemas.
    """

    chosen = Signal(object)  # str or Path

    def __init__(self) -> None:
        super().__init__("Bundle")
        self.combo = QComboBox()
        self._items = QStandardItemModel(self.combo)
        self.combo.setModel(self._items)
        self.combo.activated.connect(self._on_activated)
        self.facts = text_label()
        self.legend = ClassLegend()
        self.warning = text_label(muted=True)
        self.card = Disclosure("the card")
        for widget in (self.combo, self.facts, self.legend, self.warning, self.card):
            self.body.addWidget(widget)
        self._bundle: Bundle | None = None
        self._entries: tuple[BundleEntry, ...] = ()
        self._listing: Latest[tuple[BundleEntry, ...]] = Latest()
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_INTERVAL_MS)
        self._timer.timeout.connect(self._hear)

    def show_state(self, new: State, old: State | None) -> None:
        """Redraw when the bundle differs."""
        if old is not None and new.bundle is old.bundle:
            return
        self._bundle = new.bundle
        self._look()
        card = new.bundle.card if new.bundle else None
        for widget in (self.facts, self.legend, self.card):
            widget.setVisible(card is not None)
        self.warning.setVisible(card is not None and bool(card.warnings))
        if card is not None:
            self.facts.setText(" · ".join(_facts(card)))
            self.legend.show_counts(card.classes, card.colors)
            self.warning.setText("\n".join(card.warnings))
            self.card.text.setText(card_html(card))

    def _look(self) -> None:
        """Show the bundles that are known, and look for others."""
        self._fill_combo()
        self._listing.ask(lambda task: list_bundles())
        self._timer.start()

    def _hear(self) -> None:
        task = self._listing.take()
        if task is None:
            return
        self._timer.stop()
        found = task.result or ()
        if found != self._entries:
            self._entries = found
            self._fill_combo()

    def _fill_combo(self) -> None:
        with signals_blocked(self.combo):
            self.combo.clear()
            self.combo.addItem(CHOOSE, None)
            for entry in self._entries:
                self.combo.addItem(entry.name, entry.name)
                self._mark(self.combo.count() - 1, entry.error)
            if self._bundle is not None:
                self._select(self._bundle)
            self.combo.insertSeparator(self.combo.count())
            self.combo.addItem(OPEN_FOLDER, OPEN_FOLDER)

    def _mark(self, row: int, error: str | None) -> None:
        """Grey out a damaged bundle and say in its tooltip what is wrong."""
        if error is not None:
            item = self._items.item(row)
            assert item is not None  # it was just added
            item.setEnabled(False)
            self.combo.setItemData(row, error, Qt.ItemDataRole.ToolTipRole)

    def _select(self, bundle: Bundle) -> None:
        row = self.combo.findData(bundle.path.name)
        if row < 0:
            self.combo.addItem(bundle.name, bundle.path)
            row = self.combo.count() - 1
        self.combo.setCurrentIndex(row)

    def _on_activated(self, row: int) -> None:
        choice = self.combo.itemData(row)
        if choice == OPEN_FOLDER:
            folder = QFileDialog.getExistingDirectory(self, "Open a bundle's folder")
            choice = Path(folder) if folder else None
        if choice is not None:
            self.chosen.emit(choice)
        self._look()  # a bundle that could not be loaded must not stay selected


def _facts(card: Card) -> list[str]:
    resolution = f"{card.mpp:.3g} µm/px" if card.mpp else "no physical scale"
    tiles = f"{card.tile_size} px tiles at {resolution}"
    if card.whole_image:
        tiles = f"judges whole images, resized to {card.tile_size} × {card.tile_size} px"
    heads = f"{card.n_heads} heads" if card.n_heads > 1 else "1 head"
    return [
        *(text for text in (card.tissue, card.stain) if text),
        tiles,
        heads,
    ]


def card_html(card: Card) -> str:
    """The card as rich text."""
    rows = [
        ("Description", card.description),
        ("Intended use", card.intended_use),
        ("Limitations", " ".join(card.limitations)),
        ("Training data", card.training_data),
        ("Licence", card.licence),
        ("Network", card.architecture),
        *(
            (capitalised(role_in_words(role)), capitalised(score_and_formula(role, card)))
            for role in card.scores
        ),
        ("Citation", card.citation),
    ]
    return "".join(f"<p><b>{escape(name)}</b><br>{escape(text)}</p>" for name, text in rows if text)
