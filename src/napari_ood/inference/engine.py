"""Run a bundle over a slide: plan, create or resume the output, compute what is missing."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import RunError, SlideError
from napari_ood.inference.asked import Asked
from napari_ood.inference.holding import holding_run
from napari_ood.inference.network import Network
from napari_ood.inference.order import View
from napari_ood.inference.pipeline import Session
from napari_ood.inference.plan import Plan, plan_grid, plan_run
from napari_ood.inference.precedence import PRECEDENCE
from napari_ood.inference.progress import Listener
from napari_ood.inference.provenance import identity, provenance, session_record
from napari_ood.inference.run import Run, open_run
from napari_ood.inference.store import (
    ATTRIBUTE,
    RunWriter,
    Shard,
    grid_array,
    open_group,
    read_cells,
    shards,
)
from napari_ood.models.precision import AUTO, FP32, Arithmetic
from napari_ood.slides.grid import Region, TileGrid

if TYPE_CHECKING:
    from napari_ood.models import Bundle
    from napari_ood.models.card import Card
    from napari_ood.slides import Slide

BATCH_SIZE = {"mps": 64, "cuda": 256}
"""Tiles per forward pass where the caller does not say."""
CPU_BATCH_PX = 400_000
"""Pixels per forward pass on a CPU: layers of that size stay in a core's cache, small ones do not
pay for their calls, and several batches are under way at once."""
CPU_BATCH_SIZES = (1, 32)


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
    view: View | None = None,
    roi: Callable[[TileGrid], NDArray[np.bool_]] | None = None,
    precision: str = AUTO,
    features: str | None = None,
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
    view : polled, from any thread, for what is on screen in level-0 pixels (a region, several, or
        None); it is computed first, then every fourth shard, then the rest
    roi : asked once which tiles of the grid may be run, (rows, cols) bool; all by default. The grid
        is that of the whole region, so tiles are those of a run without.
    precision : ``auto``, ``fp32`` or ``bf16``. A run that goes on does so in its own; a new one in
        what ``napari_ood.models.precision`` measures to be the fastest on this device among what
        leaves the bundle's decisions as they are.
    features : stored as ``float32`` (the default), ``float16``, or ``none``: then there are
        prediction and uncertainty, and no OOD score

    Returns
    -------
    Run
        ``run.complete`` is False if it was cancelled.

    Raises
    ------
    SlideError, BundleError, DeviceError, RunError
        What is written so far is kept and can be resumed. HeldError, a RunError, where another
        process is writing ``out``.
    """
    from napari_ood.models import resolve_device

    device = resolve_device(device)
    size = checked_batch_size(device, batch_size, bundle.card)
    asked = Asked(precision, features, device, size)
    path = Path(out)
    with holding_run(path):
        plan, writer, done = open_output(path, slide, bundle, region, stride, tissue, roi, asked)
        todo = shards_left(plan, done)
        if todo:
            network = open_network(bundle, device, size, writer.arithmetic)
            n_done = int(done.sum())
            # Closed last: it waits for threads, and a second Ctrl-C may strike there.
            with closing(network):
                session = Session(
                    slide, plan, writer, network, todo, n_done, on_progress, view,
                    done=done if n_done else None,
                )  # fmt: skip
                started = time.time()
                try:
                    with PRECEDENCE.taken():
                        session.run(polled(cancel))
                finally:
                    arguments = {"device": device, "batch_size": size}
                    writer.add_session(session_record(started, session.report(), arguments))
    return Run(path, bundle)


def open_network(
    bundle: Bundle,
    device: str,
    batch_size: int | None = None,
    arithmetic: Arithmetic | None = None,
) -> Network:
    """Load the bundle's network for a long computation on a device that is there.

    Raises
    ------
    BundleError, RunError
        RunError where the batch size is not at least 1.
    """
    from napari_ood.models import reuse_freed_memory

    size = checked_batch_size(device, batch_size, bundle.card)
    network = Network(bundle, device, size, arithmetic)
    if device == "cpu":
        reuse_freed_memory()  # after loading, which leaves copies of the weights
    return network


def checked_batch_size(device: str, batch_size: int | None, card: Card) -> int:
    """Tiles per forward pass: as asked, or what suits the device and the network's input."""
    if batch_size is not None and batch_size < 1:
        raise RunError(f"the batch size must be at least 1, got {batch_size}")
    if batch_size is not None or device != "cpu":
        return batch_size or BATCH_SIZE[device.partition(":")[0]]
    side = card.input_size or card.tile_size
    suits = 2 ** round(math.log2(CPU_BATCH_PX / side**2))
    return int(min(max(suits, CPU_BATCH_SIZES[0]), CPU_BATCH_SIZES[1]))


def shards_left(plan: Plan, done: NDArray[np.bool_]) -> list[Shard]:
    """Shards that have tiles to run which are not ``done`` ((rows, cols) bool), row by row."""
    missing = plan.tissue & ~done
    return [s for s in shards(done.shape, plan.shard) if missing[s.slices].any()]


def polled(cancel: Callable[[], bool] | threading.Event | None) -> Callable[[], bool]:
    """What a caller gave to cancel with, as a function that says whether to stop."""
    if cancel is None:
        return lambda: False
    return cancel.is_set if isinstance(cancel, threading.Event) else cancel


def open_output(
    path: Path, slide: Slide, bundle: Bundle, region: Region | None, stride: int | None,
    tissue: bool, roi: Callable[[TileGrid], NDArray[np.bool_]] | None = None,
    asked: Asked | None = None,
) -> tuple[Plan, RunWriter, NDArray[np.bool_]]:  # fmt: skip
    """Create the run or, where it exists and is of the same slide, bundle and grid, resume it.

    Which tiles are done comes last: (rows, cols) bool.
    """
    asked = asked or Asked(FP32)
    grid = plan_grid(slide, bundle, region, stride)
    inside = _inside(bundle, grid, roi)
    wanted = identity(slide, bundle, grid, tissue, inside)
    if not path.exists():
        plan = plan_run(slide, bundle, region, stride, tissue, inside)
        card = bundle.card
        arithmetic, features = asked.settled(bundle)
        record = {**provenance(slide, bundle, wanted), "arithmetic": arithmetic.to_dict()}
        shape = (card.n_heads, len(card.classes), card.n_features)
        writer = RunWriter.create(path, plan, *shape, record, features)
        return plan, writer, np.zeros_like(plan.tissue)
    run = open_run(path)
    stored = run.provenance["identity"]
    differing = sorted(k for k in wanted | stored if stored.get(k) != wanted.get(k))
    if differing:
        raise RunError(
            f"{path} holds a run with another {' and '.join(differing)}: choose another output, "
            "or delete that one"
        )
    asked.check(path, run.provenance)
    # The stored tissue, not a new mask: what was to be run then is what is left to do now.
    plan = Plan(grid, run.tissue, tuple(run.provenance["shard"]))
    return plan, RunWriter.resume(path), run.done


def resume_output(path: Path, slide: Slide, bundle: Bundle) -> tuple[Plan, RunWriter]:
    """Plan and writer of a run that exists, for who computes some of its shards.

    Which shards are done is not looked up here: it takes a file each.

    Raises
    ------
    RunError
        If there is none, or it is of another slide or bundle.
    """
    group = open_group(path)
    attributes: dict[str, Any] = dict(group.attrs[ATTRIBUTE])  # type: ignore[arg-type]
    stored = attributes["identity"]
    if (stored["slide"], stored["bundle"]) != (slide.fingerprint(), dict(bundle.hashes)):
        raise RunError(f"{path} holds a run of another slide or bundle: choose another output")
    tissue = np.asarray(read_cells(path, grid_array(group, "tissue"), slice(None)), bool)
    plan = Plan(TileGrid.from_dict(attributes["grid"]), tissue, tuple(attributes["shard"]))
    return plan, RunWriter.resume(path)


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
