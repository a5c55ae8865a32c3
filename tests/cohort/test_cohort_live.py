"""What is heard of tasks while they run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster

from napari_ood import open_run
from napari_ood.cohort import CohortProgress
from napari_ood.cohort.client import environment_kept
from napari_ood.cohort.dispatch import Dispatcher
from napari_ood.cohort.plan import Job, Settings
from napari_ood.cohort.tasks import CohortPlugin

Cohort = Callable[..., dict[str, Any]]
CHUNKS = "logits/c/*/*"


def rest_near_the_end(out: Path, n_shards: int, seen: Path) -> None:
    """Called in a worker: of each shard it tells; the last ones it stores after they were seen."""
    import time

    from napari_ood.cohort import tasks
    from napari_ood.inference.store import RunWriter

    write = RunWriter.write

    def write_or_rest(*args: Any, **options: Any) -> None:
        until = time.monotonic() + 120
        while len(list(out.glob(CHUNKS))) > 0.75 * n_shards and not seen.exists():
            assert time.monotonic() < until, "nobody saw it"
            time.sleep(0.05)
        write(*args, **options)

    tasks.TELL_S, RunWriter.write = 0.0, write_or_rest  # type: ignore[method-assign]
    RunWriter.at_once = write  # type: ignore[attr-defined]


def rest_no_more() -> None:
    """Called in a worker."""
    from napari_ood.cohort import tasks
    from napari_ood.inference.store import RunWriter

    tasks.TELL_S, RunWriter.write = 1.0, RunWriter.at_once  # type: ignore


@pytest.mark.parametrize("task_tiles", [200, 1_000_000], ids=["in parts", "as one task"])
def test_tiles_are_counted_while_their_task_goes_on(
    task_tiles: int,
    slides: list[Path],
    alone: dict[str, Path],
    cohort: Cohort,
    scheduler: str,
    tmp_path: Path,
) -> None:
    n_total, n_shards = open_run(alone["large"]).n_tiles, len(list(alone["large"].glob(CHUNKS)))
    saw, seen = tmp_path / "seen", list[CohortProgress]()

    def look(progress: CohortProgress) -> None:
        seen.append(progress)
        if progress.n_tiles > 0.55 * n_total:
            saw.touch()

    with Client(scheduler, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        client.run(rest_near_the_end, tmp_path / "large.ood.zarr", n_shards, saw)
        try:
            manifest = cohort(slides[1:], out=tmp_path, task_tiles=task_tiles, on_progress=look)
        finally:
            client.run(rest_no_more)
    (record,) = manifest["slides"]
    assert (record["tasks"] == 1) == (task_tiles == 1_000_000)
    counts = [progress.n_tiles for progress in seen]
    assert counts == sorted(counts)
    assert counts[-1] == record["n_new"] == record["n_total"] == n_total
    known = [progress for progress in seen if 0 < progress.n_tiles < n_total]
    assert known and all(progress.seconds_left for progress in known)
    assert 0.5 < known[-1].seconds / (known[-1].seconds + (known[-1].seconds_left or 0)) < 1


DIES_ONCE = """
import os, time
from pathlib import Path
import napari_ood.cohort.work as work

def begin(self, job):
    died, seen = Path(job.out), Path(job.out + " seen")
    if died.exists():
        return work.Begun("f", 7, 10, (), work.Work(3, {"seconds": 1.0}))
    self._tell(7, 10)
    died.touch()
    while not seen.exists():
        time.sleep(0.01)
    os._exit(9)

work.Workplace.begin = begin
"""


def test_what_a_dead_worker_had_stored_counts_on(tmp_path: Path) -> None:
    seen: list[int] = []
    with (
        environment_kept(),
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None,
            memory_limit=0, preload=[DIES_ONCE], silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        client.register_plugin(CohortPlugin(Settings("none", {}), "test"), name="test")
        job = Job("slide", str(tmp_path / "died"), 9)
        dispatcher = Dispatcher(client, "test", [job], 1, {}, lambda text: None)
        until = time.monotonic() + 60
        while dispatcher.busy and time.monotonic() < until:
            dispatcher.take(0.1)
            seen.append(dispatcher.progress().n_tiles)
            if seen[-1] == 7:
                (tmp_path / "died seen").touch()
    assert list(dict.fromkeys(filter(None, seen))) == [7, 10]
