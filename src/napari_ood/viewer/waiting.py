"""Wait for slow work without freezing the window."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
Work = Callable[[Callable[[float], None]], T]
"""Work that takes a function to be told the share that is done, 0 to 1."""

POLL_INTERVAL_MS = 50


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
    from qtpy.QtCore import QEventLoop, Qt, QTimer
    from qtpy.QtWidgets import QProgressDialog

    task = _Task(work)
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
    task.thread.start()
    loop.exec()
    timer.stop()
    dialog.close()
    dialog.deleteLater()
    return task.result()


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
        return self._results[0]
