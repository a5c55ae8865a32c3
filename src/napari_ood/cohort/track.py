"""What is known of a slide of a cohort while its tasks come back, and its record in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_ood.cohort import manifest
from napari_ood.cohort.plan import Job
from napari_ood.cohort.tasks import Failure, failure_of
from napari_ood.cohort.work import Begun, Work
from napari_ood.errors import RunError
from napari_ood.inference import open_run
from napari_ood.inference.store import RunWriter


@dataclass
class Track:
    """What is known of a slide so far."""

    job: Job
    rank: int
    begun: Begun | None = None
    works: list[Work] = field(default_factory=list)
    failure: Failure | None = None
    workers: set[str] = field(default_factory=set)
    open_tasks: int = 0
    given: bool = False  # to a worker, for all that is known
    retries: int = 0
    record: dict[str, Any] | None = None  # once nothing of it is left to do

    def not_begun(self) -> None:
        """Note that the worker that was given it had not come to it."""
        self.given = self.begun is not None or self.retries > 0

    @property
    def share(self) -> float:
        """Share of its tasks that are done."""
        if self.record is not None:
            return 1.0
        parts = len(self.begun.parts) if self.begun else 0
        return len(self.works) / parts if parts else 0.0

    @property
    def share_of_task(self) -> float:
        """What one of its tasks is of the slide."""
        return 1 / len(self.begun.parts) if self.begun and self.begun.parts else 1.0

    def finish(self) -> dict[str, Any]:
        """Store the session of a slide that ran in parts, and sum the slide up."""
        n_tiles, n_new = self._tiles()
        begun = self.begun
        complete = begun is not None and n_tiles == begun.n_total
        outcome = manifest.DONE if complete else manifest.CANCELLED
        if begun is None and not self.given:
            outcome = manifest.NOT_BEGUN
        error = None
        if self.failure is not None:
            outcome = manifest.FAILED
            error = {"kind": self.failure.kind, "message": self.failure.message}
            if self.failure.trace:
                error["trace"] = self.failure.trace
        self.record = {
            "slide": self.job.slide,
            "run": self.job.out,
            **({"listed": dict(self.job.listed)} if self.job.listed else {}),
            "outcome": outcome,
            "fingerprint": begun.fingerprint if begun else None,
            "n_tiles": n_tiles,
            "n_total": begun.n_total if begun else None,
            "n_new": n_new,
            "worker_seconds": round(sum(work.session["seconds"] for work in self.works), 3),
            "tasks": len(self.works),
            "retries": self.retries,
            "workers": sorted(self.workers),
            "warnings": list(begun.warnings) if begun else [],
            "error": error,
        }
        return self.record

    def _tiles(self) -> tuple[int, int]:
        """Tiles that the run holds, and how many of them are new."""
        if self.begun is None:
            return 0, 0
        if not (self.begun.parts and self.works):
            n_new = sum(work.n_tiles for work in self.works)
            return self.begun.n_before + n_new, n_new
        out = Path(self.job.out)
        try:
            # One writer for all parts, so that none of their records is lost.
            sessions = [work.session for work in self.works]
            RunWriter.resume(out).add_session(manifest.merged_session(sessions))
            # Read from the run: it also holds what a worker stored before it died.
            n_tiles = open_run(out).n_tiles
        except RunError as error:
            self.failure = self.failure or failure_of(error)
            n_tiles = self.begun.n_before + sum(work.n_tiles for work in self.works)
        return n_tiles, n_tiles - self.begun.n_before
