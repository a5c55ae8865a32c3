"""Reading a cohort's board in a thread, and what has come of it so far. No Qt, no napari."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ood.board import MEASURES, Drift, drift_of, read_board
from napari_ood.viewer.latest import Latest

if TYPE_CHECKING:
    from napari_ood.board import Board, Measure, SlideRow
    from napari_ood.viewer.task import Task


@dataclass
class _News:
    """Rows that came since they were last taken, by their place."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    rows: dict[int, SlideRow] = field(default_factory=dict)

    def put(self, place: int, row: SlideRow) -> None:
        with self.lock:
            self.rows[place] = row

    def take(self) -> dict[int, SlideRow]:
        with self.lock:
            taken, self.rows = self.rows, {}
        return taken


@dataclass(frozen=True)
class Outcome:
    """A board that was read, and its drifts, by measure."""

    board: Board
    drifts: dict[Measure, Drift]


class BoardReading:
    """One folder at a time; the latest wish counts. Polled by the GUI.

    Attributes
    ----------
    folder : that is being read, or was
    outcome : of it; None until it was read, and after an error
    error : one line, "" for none
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.outcome: Outcome | None = None
        self.error = ""
        self._latest: Latest[Outcome] = Latest()
        self._news = _News()

    @property
    def busy(self) -> bool:
        """Whether a folder is being read."""
        return self._latest.busy

    @property
    def share(self) -> float | None:
        """How much of it is read, 0 to 1; None while that is not known."""
        return self._latest.share

    def read(self, folder: Path) -> None:
        """Read a folder instead of what is being read."""
        self.folder, self.outcome, self.error = folder, None, ""
        news = self._news = _News()
        self._latest.ask(lambda task: _read(folder, news, task))

    def poll(self) -> dict[int, SlideRow]:
        """Rows that came since the last call; takes over the outcome."""
        task = self._latest.take()
        rows = self._news.take()
        if task is not None:
            self.outcome, self.error = task.result, task.error or ""
        return rows

    def stop(self) -> None:
        """Read no further; what was measured is kept in the folder."""
        self._latest.drop()

    def wait(self, timeout: float) -> bool:
        """Block until the thread has ended; whether it has. For scripts and tests."""
        return self._latest.wait(timeout)


def _read(folder: Path, news: _News, task: Task[Outcome]) -> Outcome:
    board = read_board(
        folder,
        on_row=news.put,
        on_progress=lambda done, total: task.tell(done / total),
        cancel=lambda: task.cancelled,
    )
    drifts = {measure: drift_of(board.rows, measure) for measure in MEASURES}
    return Outcome(board, {m: drift for m, drift in drifts.items() if m == "ood" or drift.n_dated})
