"""Tasks that are out on workers, as dask sees them: submitted, heard of, taken back."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from napari_ood.cohort.tasks import Failure, Report, begin_slide, failure_of, run_part
from napari_ood.cohort.track import Track
from napari_ood.cohort.work import Cells
from napari_ood.errors import RunError

if TYPE_CHECKING:
    from distributed import Client, Future

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


class Handout:
    """A cohort's tasks on a client's workers.

    Parameters
    ----------
    client : Client
    name : of the plugin that the workers were given, and of the topic under which tasks tell
    resources : that a task asks of its worker

    Attributes
    ----------
    tickets : tasks that are out, by key
    """

    def __init__(self, client: Client, name: str, resources: dict[str, float]) -> None:
        self._client, self._name, self._resources = client, name, resources or None
        self._finished: queue.SimpleQueue[Future[Report]] = queue.SimpleQueue()
        self._stored: dict[str, tuple[int, int]] = {}
        self.tickets: dict[str, Ticket] = {}
        client.subscribe_topic(name, self._heard)

    def begin(self, tracks: Sequence[Track]) -> None:
        """Hand out slides; many at once take a tenth of the time."""
        futures = self._client.map(
            begin_slide,
            [self._name] * len(tracks),
            [track.job for track in tracks],
            key=[f"ood-slide-{track.rank}-{uuid4().hex}" for track in tracks],
            pure=False,
            resources=self._resources,
            # dask also takes a function, as of annotations; a lambda travels by value, so that the
            # scheduler need not have this package.
            priority=lambda key: -int(key.split("-")[2]),  # type: ignore[arg-type]
        )
        for track, future in zip(tracks, futures, strict=True):
            self._handed(Ticket(track, None, 0, future))

    def submit(
        self,
        track: Track,
        cells: Cells | None,
        attempt: int,
        priority: int,
        among: Sequence[str] = (),
        alone: bool = False,
    ) -> None:
        """Hand out a task; ``among``: addresses of the workers that should have it."""
        what = "slide" if cells is None else "part"
        task = (begin_slide, self._name, track.job)
        future = self._client.submit(
            *(task if cells is None else (run_part, *task[1:], cells)),
            key=f"ood-{what}-{uuid4().hex}",
            pure=False,
            resources=self._resources,
            workers=among or None,
            allow_other_workers=bool(among),  # should all of these be gone by then
            priority=priority,
        )
        self._handed(Ticket(track, cells, attempt, future, alone))

    def _handed(self, ticket: Ticket) -> None:
        ticket.track.open_tasks += 1
        ticket.track.given = True
        self.tickets[str(ticket.future.key)] = ticket
        ticket.future.add_done_callback(self._finished.put)

    def returned(self, timeout: float) -> Iterator[tuple[Ticket, Report | Failure, int]]:
        """Tasks that ended since the last call, with what became of them; waits for one.

        The last of each is how many tiles the task was heard to have stored.

        Raises
        ------
        RunError
            If the scheduler went away.
        """
        futures = self._ended(timeout)
        reports = self._fetched(futures)
        for future in futures:
            key = str(future.key)
            ticket = self.tickets.pop(key, None)
            if ticket is not None:  # else it was taken back
                stored = self._stored.pop(key, (0, 0))[0]
                yield ticket, reports.get(key) or _outcome(ticket), stored

    def _ended(self, timeout: float) -> list[Future[Report]]:
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

    def _heard(self, event: tuple[float, Any]) -> None:
        """Note how far a task is; called in the client's own thread."""
        key, n_tiles, n_total = event[1]
        self._stored[key] = n_tiles, n_total

    def under_way(self) -> Iterator[tuple[Ticket, int, int]]:
        """Tasks that have told of themselves: tiles stored, and in all."""
        for key, (n_tiles, n_total) in list(self._stored.items()):
            ticket = self.tickets.get(key)
            if ticket is None:
                self._stored.pop(key, None)  # told late, or taken back
            else:
                yield ticket, n_tiles, n_total

    def take_back_waiting(self) -> None:
        """Take back the tasks that no worker has yet."""
        # The scheduler is asked: it knows of a task that has just ended before this process does.
        # A lambda travels by value: the scheduler need not have this package.
        begun = self._client.run_on_scheduler(
            lambda keys, dask_scheduler: {
                key for key in keys
                if key in dask_scheduler.tasks
                and dask_scheduler.tasks[key].state in ("processing", "memory", "erred")
            },
            set(self.tickets),
        )  # fmt: skip
        for ticket in self._take_back(set(self.tickets) - begun):
            ticket.track.not_begun()

    def take_back_all(self) -> None:
        """Take back all that is out, and hear no more of it."""
        self._take_back(set(self.tickets))

    def _take_back(self, keys: set[str]) -> list[Ticket]:
        tickets = [self.tickets.pop(key) for key in sorted(keys)]
        self._client.cancel([ticket.future for ticket in tickets])
        return tickets


def _outcome(ticket: Ticket) -> Report | Failure:
    """What became of a task that was not fetched with others."""
    future = ticket.future
    if future.status == "finished":
        report: Report = future.result()
        return report
    if future.status != "error":
        raise RunError("the scheduler went away: what was computed is kept; run the same again")
    error = future.exception()
    if type(error).__name__ == KILLED:
        where = "part of it" if ticket.cells else "it"
        words = f"the worker died that ran {where}: it may lack memory; its log says more"
        return Failure(KILLED, words, True)
    return failure_of(error)
