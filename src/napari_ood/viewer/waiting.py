"""Wait for slow work without freezing the window."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
Work = Callable[[Callable[[float], None]], T]
"""Work that takes a function to be told the share that is done, 0 to 1."""

POLL_INTERVAL_MS = 50
SOON_INTERVAL_MS = 10
SOON_S = 0.4
"""Work that is done by then needs no dialog."""


def with_progress(title: str, work: Work[T]) -> T:
    """Do work in a thread behind a progress dialog; at once where there is no window.

    napari's samples must return layers from a call, so this returns when the work is done; until
    then the window goes on drawing, and the dialog keeps the user from starting it twice.

    Raises
    ------
    Exception
        What the work raised.
    """
    from qtpy.QtWidgets import QApplication

    if QApplication.instance() is None:
        return work(lambda share: None)
    task = _Task(work)
    task.thread.start()
    if not _done_soon(task):
        _show_dialog(title, task)
    return task.result()


def _done_soon(task: _Task[T]) -> bool:
    """Wait a moment without a dialog; what the user presses meanwhile counts afterwards."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, timer, end = QEventLoop(), QTimer(), time.monotonic() + SOON_S

    def look() -> None:
        if not task.thread.is_alive() or time.monotonic() > end:
            loop.quit()

    timer.timeout.connect(look)
    timer.start(SOON_INTERVAL_MS)
    loop.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
    timer.stop()
    return not task.thread.is_alive()


def _show_dialog(title: str, task: _Task[T]) -> None:
    """Show how far it is until it is done."""
    from qtpy.QtCore import QEventLoop, Qt, QTimer
    from qtpy.QtWidgets import QApplication, QProgressDialog

    dialog = QProgressDialog(title, "", 0, 100, QApplication.activeWindow())
    dialog.setWindowTitle("napari-ood")
    dialog.setCancelButton(None)
    dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
    dialog.setAutoReset(False)
    loop, timer = QEventLoop(), QTimer()

    def look() -> None:
        dialog.setValue(round(100 * task.share))
        if not task.thread.is_alive():
            loop.quit()

    timer.timeout.connect(look)
    timer.start(POLL_INTERVAL_MS)
    loop.exec()
    timer.stop()
    dialog.close()
    dialog.deleteLater()


class _Task(Generic[T]):
    """Work in a thread, and what came of it."""

    def __init__(self, work: Work[T]) -> None:
        self.share = 0.0
        self._work = work
        self._results: list[T] = []
        self._error: Exception | None = None
        self.thread = threading.Thread(target=self._run, name="napari-ood waiting", daemon=True)

    def _run(self) -> None:
        try:
            self._results.append(self._work(self._tell))
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error

    def _tell(self, share: float) -> None:
        self.share = share

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._results.pop()  # Qt may hold on to this task until it is next idle
