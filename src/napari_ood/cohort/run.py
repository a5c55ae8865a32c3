"""Run a bundle over many slides: workers, tasks, progress, manifest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from napari_ood.cohort import manifest
from napari_ood.cohort.client import (
    GPU,
    connected,
    dashboard,
    require_distributed,
    resources_for,
    suitable_workers,
)
from napari_ood.cohort.earlier import names_of, of_others, read_earlier
from napari_ood.cohort.plan import Job, Settings, plan_jobs
from napari_ood.cohort.progress import Listener
from napari_ood.cohort.shared import token_in
from napari_ood.errors import RunError
from napari_ood.inference.asked import Asked
from napari_ood.inference.engine import checked_batch_size
from napari_ood.inference.holding import holding_folder
from napari_ood.inference.provenance import package_versions
from napari_ood.models.precision import AUTO, FP32

if TYPE_CHECKING:
    from distributed import Client

    from napari_ood.cohort.dispatch import Dispatcher
    from napari_ood.models import Bundle

POLL_S = 0.2
"""How long to wait for a report before looking whether to stop."""
WORKERS_S = 2.0
"""How often to look which workers there are."""
STOP_S = 15.0
"""How long to wait for workers that were told to stop: some may still be loading torch."""
MANIFEST_S = 10.0
"""How often to write the manifest meanwhile, unless that takes long."""
MANIFEST_SHARE = 0.05
"""Of the time, at most, that goes into writing it: of 100,000 slides it has 50 MB."""

NO_DASHBOARD = "no dashboard: it needs bokeh where the scheduler runs (pip install bokeh)"


def run_cohort(
    slides: Sequence[str | Path],
    bundle: Bundle,
    out: str | Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    retries: int = 2,
    device: str = "auto",
    batch_size: int | None = None,
    tissue: bool = True,
    stride: int | None = None,
    mpp: float | None = None,
    precision: str = FP32,
    features: str | None = None,
    task_tiles: int | None = None,
    on_progress: Listener | None = None,
    on_notice: Callable[[str], None] | None = None,
    cancel: Callable[[], bool] | threading.Event | None = None,
) -> dict[str, Any]:
    """Run a bundle over many slides; each run is the one that ``run_slide`` would have left.

    On CPUs it is so bit for bit, unless several cores of a machine of many share a batch.
    Slides, bundle and ``out`` have the same paths on all machines: a shared folder. What is
    computed stays: the same call again does only what is missing.

    Parameters
    ----------
    slides : paths of slides, of folders that hold slides, and of lists of slides (CSV or text)
    bundle : Bundle
    out : folder that gets ``<slide name>.ood.zarr`` of each slide, and ``cohort.json``. Slides that
        share a name get those of their folders in front.
    workers : processes on this machine; by default one per core, or one on a GPU
    scheduler : address of a dask scheduler whose workers do it instead
    retries : how often a task that failed, or whose worker died, is tried again
    device : as ``run_slide`` takes it, on each worker. With ``cuda`` only workers get tasks that
        were started with ``--resources GPU=1``.
    batch_size, tissue, stride : as ``run_slide`` takes them
    mpp : µm per level-0 pixel, over the files' own
    precision : ``fp32`` or ``bf16``, the same for all slides: workers that choose for themselves
        would not all choose alike
    features : as ``run_slide`` takes it
    task_tiles : tiles of one task, about; by device by default
    on_progress : called in this thread, several times a second while something happens
    on_notice : called with one line: the dashboard's address, or what it lacks; a slide that
        failed; no workers
    cancel : polled; once true (or set), running tasks stop within a batch

    Returns
    -------
    dict
        The manifest, as in ``cohort.json``. A slide that fails is in it, with its error.

    Raises
    ------
    RunError, DeviceError
        If the scheduler is not there or went away, the manifest cannot be written, or ``out`` holds
        the runs of another bundle. HeldError, a RunError, where another process writes ``out``.
    OodError
        If dask.distributed is not installed, a list cannot be read, a folder holds no slides.
    """
    require_distributed()
    if workers is not None and scheduler is not None:
        raise RunError("workers are those of the scheduler or of this machine: name one of the two")
    if precision == AUTO:
        raise RunError("a cohort has one precision for all its slides: choose fp32 or bf16")
    Asked(precision, features, batch_size=checked_batch_size("cpu", batch_size, bundle.card))
    settings = Settings(
        bundle=str(bundle.path.absolute()),
        hashes=dict(bundle.hashes),
        device=device,
        batch_size=batch_size,
        tissue=tissue,
        stride=stride,
        mpp=mpp,
        precision=precision,
        features=features,
        task_tiles=task_tiles,
    )
    if scheduler is None:
        from napari_ood.models import resolve_device

        settings = replace(settings, device=resolve_device(device))
    folder = Path(out).absolute()
    heard = _Heard(on_progress, on_notice or (lambda text: None), _polled(cancel))
    with holding_folder(folder):
        earlier = read_earlier(folder, bundle.hashes)
        jobs = plan_jobs(slides, folder, names_of(earlier), images=bundle.card.whole_image)
        with connected(scheduler, workers, settings.device) as client, token_in(folder) as token:
            told = replace(settings, token=token)
            facts = {
                **_facts(bundle, told, retries),
                "scheduler": str(client.scheduler_info()["address"]),
                "dashboard": dashboard(client),
                "earlier": of_others(earlier, (job.slide for job in jobs)),
            }
            return _run_jobs(client, jobs, told, retries, facts, folder, heard)


@dataclass(frozen=True)
class _Heard:
    """Who is told of the cohort, and asked whether to stop."""

    progress: Listener | None
    notice: Callable[[str], None]
    stop: Callable[[], bool]


def _run_jobs(
    client: Client,
    jobs: list[Job],
    settings: Settings,
    retries: int,
    facts: dict[str, Any],
    folder: Path,
    heard: _Heard,
) -> dict[str, Any]:
    """Have workers run the jobs; keep the manifest up to date, and return it."""
    from napari_ood.cohort.dispatch import Dispatcher
    from napari_ood.cohort.tasks import CohortPlugin

    notice = heard.notice
    notice(f"dashboard at {facts['dashboard']}" if facts["dashboard"] else NO_DASHBOARD)
    name = f"napari-ood-{uuid4().hex}"
    client.register_plugin(CohortPlugin(settings, name), name=name)
    resources = resources_for(settings.device)
    dispatcher = Dispatcher(client, name, jobs, retries, resources, notice)
    facts = {**facts, "workers": dispatcher.workers}

    def checkpoint() -> None:
        manifest.write_manifest(folder, manifest.summary(facts, dispatcher.settled()))

    try:
        _supervise(client, dispatcher, resources, heard, checkpoint)
        if dispatcher.busy:
            notice("stopping: workers store what they have (Ctrl-C again: without them)")
            _stop(client, dispatcher, name)
    finally:
        # Also when interrupted or without a scheduler: what is out is given up.
        _withdraw(client, dispatcher, name)
        final = manifest.summary(facts, dispatcher.records(), ended=manifest.now())
        manifest.write_manifest(folder, final)
    return final


def _facts(bundle: Bundle, settings: Settings, retries: int) -> dict[str, Any]:
    """What the manifest says of the cohort as a whole."""
    return {
        "format_version": manifest.FORMAT_VERSION,
        "started": manifest.now(),
        "bundle": {"name": bundle.name, "path": settings.bundle, "hashes": settings.hashes},
        "settings": {
            "device": settings.device,
            "batch_size": settings.batch_size,
            "tissue": settings.tissue,
            "stride": settings.stride,
            "mpp": settings.mpp,
            "precision": settings.precision,
            "features": settings.features,
            "retries": retries,
        },
        "versions": package_versions(),
    }


def _polled(cancel: Callable[[], bool] | threading.Event | None) -> Callable[[], bool]:
    if cancel is None:
        return lambda: False
    return cancel.is_set if isinstance(cancel, threading.Event) else cancel


def _supervise(
    client: Client,
    dispatcher: Dispatcher,
    resources: dict[str, float],
    heard: _Heard,
    checkpoint: Callable[[], object],
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
            checkpoint()
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
