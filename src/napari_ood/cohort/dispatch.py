"""Hands tasks out, takes reports in: retries, parts of large slides, workers that die."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from napari_ood.cohort import manifest
from napari_ood.cohort.client import suitable_workers
from napari_ood.cohort.handout import KILLED, Handout, Ticket
from napari_ood.cohort.plan import Job
from napari_ood.cohort.progress import CohortProgress
from napari_ood.cohort.shared import StoppedError
from napari_ood.cohort.tally import Tally
from napari_ood.cohort.tasks import Failure, Report
from napari_ood.cohort.track import Track
from napari_ood.cohort.work import Begun, Cells

if TYPE_CHECKING:
    from distributed import Client

OPEN_SLIDES = 1000
"""Slides, at least, that the scheduler knows of: it would need 1 GB for a hundred thousand."""
SLIDES_PER_WORKER = 4
"""Or so many per worker, where that is more: the next task is there before one is finished."""


class Dispatcher:
    """The cohort's tasks on a client's workers.

    Parameters
    ----------
    client : Client
    name : of the plugin that the workers were given
    jobs : in the order in which they are to be begun
    retries : how often a task that failed is tried again
    resources : that a task asks of its worker
    on_notice : called with one line on what the user should know now
    """

    def __init__(
        self,
        client: Client,
        name: str,
        jobs: Sequence[Job],
        retries: int,
        resources: dict[str, float],
        on_notice: Callable[[str], None],
    ) -> None:
        self._client, self._resources = client, resources
        self._retries, self._notice = retries, on_notice
        self._out = Handout(client, name, resources)
        self.tracks = [Track(job, rank) for rank, job in enumerate(jobs)]
        self.workers: dict[str, dict[str, Any]] = {}
        self._unfit: set[str] = set()  # addresses of workers that cannot do any of it
        self._waiting = deque(self.tracks)
        self._suspects: deque[Ticket] = deque()  # of workers that died
        self._n_workers = 1
        self._stopping = False
        self._n_open = 0
        self._tally = Tally(jobs)
        self.fill()

    @property
    def busy(self) -> bool:
        """Whether tasks are out, or wait to be tried again."""
        return bool(self._out.tickets or self._suspects)

    def staff(self, n_workers: int) -> None:
        """Take note of how many workers there are, and give them enough to do."""
        self._n_workers = n_workers
        self.fill()

    def fill(self) -> None:
        """Hand out slides until there is enough to do for all workers."""
        most = max(OPEN_SLIDES, SLIDES_PER_WORKER * self._n_workers)
        if not self._waiting or self._n_open > most / 2:
            return
        tracks = [
            self._waiting.popleft() for _ in range(min(most - self._n_open, len(self._waiting)))
        ]
        self._n_open += len(tracks)
        self._out.begin(tracks)

    def take(self, timeout: float) -> None:
        """Wait for a report, and act on all that are there.

        Raises
        ------
        RunError
            If the scheduler went away.
        """
        for ticket, came, stored in self._out.returned(timeout):
            self._take(ticket, came, stored)
        self._try_suspects()

    def _take(self, ticket: Ticket, came: Report | Failure, stored: int) -> None:
        track = ticket.track
        before = track.share, len(track.works)
        if isinstance(came, Report):
            self._met(track, came)
        outcome = came.outcome if isinstance(came, Report) else came
        if isinstance(outcome, Failure):
            self._tally.kept(stored)
            self._failed(ticket, outcome, came.worker if isinstance(came, Report) else None)
        else:
            work = outcome.work if isinstance(outcome, Begun) else outcome
            if work is not None:
                track.works.append(work)
            if isinstance(outcome, Begun):
                track.begun = outcome
                for cells in () if self._stopping else outcome.parts:
                    self._submit(track, cells)
        track.open_tasks -= 1
        if not track.open_tasks:
            self._finish(track)
            self._n_open -= 1
            self.fill()
        self._tally.moved(track, *before)

    def stop(self) -> None:
        """Take back what no worker has yet; nothing follows what the others still report.

        Their tasks are stopped by taking the plugin away.
        """
        self._stopping = True
        self._waiting.clear()
        self._suspects.clear()
        self._out.take_back_waiting()

    def cancel(self) -> None:
        """Take back all that is out, and hear no more of it."""
        self._stopping = True
        self._waiting.clear()
        self._suspects.clear()
        self._out.take_back_all()

    def records(self) -> list[dict[str, Any]]:
        """What became of each slide, in the order of the jobs; ends those that are open."""
        return [track.record or track.finish() for track in self.tracks]

    def settled(self) -> list[dict[str, Any]]:
        """Records of the slides that are through."""
        return [track.record for track in self.tracks if track.record is not None]

    def progress(self) -> CohortProgress:
        """Where the cohort stands."""
        under_way = (
            (n, ticket.track.job.size * ticket.track.share_of_task * n / max(total, 1))
            for ticket, n, total in self._out.under_way()
        )
        return self._tally.progress(self._n_workers, under_way)

    def _submit(
        self,
        track: Track,
        cells: Cells | None = None,
        attempt: int = 0,
        among: Sequence[str] = (),
        alone: bool = False,
    ) -> None:
        # Largest slides first, with all their parts; what failed once, last: what it did to one
        # worker it shall not do to those that still have work.
        priority = -track.rank - attempt * len(self.tracks)
        self._out.submit(track, cells, attempt, priority, among, alone)

    def _met(self, track: Track, report: Report) -> None:
        """Note who did it; tell when workers do not have the same packages."""
        track.workers.add(report.worker)
        if report.worker in self.workers:
            return
        before = manifest.differing_versions(self.workers)
        self.workers[report.worker] = report.about
        for name in manifest.differing_versions(self.workers):
            if name not in before:
                self._notice(f"workers have different versions of {name}: results may differ")

    def _failed(self, ticket: Ticket, failure: Failure, worker: str | None) -> None:
        """Try again, elsewhere if it was the worker's fault; note what failed too often."""
        if self._stopping:
            if failure.kind == StoppedError.__name__:
                ticket.track.not_begun()
            return
        if failure.kind == KILLED and not ticket.alone:
            self._suspect(ticket)
            return
        track = ticket.track
        others = self._fit_ones(worker, failure) if worker and failure.of_worker else []
        # An unfit worker is through at once with each slide: all would have failed often enough
        # before the others had finished one.
        if others or ticket.attempt < self._retries:
            track.retries += 1
            attempt = ticket.attempt + (not others)
            self._submit(track, ticket.cells, attempt, others, alone=ticket.alone)
        elif track.failure is None:
            track.failure = failure

    def _suspect(self, ticket: Ticket) -> None:
        """Put off a task whose worker died: it may have been the fault of another one there.

        A worker has several, above all where they ask for a GPU, and all are lost with it. Which of
        them ran, dask does not tell.
        """
        ticket.track.retries += 1
        ticket.track.open_tasks += 1
        self._suspects.append(ticket)

    def _try_suspects(self) -> None:
        """Once nothing else is out, hand out as many as there are workers: one for each."""
        if not self._suspects or self._waiting:
            return
        if not all(ticket.alone for ticket in self._out.tickets.values()):
            return
        while self._suspects and len(self._out.tickets) < max(1, self._n_workers):
            ticket = self._suspects.popleft()
            ticket.track.open_tasks -= 1
            # With no tries left it still gets this one: nothing says that it was the culprit.
            attempt = min(ticket.attempt + 1, self._retries)
            self._submit(ticket.track, ticket.cells, attempt, alone=True)

    def _fit_ones(self, worker: str, failure: Failure) -> list[str]:
        """Note that a worker is unfit; return those that are not known to be."""
        if worker not in self._unfit:
            self._unfit.add(worker)
            self._notice(failure.message)
        return sorted(suitable_workers(self._client, self._resources) - self._unfit)

    def _finish(self, track: Track) -> None:
        record = track.finish()
        if record["outcome"] == manifest.FAILED:
            self._tally.ended(failed=True)
            self._notice(f"{record['slide']}: {record['error']['message']}")
        elif record["outcome"] == manifest.DONE or not self._stopping:
            self._tally.ended(failed=False)
