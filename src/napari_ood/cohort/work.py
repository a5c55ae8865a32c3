"""What a worker does: open, compute, store. Knows nothing of dask; only numbers leave it."""

from __future__ import annotations

import platform
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.cohort.plan import TASK_TILES, WHOLE_SLIDE_TASKS, Job, Settings
from napari_ood.cohort.shared import StoppedError, UnfitError, check_shared
from napari_ood.errors import BundleError, DeviceError
from napari_ood.inference import check_slide
from napari_ood.inference.asked import Asked
from napari_ood.inference.engine import (
    checked_batch_size,
    open_network,
    open_output,
    resume_output,
    shards_left,
)
from napari_ood.inference.holding import check_run
from napari_ood.inference.network import Network
from napari_ood.inference.pipeline import Session
from napari_ood.inference.plan import NO_TISSUE, Plan, warnings_for
from napari_ood.inference.provenance import package_versions, session_record
from napari_ood.inference.store import RunWriter, Shard, shards
from napari_ood.models.precision import Arithmetic
from napari_ood.slides import open_slide

if TYPE_CHECKING:
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide

OPEN_SLIDES = 4
"""Slides that a worker keeps open: parts of a few slides may come in turns."""

Tell = Callable[[int, int], None]
"""Called with tiles that a task has stored, and will have."""

Cells = tuple[tuple[int, int], ...]
"""Shards, by their row and column among a run's shards."""


@dataclass(frozen=True)
class Work:
    """What one task computed: its session record, and how many tiles."""

    n_tiles: int
    session: dict[str, Any]


@dataclass(frozen=True)
class Begun:
    """What is known of a slide once it is open.

    Attributes
    ----------
    fingerprint : of the slide
    n_before, n_total : tiles that the run held, and that it will hold
    warnings : in words
    work : of the whole slide, where this was all of it
    parts : the shards that are left, by task; empty where nothing is
    """

    fingerprint: str
    n_before: int
    n_total: int
    warnings: tuple[str, ...] = ()
    work: Work | None = None
    parts: tuple[Cells, ...] = ()


@dataclass
class Workplace:
    """A worker's bundle, network and open slides, kept from task to task.

    One task at a time (``at_work``): its network and its slides are not shared between threads.
    """

    settings: Settings
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._slides: OrderedDict[str, Slide] = OrderedDict()
        self._open: tuple[Arithmetic, Network] | None = None
        self._busy = threading.Lock()
        self._tell: Tell | None = None

    @contextmanager
    def at_work(self, tell: Tell | None = None) -> Iterator[Workplace]:
        """Wait until nobody else works here; ``tell`` hears how far the task is meanwhile.

        Raises
        ------
        StoppedError
            If it was closed.
        """
        with self._busy:
            if self.stopped.is_set():
                raise StoppedError
            self._tell = tell
            try:
                yield self
            finally:
                self._tell = None

    def begin(self, job: Job) -> Begun:
        """Open a slide and begin or resume its run; compute it too, where it is small.

        Raises
        ------
        SlideError, RunError
            UnfitError where it is this machine's fault.
        """
        check_shared(self.settings.token)
        check_run(Path(job.out))
        slide = self._slide(job)
        scale = check_slide(slide, self.bundle.card)
        settings, out = self.settings, Path(job.out)
        size = checked_batch_size(self.device, settings.batch_size, self.bundle.card)
        how = Asked(settings.precision, settings.features, self.device, size)
        plan, writer, done = open_output(
            out, slide, self.bundle, None, settings.stride, settings.tissue, asked=how
        )
        facts = (slide.fingerprint(), int(done.sum()), int(plan.tissue.sum()))
        warnings = (*warnings_for(slide, self.bundle.card), *([scale] if scale else []))
        if not plan.tissue.any():
            warnings += (NO_TISSUE,)
        todo = shards_left(plan, done)
        parts = self._parts(plan, todo, done) if todo else ()
        if len(parts) > WHOLE_SLIDE_TASKS:
            return Begun(*facts, warnings, parts=parts)
        if not todo:
            return Begun(*facts, warnings)
        work = self._compute(slide, plan, writer, todo, done)
        writer.add_session(work.session)
        return Begun(*facts, warnings, work)

    def part(self, job: Job, cells: Cells) -> Work:
        """Compute some shards of a run that exists, but for those that are done by now.

        Raises
        ------
        SlideError, RunError
            UnfitError where it is this machine's fault.
        """
        check_shared(self.settings.token)
        slide = self._slide(job)
        plan, writer = resume_output(Path(job.out), slide, self.bundle)
        wanted = set(cells)
        here = [
            shard for shard in shards(plan.tissue.shape, plan.shard)
            if cell_of(shard, plan) in wanted
        ]  # fmt: skip
        # A worker that died, or was only thought to, may have stored some of them.
        done = np.ones(plan.tissue.shape, bool)
        for shard in here:  # of the others it is not looked up: it takes a file each
            done[shard.slices] = writer.done(shard)
        return self._compute(slide, plan, writer, shards_left(plan, done), done)

    def close(self) -> None:
        """Stop what is being computed within a batch, then let go of the slides."""
        self.stopped.set()
        with self._busy:
            while self._slides:
                self._slides.popitem()[1].close()
            if self._open is not None:
                self._open[1].close()
                self._open = None

    @cached_property
    def bundle(self) -> Bundle:
        """This machine's copy of the bundle, which must be the one that the cohort was begun with.

        Raises
        ------
        UnfitError
            If it is another one, or there is none.
        """
        from napari_ood.models import load_bundle

        try:
            bundle = load_bundle(self.settings.bundle)
        except BundleError as error:
            raise UnfitError(f"on {platform.node()}: {error}") from error
        if bundle.hashes != self.settings.hashes:
            raise UnfitError(
                f"{bundle.path} on {platform.node()} is another bundle than the cohort's: copy the "
                "right one there"
            )
        return bundle

    @cached_property
    def device(self) -> str:
        """Device of this worker.

        Raises
        ------
        UnfitError
            If it has no such device.
        """
        from napari_ood.models import resolve_device

        try:
            return resolve_device(self.settings.device)
        except DeviceError as error:
            raise UnfitError(f"on {platform.node()}: {error}") from error

    def _network(self, arithmetic: Arithmetic) -> Network:
        """The network, in the arithmetic of a run: of a cohort's runs it is nearly always one."""
        if self._open is None or self._open[0] != arithmetic:
            batch_size = self.settings.batch_size
            if self._open is not None:
                self._open[1].close()
                self._open = None  # the next one may fail to open
            network = open_network(self.bundle, self.device, batch_size, arithmetic)
            self._open = arithmetic, network
        return self._open[1]

    def _slide(self, job: Job) -> Slide:
        if job.slide not in self._slides:
            if job.size and not Path(job.slide).exists():
                raise UnfitError(
                    f"{job.slide} is not to be seen on {platform.node()}: mount the shared folder "
                    "there, or stop that worker"
                )
            while len(self._slides) >= OPEN_SLIDES:
                self._slides.popitem(last=False)[1].close()
            self._slides[job.slide] = open_slide(job.slide, mpp=self.settings.mpp)
        self._slides.move_to_end(job.slide)
        return self._slides[job.slide]

    def _parts(self, plan: Plan, todo: list[Shard], done: NDArray[np.bool_]) -> tuple[Cells, ...]:
        """Shards in reading order, cut into tasks."""
        most = self.settings.task_tiles or TASK_TILES[self.device.partition(":")[0]]
        missing = plan.tissue & ~done
        parts: list[list[tuple[int, int]]] = []
        n_tiles = most
        for shard in todo:
            if n_tiles >= most:
                parts.append([])
                n_tiles = 0
            parts[-1].append(cell_of(shard, plan))
            n_tiles += int(missing[shard.slices].sum())
        return tuple(tuple(part) for part in parts)

    def _compute(
        self,
        slide: Slide,
        plan: Plan,
        writer: RunWriter,
        todo: list[Shard],
        done: NDArray[np.bool_],
    ) -> Work:
        started = time.time()
        network = self._network(writer.arithmetic)
        arguments = {"device": self.device, "batch_size": network.batch_size}
        tell, n_tiles = self._tell, int((plan.tissue & ~done).sum())
        session = Session(
            slide, plan, writer, network, todo, 0,
            on_progress=tell and (lambda progress: tell(progress.n_done, n_tiles)),
            view=None, cores=self._cores(), done=done,
        )  # fmt: skip
        if todo:
            session.run(self.stopped.is_set)
        report = session.report()
        return Work(session.n_written, session_record(started, report, arguments))

    def _cores(self) -> int | None:
        """Cores that this worker may use: dask gives each worker's libraries one by default."""
        import torch

        return torch.get_num_threads() if self.device == "cpu" else None


def cell_of(shard: Shard, plan: Plan) -> tuple[int, int]:
    """Row and column of a shard among the shards."""
    return shard.top // plan.shard[0], shard.left // plan.shard[1]


@cache
def describe_worker() -> dict[str, Any]:
    """Machine and versions, for the manifest."""
    return {"host": platform.node(), "versions": package_versions()}
