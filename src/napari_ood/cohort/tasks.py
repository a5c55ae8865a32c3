"""Work as dask runs it: a plugin that keeps each worker's bundle and slides, and its two tasks."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask
from distributed import Worker, WorkerPlugin, get_worker

from napari_ood.cohort.plan import Job, Settings
from napari_ood.cohort.shared import StoppedError, UnfitError
from napari_ood.cohort.work import Begun, Cells, Work, Workplace, describe_worker
from napari_ood.errors import OodError

TELL_S = 1.0
"""How often a task tells of itself: a thousand workers are a thousand events a second."""


@dataclass(frozen=True)
class Failure:
    """Why a task failed, as text: not every exception survives the way back.

    Attributes
    ----------
    kind : name of the exception's class
    message : one line
    advice : whether it tells the user what to do
    trace : traceback; empty where the message says it all
    of_worker : whether it is the machine's fault, whatever the slide
    """

    kind: str
    message: str
    advice: bool
    trace: str = ""
    of_worker: bool = False


@dataclass(frozen=True)
class Report:
    """What comes back from a worker: what it did or why not, and who it is."""

    outcome: Begun | Work | Failure
    worker: str
    about: dict[str, Any]


class CohortPlugin(WorkerPlugin):
    """Gives every worker, also those that come later, a workplace; taking it away stops its work.

    Parameters
    ----------
    settings : Settings
    name : of the cohort: several may share the workers
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings, self.name = settings, name
        self._workplace: Workplace | None = None

    def setup(self, worker: Worker) -> None:
        """Loads nothing yet: what cannot be loaded is a task's error, not the worker's end."""
        self._workplace = Workplace(self.settings)

    def teardown(self, worker: Worker) -> None:
        """Called when the cohort ends or is cancelled; a running task stops within a batch."""
        if self._workplace is not None:
            # In a thread: it waits for a running task, and the worker has to go on answering.
            threading.Thread(target=self._workplace.close, daemon=True).start()

    @property
    def workplace(self) -> Workplace:
        """What this worker keeps."""
        assert self._workplace is not None  # setup comes before any task
        return self._workplace


class Teller:
    """Tells of a task while it runs: an event with its key, tiles stored, tiles in all.

    Parameters
    ----------
    worker : that runs it
    topic : of the events
    key : of the task
    """

    def __init__(self, worker: Worker, topic: str, key: str) -> None:
        self._worker, self._topic, self._key = worker, topic, key
        self._told = float("-inf")

    def __call__(self, n_tiles: int, n_total: int) -> None:
        """Tell, unless it was told just before."""
        now = time.monotonic()
        if now - self._told >= TELL_S:
            self._told = now
            self._worker.log_event(self._topic, [self._key, n_tiles, n_total])


def begin_slide(name: str, job: Job) -> Report:
    """Task: open a slide, begin its run, and compute it if it is small."""
    return _reported(name, lambda workplace: workplace.begin(job))


def run_part(name: str, job: Job, cells: Cells) -> Report:
    """Task: compute some shards of a slide."""
    return _reported(name, partial(Workplace.part, job=job, cells=cells))


def _reported(name: str, task: Callable[[Workplace], Begun | Work]) -> Report:
    worker = get_worker()
    outcome: Begun | Work | Failure
    try:
        plugin = worker.plugins.get(name)
        if plugin is None:
            raise StoppedError
        assert isinstance(plugin, CohortPlugin)
        # Pyramids are dask arrays: left to itself, dask would have the cluster compute them, send
        # their pixels around, and wait for workers that wait for this task.
        teller = Teller(worker, name, str(worker.get_current_task()))
        with dask.config.set(scheduler="threads"), plugin.workplace.at_work(teller) as workplace:
            outcome = task(workplace)
    except Exception as error:  # noqa: BLE001  whatever it is, the other slides go on
        outcome = failure_of(error)
    return Report(outcome, worker.address, describe_worker())


def failure_of(error: BaseException) -> Failure:
    """Put an exception into words."""
    text = " ".join(str(error).split())
    if isinstance(error, OodError):
        of_worker = isinstance(error, UnfitError)
        return Failure(type(error).__name__, text, advice=True, of_worker=of_worker)
    trace = "".join(traceback.format_exception(error))
    return Failure(type(error).__name__, text or type(error).__name__, False, trace)
