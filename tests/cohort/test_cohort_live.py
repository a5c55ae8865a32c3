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

from napari_ood.cohort import CohortProgress
from napari_ood.cohort.client import environment_kept
from napari_ood.cohort.dispatch import Dispatcher
from napari_ood.cohort.plan import Job, Settings
from napari_ood.cohort.tasks import CohortPlugin

Cohort = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("task_tiles", [200, 1_000_000], ids=["in parts", "as one task"])
def test_tiles_are_counted_while_their_task_goes_on(
    task_tiles: int, slides: list[Path], cohort: Cohort, scheduler: str, tmp_path: Path
) -> None:
    def be_slow(on: bool) -> None:
        import time

        from napari_ood.inference.store import RunWriter

        if on:
            RunWriter.fast = RunWriter.write  # type: ignore[attr-defined]
            RunWriter.write = lambda *a, **k: (time.sleep(0.05), RunWriter.fast(*a, **k))  # type: ignore
        else:
            RunWriter.write = RunWriter.fast  # type: ignore[attr-defined, method-assign]

    seen: list[CohortProgress] = []
    with Client(scheduler, set_as_default=False) as client:
        client.run(be_slow, True)
        try:
            manifest = cohort(
                slides[1:], out=tmp_path, task_tiles=task_tiles, on_progress=seen.append
            )
        finally:
            client.run(be_slow, False)
    (record,) = manifest["slides"]
    assert (record["tasks"] == 1) == (task_tiles == 1_000_000)
    counts = [progress.n_tiles for progress in seen]
    assert counts == sorted(counts)
    assert counts[-1] == record["n_new"] == record["n_total"]
    # Shards of sixteen tiles that take a twentieth of a second each, told of once a second; by two.
    assert len(set(counts)) >= record["n_total"] / 16 * 0.05 / 2 - 1 > 0
    known = [progress for progress in seen if 0 < progress.n_tiles < record["n_total"]]
    assert all(progress.seconds_left for progress in known)
    assert 0.5 < known[-1].seconds / (known[-1].seconds + (known[-1].seconds_left or 0)) < 1


DIES_ONCE = """
import os, time
from pathlib import Path
import napari_ood.cohort.work as work

def begin(self, job):
    died = Path(job.out)
    if died.exists():
        return work.Begun("f", 7, 10, (), work.Work(3, {"seconds": 1.0}))
    self._tell(7, 10)
    died.touch()
    time.sleep(1)
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
    assert list(dict.fromkeys(filter(None, seen))) == [7, 10]
