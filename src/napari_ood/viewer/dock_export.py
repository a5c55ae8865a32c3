"""The dock *OOD export*: take the shown run to QuPath, a table, an image or a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QCoreApplication, QTimer, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
)

from napari_ood.viewer.exporting import (
    HINTS,
    TITLES,
    Order,
    default_out,
    exporting_of,
    missing,
    why_not,
)
from napari_ood.viewer.scroll_dock import TabbedDock
from napari_ood.viewer.widgets import Section, breakable, text_label

if TYPE_CHECKING:
    from napari import Viewer

    from napari_ood.export import ExportProgress
    from napari_ood.viewer.state import State

POLL_INTERVAL_MS = 100
INTRO = "Export {run}: {n:,} tiles."
UNFINISHED = " Only these {n:,} tiles: the run was stopped before its end."
NO_THRESHOLD = "No threshold is set, so nothing is flagged."
ROLE_TITLES = {
    "ood": "OOD",
    "uncertainty": "Uncertainty",
    "appearance": "Appearance",
    "tissue": "Tissue",
}


class ExportDock(TabbedDock):
    """What is written, where, how far it is, and what was written.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.exporting = exporting_of(self.bridge)
        self.intro = text_label()
        self.column.addWidget(self.intro)
        self.thresholds = Section("Thresholds")
        self.threshold_text = text_label()
        self.thresholds.body.addWidget(self.threshold_text)
        self.formats, self.where = Section("Formats"), Section("Folder")
        self.result = Section("Written")
        for section in (self.formats, self.thresholds, self.where):
            self.column.addWidget(section)
        self._fill_formats()
        self._fill_where()
        self._fill_buttons()
        self._fill_result()
        self.column.addStretch(1)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._poll)
        self.exporting.changed.connect(self._on_changed)
        app = QCoreApplication.instance()
        assert app is not None
        # Without this a closed window would leave its process behind until the export is done.
        app.aboutToQuit.connect(self.exporting.end)
        self.follow()

    def _fill_formats(self) -> None:
        self.boxes: dict[str, QCheckBox] = {}
        for name, title in TITLES.items():
            box = QCheckBox(title)
            lacking = missing(name)
            box.setEnabled(not lacking)
            if lacking:
                box.setText(f"{title} ({lacking})")
            box.setToolTip(HINTS[name])
            box.clicked.connect(lambda on, n=name: self.exporting.set_format(n, on))
            self.boxes[name] = box
            self.formats.body.addWidget(box)

    def _fill_where(self) -> None:
        self.folder_text = text_label()
        self.folder_button = QPushButton("Choose a folder…")
        self.folder_button.clicked.connect(self._choose_folder)
        self.where.body.addWidget(self.folder_text)
        self.where.body.addWidget(self.folder_button)

    def _fill_buttons(self) -> None:
        self.export_button, self.cancel_button = QPushButton("Export"), QPushButton("Cancel")
        self.export_button.clicked.connect(self._start)
        self.cancel_button.clicked.connect(self.exporting.cancel)
        row = QHBoxLayout()
        row.addWidget(self.export_button, 2)
        row.addWidget(self.cancel_button, 1)
        self.message, self.bar = text_label(muted=True), QProgressBar()
        self.column.addLayout(row)
        self.column.addWidget(self.bar)
        self.column.addWidget(self.message)

    def _fill_result(self) -> None:
        self.written = text_label()
        self.open_button = QPushButton("Open the folder")
        self.open_button.clicked.connect(self._open_folder)
        self.report_button = QPushButton("Open the report")
        self.report_button.clicked.connect(self._open_report)
        row = QHBoxLayout()
        row.addWidget(self.open_button, 1)
        row.addWidget(self.report_button, 1)
        self.result.body.addWidget(self.written)
        self.result.body.addLayout(row)
        self.column.addWidget(self.result)

    # ---------------------------------------------------------------- what the user asks for

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder to export to")
        if folder:
            self.exporting.set_folder(Path(folder))

    def _start(self) -> None:
        self.exporting.start(self.bridge.session)
        self._timer.start(POLL_INTERVAL_MS)

    def _poll(self) -> None:
        if not self.exporting.poll():
            self._timer.stop()

    def _open_folder(self) -> None:
        _open(self.exporting.order.written[0].parent)

    def _open_report(self) -> None:
        page = _report_of(self.exporting.order)
        if page is not None:
            _open(page)

    # ---------------------------------------------------------------- views

    def show_state(self, new: State, old: State | None) -> None:
        """Follow the shown run and the thresholds."""
        names = ("slide", "results", "phase", "thresholds", "temperature")
        if old is None:
            self.show_order(self.exporting.order)
            if self.exporting.order.busy:
                self._timer.start(POLL_INTERVAL_MS)
        elif new.differs(old, *names):
            self.show_order(self.exporting.order)

    def _on_changed(self, new: Order, old: Order) -> None:
        if self._bridge is not None:
            self.show_order(new)

    def show_order(self, order: Order) -> None:
        """Redraw everything."""
        session = self.bridge.session
        reason = why_not(session, order)
        scored = session.scored(session.state.maps)
        for section in (self.formats, self.where, self.thresholds):
            section.setVisible(scored is not None)
        for name, box in self.boxes.items():
            box.setChecked(name in order.formats and not missing(name))
        idle = not order.busy
        self.formats.setEnabled(idle)
        self.folder_button.setEnabled(idle)
        self.export_button.setVisible(scored is not None)
        self.export_button.setEnabled(idle and not reason)
        self.export_button.setText("Export" if idle else "Exporting…")
        self.cancel_button.setVisible(scored is not None)
        self.cancel_button.setEnabled(order.busy and not order.cancelling)
        if scored is None:
            self.intro.setText(reason)
        else:
            run = scored.run
            text = INTRO.format(run=breakable(run.path.name), n=run.n_tiles)
            if not run.complete:
                text += UNFINISHED.format(n=run.n_tiles)
            self.intro.setText(text)
            out = order.folder or default_out(run.path)
            self.folder_text.setText(breakable(str(out)))
            self.threshold_text.setText(thresholds_text(session.state))
        self._show_progress(order, reason if scored is not None else "")
        self._show_result(order)

    def _show_progress(self, order: Order, reason: str) -> None:
        p = order.progress
        self.bar.setVisible(order.busy)
        # A bar from 0 to 0 says "busy".
        known = p is not None and p.total > 1
        self.bar.setRange(0, p.total if known and p else 0)
        self.bar.setValue(p.done if known and p else 0)
        lines = [progress_text(p, order.cancelling)] if order.busy else [order.error or reason]
        text = "\n".join(x for x in (*lines, *order.notes) if x)
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _show_result(self, order: Order) -> None:
        self.result.setVisible(bool(order.written))
        if order.written:
            self.written.setText(written_text(order.written))
            self.report_button.setVisible(_report_of(order) is not None)

    def teardown(self) -> None:
        """Stop following; an export goes on."""
        self.exporting.changed.disconnect(self._on_changed, missing_ok=True)
        self._timer.stop()
        super().teardown()


def _open(path: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path.absolute())))


def _report_of(order: Order) -> Path | None:
    return next((p for p in order.written if p.suffix == ".html"), None)


def thresholds_text(state: State) -> str:
    """Thresholds that decide which tiles are flagged, in words."""
    lines = [
        f"{ROLE_TITLES.get(overlay.value, overlay.value)}: {t.words()}"
        for overlay, t in state.thresholds.items()
    ]
    return "\n".join(lines) or NO_THRESHOLD


def progress_text(progress: ExportProgress | None, cancelling: bool) -> str:
    """What is being written."""
    if cancelling:
        return "Stopping…"
    return f"Writing {TITLES[progress.format]}…" if progress else "Reading the run…"


def written_text(paths: tuple[Path, ...]) -> str:
    """Names and sizes of what was written."""
    lines = [f"{breakable(path.name)} · {size_text(size_of(path))}" for path in paths]
    return "\n".join(lines)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 when it is gone."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size if path.is_file() else 0


def size_text(n_bytes: float) -> str:
    """Bytes as ``12 kB`` or ``3.4 MB``."""
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} GB"
