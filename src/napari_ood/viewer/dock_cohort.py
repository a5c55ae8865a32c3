"""The dock *OOD cohort*: the slides of a cohort as a table, their drift, and a way to each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, Qt, QTimer, Signal
from qtpy.QtGui import QResizeEvent, QShowEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSplitter,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_ood.board.row import DONE, FAILED, MISSING
from napari_ood.viewer.board_memory import remember_cohort, remembered_cohorts
from napari_ood.viewer.board_model import BoardModel
from napari_ood.viewer.board_opening import BoardOpening
from napari_ood.viewer.board_state import BoardReading
from napari_ood.viewer.board_state_line import BoardStateLine
from napari_ood.viewer.board_table import BoardTable
from napari_ood.viewer.bridge import Bridge, bridge_of
from napari_ood.viewer.docking import put_below
from napari_ood.viewer.section_drift import DriftSection
from napari_ood.viewer.widgets import text_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari import Viewer

    from napari_ood.board import SlideRow

POLL_INTERVAL_MS = 100
BESIDE_PX = 760
"""Width from which table and drift stand beside each other."""
SHARE_OF_HEIGHT = 0.4
"""Of the window, that the dock takes below the canvas."""
EMPTY = (
    "Choose the folder of a cohort: the --out folder of napari-ood cohort, or any folder that "
    "holds runs (….ood.zarr). Its slides are listed by OOD share, uncertainty, scanner and date."
)
HINT = "Double-click or Enter opens a slide at its worst region."
CHOOSE = "Choose a folder…"


class CohortDock(QWidget):
    """Slides by OOD share, uncertainty, scanner and date; a double-click opens one.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._bridge: Bridge | None = bridge_of(napari_viewer)
        self.reading = BoardReading()
        self.opening = BoardOpening(napari_viewer, self._bridge, self)
        self.model = BoardModel()
        self.folder, self.again = _FolderBox(), QPushButton("Read again")
        self.browse = QPushButton("Choose…")
        self.words, self.bar = text_label(EMPTY), QProgressBar()
        self.state = BoardStateLine()
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(6)
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter: name, scanner, date, group, class, error")
        self.filter.setClearButtonEnabled(True)
        self.count = text_label(muted=True)
        self.table = BoardTable(self.model)
        self.message, self.locate_button = text_label(HINT, muted=True), QPushButton("Locate…")
        self.drift = DriftSection()
        self._missing: SlideRow | None = None
        self._placed = False
        self._to_open: str | None = None
        self._lay_out()
        self._connect()
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_INTERVAL_MS)
        self._timer.timeout.connect(self._poll)
        self.folder.offer(remembered_cohorts(), None)
        self._show_state()

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        for widget, stretch in ((self.folder, 1), (self.browse, 0), (self.again, 0)):
            top.addWidget(widget, stretch)
        tools, foot = QHBoxLayout(), QHBoxLayout()
        tools.addWidget(self.filter, 3)
        tools.addWidget(self.count, 2)
        foot.addWidget(self.message, 1)
        foot.addWidget(self.locate_button)
        self.list = QWidget()
        column = QVBoxLayout(self.list)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        column.addLayout(tools)
        column.addWidget(self.table, 1)
        column.addLayout(foot)
        self.split = QSplitter()
        self.split.setChildrenCollapsible(False)
        self.split.addWidget(self.list)
        self.split.addWidget(self.drift)
        self.split.setStretchFactor(0, 3)
        self.split.setStretchFactor(1, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 4, 8, 6)
        layout.setSpacing(6)
        layout.addLayout(top)
        layout.addWidget(self.words)
        layout.addWidget(self.state)
        layout.addWidget(self.bar)
        layout.addWidget(self.split, 1)
        layout.addStretch(0)
        self.setMinimumWidth(330)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def _connect(self) -> None:
        self.browse.clicked.connect(self._browse)
        self.again.clicked.connect(self._read_again)
        self.folder.chosen.connect(self.read)
        self.folder.browse_requested.connect(self._browse)
        self.filter.textEdited.connect(self._set_filter)
        self.filter.textChanged.connect(self._set_filter)
        self.table.opened.connect(self.open_slide)
        self.table.chosen.connect(self.drift.set_current)
        self.drift.chosen.connect(self._choose)
        self.drift.opened.connect(self.open_slide)
        self.locate_button.clicked.connect(self._locate)

    @property
    def bridge(self) -> Bridge:
        """The bridge to the viewer; RuntimeError once the dock has been closed."""
        if self._bridge is None:
            raise RuntimeError("this dock was closed; open it again from the Plugins menu")
        return self._bridge

    # ---------------------------------------------------------------- what the user asks for

    def read(self, folder: Path, name: str | None = None) -> None:
        """Read a cohort's folder; rows come as they are known.

        Parameters
        ----------
        folder : of the cohort
        name : of a slide that is to be opened as soon as it was read
        """
        self._to_open = name
        self.model.clear()
        self._say("")
        self.reading.read(folder)
        self.state.watch(folder)
        self.folder.offer(remembered_cohorts(), folder)
        self._timer.start()
        self._show_state()

    def open_slide(self, place: int) -> None:
        """Open a slide at its worst region, or say why not."""
        row = self.model.rows[place]
        self.table.choose(place)
        problem = self.opening.open(row)
        self._say(problem, row if problem and Path(row.run).is_dir() else None)

    def _open_named(self) -> None:
        name, self._to_open = self._to_open, None
        places = [i for i, row in enumerate(self.model.rows) if row.name == name]
        if places:
            self.open_slide(places[0])

    def _choose(self, place: int) -> None:
        if self.model.row_of(place) is None:
            self.filter.clear()
        self.table.choose(place)

    def _browse(self) -> None:
        start = str(self.reading.folder or Path.home())
        folder = QFileDialog.getExistingDirectory(self, "The folder of a cohort", start)
        if folder:
            self.read(Path(folder).absolute())
        else:
            self.folder.offer(remembered_cohorts(), self.reading.folder)

    def _read_again(self) -> None:
        if self.reading.folder is not None:
            self.read(self.reading.folder)

    def _set_filter(self, text: str) -> None:
        self.model.set_filter(text)
        self._show_count()

    def _locate(self) -> None:
        row = self._missing
        if row is None:
            return
        path, _ = QFileDialog.getOpenFileName(self, f"The slide {Path(row.slide).name}")
        if path and self.opening.locate(row, Path(path)):
            self._say("")

    # ---------------------------------------------------------------- views

    def _poll(self) -> None:
        busy = self.reading.busy  # before its rows are taken, or the last may be missed
        self.model.take(self.reading.poll())
        self.table.fit_columns()
        if not self.reading.busy and not busy:
            self._timer.stop()
        if self.reading.outcome is not None:
            remember_cohort(self.reading.outcome.board.folder)
        self._show_state()
        if self.reading.outcome is not None:
            self._open_named()

    def _show_state(self) -> None:
        reading, rows = self.reading, self.model.rows
        share = reading.share
        self.bar.setVisible(reading.busy)
        self.bar.setRange(0, 0 if share is None else 100)
        self.bar.setValue(0 if share is None else round(100 * share))
        self.again.setEnabled(reading.folder is not None and not reading.busy)
        self.split.setVisible(bool(rows))
        self.words.setText(board_words(rows, reading))
        outcome = reading.outcome
        self.drift.show_drifts(outcome.drifts if outcome is not None else {}, rows)
        self._show_count()

    def _show_count(self) -> None:
        shown, n = self.model.n_shown, len(self.model.rows)
        if shown == n:
            self.count.setText("")
        else:
            self.count.setText(f"{shown:,} of {n:,} slides" if shown else "No slide fits.")

    def _say(self, problem: str, missing: SlideRow | None = None) -> None:
        self._missing = missing
        self.message.setText(problem or HINT)
        self.locate_button.setVisible(missing is not None)

    def showEvent(self, event: QShowEvent | None) -> None:
        """Find its place, the first time."""
        super().showEvent(event)
        if not self._placed:
            self._placed = True
            QTimer.singleShot(0, self._place)

    def _place(self) -> None:
        put_below(self, SHARE_OF_HEIGHT)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Table and drift beside each other, or one below the other where it is narrow."""
        super().resizeEvent(event)
        wide = self.width() >= BESIDE_PX
        way = Qt.Orientation.Horizontal if wide else Qt.Orientation.Vertical
        if self.split.orientation() != way:
            self.split.setOrientation(way)

    def event(self, event: QEvent | None) -> bool:
        """Unbind when napari takes the widget out of its dock: no close event ever comes."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.teardown()
        return bool(super().event(event))

    def teardown(self) -> None:
        """Stop reading; what is open stays. May be called more than once."""
        if self._bridge is not None:
            self._bridge = None
            self._timer.stop()
            self.opening.stop()
            self.state.stop()
            self.reading.stop()
            self.deleteLater()  # nobody else owns a widget without a parent


class _FolderBox(QComboBox):
    """Folders that were looked at, and one more entry to choose another."""

    chosen = Signal(object)  # Path
    browse_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.activated.connect(self._on_activated)

    def offer(self, folders: Sequence[Path], current: Path | None) -> None:
        """Show these, ``current`` among them."""
        listed = list(folders)
        if current is not None and current not in listed:
            listed.insert(0, current)
        with signals_blocked(self):
            self.clear()
            if current is None:
                self.addItem("No cohort chosen" if listed else CHOOSE, None)
            for folder in listed:
                self.addItem(str(folder), folder)
                self.setItemData(self.count() - 1, str(folder), Qt.ItemDataRole.ToolTipRole)
            if current is not None or listed:
                self.addItem(CHOOSE, None)
            self.setCurrentIndex(listed.index(current) if current is not None else 0)

    def _on_activated(self, i: int) -> None:
        folder = self.itemData(i)
        if folder is not None:
            self.chosen.emit(folder)
        elif self.itemText(i) == CHOOSE:
            self.browse_requested.emit()


def board_words(rows: Sequence[SlideRow], reading: BoardReading) -> str:
    """What is known of the cohort, in a line."""
    if reading.error:
        return reading.error
    if reading.folder is None:
        return EMPTY
    if not rows:
        return "Reading…" if reading.busy else "This cohort has no slides yet."
    counts = {
        "to be looked at": sum(row.light in ("yellow", "red") for row in rows),
        "failed": sum(row.outcome == FAILED for row in rows),
        "without run": sum(row.outcome == MISSING for row in rows),
        "unfinished": sum(row.outcome not in (DONE, FAILED, MISSING) for row in rows),
    }
    parts = [f"{n:,} {what}" for what, n in counts.items() if n and not reading.busy]
    slides = f"{len(rows):,} slide{'s' * (len(rows) != 1)}"
    if reading.busy:
        return f"{slides}; reading their runs…"
    unknown = next((row.error for row in rows if row.ood is None and row.outcome == DONE), None)
    advice = f". OOD is not known of some: {unknown}" if unknown else ""
    return f"{', '.join([slides, *parts])}{advice}"
