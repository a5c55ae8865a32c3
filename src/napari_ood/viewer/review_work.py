"""What the review dock has done in threads: agreement worked out, verdicts imported. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_ood.viewer.review_figures import figures_html
from napari_ood.viewer.task import Task

if TYPE_CHECKING:
    from napari_ood.export.review_import import ImportSummary
    from napari_ood.viewer.review_queue import ReviewQueue
    from napari_ood.viewer.review_state import QueueState

MOST_DETAILS = 3


class ReviewWork:
    """Work on the review of a queue; one piece of each kind at a time.

    Signals
    -------
    figured(html) : agreement and errors were worked out
    imported(text) : verdicts were imported; what came of it, for the user
    failed(message) : one line for the user
    """

    figured = Signal(str)
    imported = Signal(str)
    failed = Signal(str)

    def __init__(self, queue: ReviewQueue) -> None:
        self._queue = queue
        self._figures: Task[str] | None = None
        self._figures_due = False
        self._import: Task[str] | None = None

    @property
    def busy(self) -> bool:
        """Whether anything is being done or due."""
        return self._figures_due or self._figures is not None or self._import is not None

    @property
    def importing(self) -> bool:
        """Whether verdicts are being imported."""
        return self._import is not None

    def figure(self) -> None:
        """Work agreement and errors out anew; the latest wish counts."""
        self._figures_due = True

    def import_from(self, path: Path) -> None:
        """Add the verdicts of a GeoJSON file to the review; they are this reviewer's."""
        state = self._queue.state
        if self._import is None and state.found is not None:
            self._import = Task(lambda task: _import(path, state))

    def poll(self) -> bool:
        """Take over what was done, start what is due; whether there is more to come."""
        if self._import is not None and not self._import.alive:
            done, self._import = self._import, None
            self._queue.reload()
            self._report(done, self.imported.emit)
        if self._figures is not None and not self._figures.alive:
            figured, self._figures = self._figures, None
            if not self._figures_due:
                self._report(figured, self.figured.emit)
        if self._figures_due and self._figures is None:
            self._figures_due = False
            state = self._queue.state
            self._figures = Task(lambda task: _figure(state))
        return self.busy

    def _report(self, task: Task[str], tell: Callable[[str], object]) -> None:
        if task.error is not None:
            self.failed.emit(task.error)
        elif task.result is not None:
            tell(task.result)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until an import has ended; whether it has. For scripts and tests."""
        return self._import is None or self._import.wait(timeout)


def _figure(state: QueueState) -> str:
    return figures_html(state, state.found.store.all_verdicts() if state.found is not None else {})


def _import(path: Path, state: QueueState) -> str:
    from napari_ood.export.review_import import import_review

    found = state.found
    assert found is not None
    summary = import_review(
        path, found.scored, state.reviewer, review=found.store.path, slide=state.slide
    )
    return import_words(path, summary)


def import_words(path: Path, summary: ImportSummary) -> str:
    """What an import did, in a few lines."""
    lines = [f"{path.name}: {summary.words}."]
    whose = ", ".join(f"{name} {n:,}" for name, n in summary.per_reviewer.items())
    if whose:
        lines.append(f"Added: {whose}.")
    details = [*(c.words for c in summary.conflicts), *summary.passed_over]
    lines += [f"– {detail}" for detail in details[:MOST_DETAILS]]
    if len(details) > MOST_DETAILS:
        lines.append(f"– and {len(details) - MOST_DETAILS:,} more")
    return "\n".join([*lines, *summary.notes])
