"""Run a bundle over a slide: plan, create or resume the output, compute what is missing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import RunError, SlideError
from napari_ood.inference.pipeline import Network, Session
from napari_ood.inference.plan import Plan, plan_grid, plan_run
from napari_ood.inference.progress import Listener
from napari_ood.inference.provenance import identity, provenance, session_record
from napari_ood.inference.run import Run, open_run
from napari_ood.inference.store import RunWriter, shards
from napari_ood.slides.grid import Region, TileGrid

if TYPE_CHECKING:
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide

BATCH_SIZE = {"cpu": 32, "mps": 64, "cuda": 256}
"""Tiles per forward pass where the caller does not say."""


def run_slide(
    slide: Slide,
    bundle: Bundle,
    out: str | Path,
    region: Region | None = None,
    device: str = "auto",
    on_progress: Listener | None = None,
    cancel: Callable[[], bool] | threading.Event | None = None,
    *,
    batch_size: int | None = None,
    tissue: bool = True,
    stride: int | None = None,
    view: Callable[[], Region | None] | None = None,
    roi: Callable[[TileGrid], NDArray[np.bool_]] | None = None,
) -> Run:
    """Run a bundle over a slide and store the outcome.

    A run that was cancelled or killed goes on where it stopped when called on the same ``out``.

    Parameters
    ----------
    slide : Slide
    bundle : Bundle
    out : path of the run's folder, by custom ``<slide name>.ood.zarr``
    region : (y, x, h, w) in level-0 pixels; the whole slide by default
    device : ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``
    on_progress : called in this thread after each shard that became durable
    cancel : polled before each batch; once true (or set), the run stops and keeps what is done
    batch_size : tiles per forward pass; chosen by device by default
    tissue : leave glass out
    stride : model pixels between tiles; the tile size by default
    view : polled per shard for the region on screen, whose shards are then read first
    roi : asked once which tiles of the grid may be run, (rows, cols) bool; all by default. The grid
        is that of the whole region, so tiles are those of a run without.

    Returns
    -------
    Run
        ``run.complete`` is False if it was cancelled.

    Raises
    ------
    SlideError, BundleError, DeviceError, RunError
        What is written so far is kept and can be resumed.
    """
    from napari_ood.models import resolve_device, reuse_freed_memory

    device = resolve_device(device)
    if batch_size is not None and batch_size < 1:
        raise RunError(f"the batch size must be at least 1, got {batch_size}")
    plan, writer = _open_output(Path(out), slide, bundle, region, stride, tissue, roi)
    done = open_run(writer.path).done
    missing = plan.tissue & ~done
    todo = [s for s in shards(done.shape, plan.shard) if missing[s.slices].any()]
    if todo:
        if device == "cpu":
            reuse_freed_memory()
        size = batch_size or BATCH_SIZE[device.partition(":")[0]]
        network = Network(bundle, device, size)
        session = Session(slide, plan, writer, network, todo, int(done.sum()), on_progress, view)
        started = time.time()
        try:
            session.run(_polled(cancel))
        finally:
            arguments = {"device": device, "batch_size": size}
            writer.add_session(session_record(started, session.report(), arguments))
    return Run(writer.path, bundle)


def _polled(cancel: Callable[[], bool] | threading.Event | None) -> Callable[[], bool]:
    if cancel is None:
        return lambda: False
    return cancel.is_set if isinstance(cancel, threading.Event) else cancel


def _open_output(
    path: Path, slide: Slide, bundle: Bundle, region: Region | None, stride: int | None,
    tissue: bool, roi: Callable[[TileGrid], NDArray[np.bool_]] | None,
) -> tuple[Plan, RunWriter]:  # fmt: skip
    """Create the run or, where it exists and is of the same slide, bundle and grid, resume it."""
    grid = plan_grid(slide, bundle, region, stride)
    inside = _inside(bundle, grid, roi)
    wanted = identity(slide, bundle, grid, tissue, inside)
    if not path.exists():
        plan = plan_run(slide, bundle, region, stride, tissue, inside)
        card = bundle.card
        record = provenance(slide, bundle, wanted)
        shape = (card.n_heads, len(card.classes), card.n_features)
        return plan, RunWriter.create(path, plan, *shape, record)
    run = open_run(path)
    stored = run.provenance["identity"]
    differing = sorted(k for k in wanted | stored if stored.get(k) != wanted.get(k))
    if differing:
        raise RunError(
            f"{path} holds a run with another {' and '.join(differing)}: choose another output, "
            "or delete that one"
        )
    # The stored tissue, not a new mask: what was to be run then is what is left to do now.
    return Plan(grid, run.tissue, tuple(run.provenance["shard"])), RunWriter.resume(path)


def _inside(
    bundle: Bundle, grid: TileGrid, roi: Callable[[TileGrid], NDArray[np.bool_]] | None
) -> NDArray[np.bool_] | None:
    """Tiles that may be run; None for all."""
    if roi is None:
        return None
    if bundle.card.whole_image:
        raise SlideError(
            "the bundle judges an image as a whole, so there are no tiles to choose: leave the "
            "region of interest out, and name a part with --region"
        )
    return np.asarray(roi(grid), bool)
