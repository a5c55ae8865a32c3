"""Hands tasks out, takes reports in: retries, parts of large slides, workers that die."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from napari_ood.cohort import manifest
from napari_ood.cohort.client import suitable_workers
from napari_ood.cohort.plan import Job
from napari_ood.cohort.progress import CohortProgress
from napari_ood.cohort.tally import Tally
from napari_ood.cohort.tasks import Failure, Report, begin_slide, failure_of, run_part
from napari_ood.cohort.track import Track
from napari_ood.cohort.work import Begun, Cells, Work
from napari_ood.errors import RunError

if TYPE_CHECKING:
    from distributed import Client, Future

OPEN_SLIDES = 1000
"""Slides, at least, that the scheduler knows of: it would need 1 GB for a hundred thousand."""
SLIDES_PER_WORKER = 4
"""Or so many per worker, where that is more: the next task is there before one is finished."""
KILLED = "KilledWorker"
"""dask's name for what becomes of the tasks of a worker that died."""
REPORTS = 200
"""Reports that are fetched at once: a message for each takes longer than all that it says."""


@dataclass(frozen=True)
class Ticket:
    """A task that was handed out.

    Attributes
    ----------
    cells : shards of the track's slide; None: begin it
    attempt : how often it failed before
    alone : whether its worker has no other task
    """

    track: Track
    cells: Cells | None
    attempt: int
    future: Future[Report]
    alone: bool = False


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
        self._client, self._name = client, name
        self._retries, self._resources, self._notice = retries, resources, on_notice
        self._finished: queue.SimpleQueue[Future[Report]] = queue.SimpleQueue()
        self._tickets: dict[str, Ticket] = {}
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
        return bool(self._tickets or self._suspects)

    def staff(self, n_workers: int) -> None:
        """Take note of how many workers there are, and give them enough to do."""
        self._n_workers = n_workers
        self.fill()

    def fill(self) -> None:
        """Hand out slides until there is enough to do for all workers."""
        most = max(OPEN_SLIDES, SLIDES_PER_WORKER * self._n_workers)
        if not self._waiting or self._n_open > most / 2:
            return  # many at once take a tenth of the time
        tracks = [
            self._waiting.popleft() for _ in range(min(most - self._n_open, len(self._waiting)))
        ]
        self._n_open += len(tracks)
        futures = self._client.map(
            begin_slide,
            [self._name] * len(tracks),
            [track.job for track in tracks],
            key=[f"ood-slide-{track.rank}-{uuid4().hex}" for track in tracks],
            pure=False,
            resources=self._resources or None,
            # dask also takes a function, as of annotations; a lambda travels by value, so that the
            # scheduler need not have this package.
            priority=lambda key: -int(key.split("-")[2]),  # type: ignore[arg-type]
        )
        for track, future in zip(tracks, futures, strict=True):
            self._handed_out(Ticket(track, None, 0, future))

    def take(self, timeout: float) -> bool:
        """Wait for one report and act on it; return whether there was one.

        Raises
        ------
        RunError
            If the scheduler went away.
        """
        futures = self._finished_futures(timeout)
        reports = self._fetched(futures)
        for future in futures:
            key = str(future.key)
            ticket = self._tickets.pop(key, None)
            if ticket is not None:  # else it was taken back
                self._take(ticket, reports.get(key))
        self._try_suspects()
        return bool(futures)

    def _finished_futures(self, timeout: float) -> list[Future[Report]]:
        """Those that ended since the last call; waits for one."""
        found: list[Future[Report]] = []
        try:
            found.append(self._finished.get(timeout=timeout))
            while len(found) < REPORTS:
                found.append(self._finished.get_nowait())
        except queue.Empty:
            pass
        return found

    def _fetched(self, futures: list[Future[Report]]) -> dict[str, Report]:
        """What workers sent, by key; {} where not all of it can be had at once."""
        ready = [future for future in futures if future.status == "finished"]
        if len(ready) < 2:
            return {}
        try:
            found = self._client.gather(ready)
        except Exception:  # noqa: BLE001  asked for one by one, each says what is wrong with it
            return {}
        return {str(future.key): report for future, report in zip(ready, found, strict=True)}

    def _take(self, ticket: Ticket, report: Report | None) -> None:
        track = ticket.track
        before = track.share, len(track.works)
        outcome, worker = self._outcome(ticket, report)
        if isinstance(outcome, Failure):
            self._failed(ticket, outcome, worker)
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
        # The scheduler is asked: it knows of a task that has just ended before this process does.
        # A lambda travels by value: the scheduler need not have this package.
        begun = self._client.run_on_scheduler(
            lambda keys, dask_scheduler: {
                key for key in keys
                if key in dask_scheduler.tasks
                and dask_scheduler.tasks[key].state in ("processing", "memory", "erred")
            },
            set(self._tickets),
        )  # fmt: skip
        self._take_back(set(self._tickets) - begun)

    def cancel(self) -> None:
        """Take back all that is out, and hear no more of it."""
        self._stopping = True
        self._waiting.clear()
        self._suspects.clear()
        self._take_back(set(self._tickets))

    def _take_back(self, keys: set[str]) -> None:
        self._client.cancel([self._tickets.pop(key).future for key in sorted(keys)])

    def records(self) -> list[dict[str, Any]]:
        """What became of each slide, in the order of the jobs; ends those that are open."""
        return [track.record or track.finish() for track in self.tracks]

    def settled(self) -> list[dict[str, Any]]:
        """Records of the slides that are through."""
        return [track.record for track in self.tracks if track.record is not None]

    def progress(self) -> CohortProgress:
        """Where the cohort stands."""
        return self._tally.progress(self._n_workers)

    def _submit(
        self,
        track: Track,
        cells: Cells | None = None,
        attempt: int = 0,
        among: Sequence[str] = (),
        alone: bool = False,
    ) -> None:
        what = "slide" if cells is None else "part"
        task = (begin_slide, self._name, track.job)
        future = self._client.submit(
            *(task if cells is None else (run_part, *task[1:], cells)),
            key=f"ood-{what}-{uuid4().hex}",
            pure=False,
            resources=self._resources or None,
            workers=among or None,
            allow_other_workers=bool(among),  # should all of these be gone by then
            # Largest slides first, with all their parts; what failed once, last: what it did to
            # one worker it shall not do to those that still have work.
            priority=-track.rank - attempt * len(self.tracks),
        )
        self._handed_out(Ticket(track, cells, attempt, future, alone))

    def _handed_out(self, ticket: Ticket) -> None:
        ticket.track.open_tasks += 1
        self._tickets[str(ticket.future.key)] = ticket
        ticket.future.add_done_callback(self._finished.put)

    def _outcome(
        self, ticket: Ticket, report: Report | None
    ) -> tuple[Begun | Work | Failure, str | None]:
        """What became of a task, and the address of the worker that told it."""
        future = ticket.future
        if report is not None or future.status == "finished":
            report = report or future.result()
            self._met(ticket.track, report)
            return report.outcome, report.worker
        if future.status != "error":
            raise RunError("the scheduler went away: what was computed is kept; run the same again")
        error = future.exception()
        if type(error).__name__ == KILLED:
            where = "part of it" if ticket.cells else "it"
            advice = "it may lack memory; its log says more"
            words = f"the worker died that ran {where}: {advice}"
            return Failure(KILLED, words, True), None
        return failure_of(error), None

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
        if not all(ticket.alone for ticket in self._tickets.values()):
            return
        while self._suspects and len(self._tickets) < max(1, self._n_workers):
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
