"""A line in the cohort dock that follows a cohort which goes on."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_ood.board.ongoing import StateReader
from napari_ood.viewer.latest import Latest
from napari_ood.viewer.widgets import text_label

EVERY_MS = 2000


class BoardStateLine(QWidget):
    """Says how far a cohort is; takes no room where there is nothing to say.

    Its folder is read in a thread: it may lie on a slow network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.label = text_label()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.label)
        self._reader: StateReader | None = None
        self._latest: Latest[str] = Latest()
        self._timer = QTimer(self)
        self._timer.setInterval(EVERY_MS)
        self._timer.timeout.connect(self._tick)
        self.hide()

    def watch(self, folder: Path) -> None:
        """Follow the cohort in this folder instead."""
        self._reader = StateReader(folder)
        self._latest.drop()
        self._show("")
        self._timer.start()
        self._tick()

    def stop(self) -> None:
        """Follow none."""
        self._timer.stop()
        self._latest.drop()

    def _tick(self) -> None:
        task = self._latest.take()
        if task is not None and task.result is not None:
            self._show(task.result)
        reader = self._reader
        if reader is not None and not self._latest.busy:
            self._latest.ask(lambda task: reader.read())

    def _show(self, text: str) -> None:
        if text != self.label.text():
            self.label.setText(text)
        self.setVisible(bool(text))
