"""Run a bundle over many slides: workers, tasks, progress, manifest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ood.cohort import manifest
from napari_ood.cohort.client import connected, dashboard, require_distributed
from napari_ood.cohort.earlier import names_of, of_others, read_earlier
from napari_ood.cohort.plan import Settings, plan_jobs
from napari_ood.cohort.progress import Listener
from napari_ood.cohort.shared import token_in
from napari_ood.cohort.supervise import Heard, Record, run_jobs
from napari_ood.errors import RunError
from napari_ood.inference.asked import Asked
from napari_ood.inference.engine import checked_batch_size, polled
from napari_ood.inference.holding import holding_folder
from napari_ood.inference.provenance import package_versions
from napari_ood.models.precision import AUTO, FP32

if TYPE_CHECKING:
    from napari_ood.models import Bundle

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
        The manifest, as in ``cohort.json``. A slide that fails is in it, with its error; a slide
        that no worker came to, as earlier calls left it, or as ``not begun``.

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
    heard = Heard(on_progress, on_notice or (lambda text: None), polled(cancel))
    with holding_folder(folder):
        earlier = read_earlier(folder, bundle.hashes)
        jobs = plan_jobs(slides, folder, names_of(earlier), images=bundle.card.whole_image)
        with connected(scheduler, workers, settings.device) as client, token_in(folder) as token:
            told, address = replace(settings, token=token), dashboard(client)
            heard.notice(f"dashboard at {address}" if address else NO_DASHBOARD)
            facts = {
                **_facts(bundle, told, retries),
                "scheduler": str(client.scheduler_info()["address"]),
                "dashboard": address,
            }
            others = of_others(earlier, (job.slide for job in jobs))
            record = Record(folder, facts, earlier, others)
            return run_jobs(client, jobs, told, retries, record, heard)


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
