"""From jobs to the manifest: hand out, listen, stop in order when the user asks to."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from napari_ood.cohort import manifest
from napari_ood.cohort.client import GPU, resources_for, suitable_workers
from napari_ood.cohort.earlier import of_these, with_earlier
from napari_ood.cohort.plan import Job, Settings
from napari_ood.cohort.progress import Listener

if TYPE_CHECKING:
    from distributed import Client

    from napari_ood.cohort.dispatch import Dispatcher

POLL_S = 0.2
"""How long to wait for a report before looking whether to stop."""
WORKERS_S = 2.0
"""How often to look which workers there are."""
STOP_S = 15.0
"""How long to wait for workers that were told to stop: some may still be loading torch."""
MANIFEST_S = 3.0
"""How often to write the manifest meanwhile, unless that takes long."""
MANIFEST_SHARE = 0.05
"""Of the time, at most, that goes into writing it: of 100,000 slides it has 50 MB."""


@dataclass(frozen=True)
class Heard:
    """Who is told of the cohort, and asked whether to stop."""

    progress: Listener | None
    notice: Callable[[str], None]
    stop: Callable[[], bool]


@dataclass(frozen=True)
class Record:
    """What becomes the manifest.

    Attributes
    ----------
    folder : of the cohort
    facts : what holds for all slides
    earlier : records of earlier calls, of these slides and of others
    others : those of other slides
    """

    folder: Path
    facts: dict[str, Any]
    earlier: list[dict[str, Any]]
    others: list[dict[str, Any]]

    def write_so_far(self, dispatcher: Dispatcher) -> None:
        """Write it while the cohort goes on; of slides that are not through, as it was before."""
        settled = dispatcher.settled()
        through = {record["slide"] for record in settled}
        open_ones = {track.job.slide for track in dispatcher.tracks} - through
        facts = {
            **self.facts,
            "workers": dispatcher.workers,
            "progress": {"at": manifest.now(), **asdict(dispatcher.progress())},
            "earlier": [*of_these(self.earlier, open_ones), *self.others],
        }
        manifest.write_manifest(self.folder, manifest.summary(facts, settled))

    def write(self, dispatcher: Dispatcher, cancelled: bool) -> dict[str, Any]:
        """Write it at the end, and return it."""
        facts = {
            **self.facts,
            "workers": dispatcher.workers,
            "cancelled": cancelled,
            "earlier": self.others,
        }
        records = with_earlier(dispatcher.records(), self.earlier)
        whole = manifest.summary(facts, records, ended=manifest.now())
        manifest.write_manifest(self.folder, whole)
        return whole


def run_jobs(
    client: Client, jobs: list[Job], settings: Settings, retries: int, record: Record, heard: Heard
) -> dict[str, Any]:
    """Have workers run the jobs; keep the manifest up to date, and return it.

    Raises
    ------
    RunError
        If the scheduler went away, or the manifest cannot be written.
    """
    from napari_ood.cohort.dispatch import Dispatcher
    from napari_ood.cohort.tasks import CohortPlugin

    name = f"napari-ood-{uuid4().hex}"
    client.register_plugin(CohortPlugin(settings, name), name=name)
    resources = resources_for(settings.device)
    dispatcher = Dispatcher(client, name, jobs, retries, resources, heard.notice)
    through = False
    try:
        _supervise(client, dispatcher, resources, heard, record)
        through = not dispatcher.busy
        if not through:
            heard.notice("stopping: workers store what they have (Ctrl-C again: without them)")
            _stop(client, dispatcher, name)
    finally:
        # Also when interrupted or without a scheduler: what is out is given up.
        _withdraw(client, dispatcher, name)
        final = record.write(dispatcher, cancelled=not through)
    return final


def _supervise(
    client: Client,
    dispatcher: Dispatcher,
    resources: dict[str, float],
    heard: Heard,
    record: Record,
) -> None:
    """Take reports until none are out or the user cancels."""
    looked, due = float("-inf"), time.monotonic() + MANIFEST_S
    complained = False
    while dispatcher.busy and not heard.stop():
        now = time.monotonic()
        if now - looked > WORKERS_S:
            looked = now
            n_workers = len(suitable_workers(client, resources))
            dispatcher.staff(n_workers)
            if not n_workers and not complained:
                kind = f" with --resources {GPU}=1" if resources else ""
                heard.notice(f"waiting for workers: start some{kind}, or Ctrl-C")
            complained = not n_workers
        if now > due:
            record.write_so_far(dispatcher)
            written = time.monotonic()
            due = written + max(MANIFEST_S, (written - now) / MANIFEST_SHARE)
        dispatcher.take(POLL_S)
        if heard.progress:
            heard.progress(dispatcher.progress())


def _stop(client: Client, dispatcher: Dispatcher, name: str) -> None:
    """Let running tasks end within a batch, and hear what they did: it counts as done."""
    dispatcher.stop()
    _take_plugin(client, name)
    until = time.monotonic() + STOP_S
    while dispatcher.busy and time.monotonic() < until:
        dispatcher.take(POLL_S)


def _withdraw(client: Client, dispatcher: Dispatcher, name: str) -> None:
    """Take tasks and plugin away, as far as there still is a scheduler."""
    if client.status == "running":
        with suppress(OSError):
            dispatcher.cancel()
        _take_plugin(client, name)


def _take_plugin(client: Client, name: str) -> None:
    """Stop the workers' tasks; those that begin later find nothing to work with."""
    # ValueError: it was taken before. Others: a worker that has just died or begun has none.
    with suppress(KeyError, OSError, ValueError):
        client.unregister_worker_plugin(name)
