"""The dispatcher with a real scheduler and work that computes nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster, Scheduler, SpecCluster, Worker, get_worker

from napari_ood.cohort import dispatch
from napari_ood.cohort.client import environment_kept, resources_for, suitable_workers
from napari_ood.cohort.dispatch import Dispatcher
from napari_ood.cohort.plan import Job, Settings
from napari_ood.cohort.shared import UnfitError
from napari_ood.cohort.tasks import CohortPlugin
from napari_ood.cohort.work import Begun, Cells, Work, Workplace

SESSION: dict[str, Any] = {"seconds": 1.0}


@pytest.fixture
def client() -> Iterator[Client]:
    """One worker in this process, one task at a time."""
    with (
        environment_kept(),
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None,
            memory_limit=0,
        ) as cluster,
        Client(cluster, set_as_default=False) as connected,
    ):  # fmt: skip
        yield connected


def test_order_window_and_sums(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest slide first, each with its parts; few are open at once; nothing is lost."""
    begun: list[int] = []

    def begin(self: Workplace, job: Job) -> Begun:
        i = int(job.slide)
        begun.append(i)
        if i == 3:
            raise ValueError("not this one")
        if i == 5:
            return Begun("f", 0, 60, parts=tuple(((0, k),) for k in range(6)))
        return Begun("f", 0, 10, (), Work(10, dict(SESSION)))

    def part(self: Workplace, job: Job, cells: Cells) -> Work:
        return Work(10, dict(SESSION))

    monkeypatch.setattr(Workplace, "begin", begin)
    monkeypatch.setattr(Workplace, "part", part)
    monkeypatch.setattr(dispatch, "OPEN_SLIDES", 8)
    client.register_plugin(CohortPlugin(Settings("none", {}), "test"), name="test")
    jobs = [Job(str(i), f"/nowhere/{i}.ood.zarr", 100 - i) for i in range(40)]
    told: list[str] = []
    dispatcher = Dispatcher(client, "test", jobs, 1, {}, told.append)
    most = 0
    while dispatcher.busy:
        most = max(most, dispatcher._n_open)
        dispatcher.take(5)
        now = dispatcher.progress()
        left = sum(t.job.size * (1 - t.share) for t in dispatcher.tracks)
        computed = sum(t.job.size * t.share for t in dispatcher.tracks if t.works)
        assert dispatcher._tally._bytes_left == pytest.approx(left)
        assert dispatcher._tally._bytes_done == pytest.approx(computed)
    assert most == 8
    first = list(dict.fromkeys(begun))
    assert len(begun) == 41  # one was tried again
    assert first == list(range(40)) and begun.count(3) == 2
    assert (now.n_done, now.n_failed) == (38, 2)  # no run was written of the slide in parts
    assert now.n_tiles == 38 * 10 + 6 * 10
    assert any("not this one" in text for text in told)


DEADLY = """
import os
import napari_ood.cohort.work as work

def begin(self, job):
    if job.slide == "deadly":
        os._exit(9)
    return work.Begun("f", 0, 10, (), work.Work(10, {"seconds": 1.0}))

work.Workplace.begin = begin
"""


def test_a_slide_that_kills_its_worker_costs_no_other_slide() -> None:
    """Tasks that ask for a GPU are all with a worker at once, and all lost with it."""
    resources = resources_for("cuda")
    with (
        environment_kept(),
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None,
            memory_limit=0, preload=[DEADLY], resources=resources, silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        client.register_plugin(CohortPlugin(Settings("none", {}), "test"), name="test")
        slides = ["deadly", "a", "b", "c"]
        jobs = [Job(name, f"/nowhere/{name}.ood.zarr", 9 - i) for i, name in enumerate(slides)]
        dispatcher = Dispatcher(client, "test", jobs, 1, resources, lambda text: None)
        while dispatcher.busy:
            dispatcher.take(1)
    found = {record["slide"]: record for record in dispatcher.records()}
    assert found.pop("deadly")["error"]["kind"] == "KilledWorker"
    assert {record["outcome"] for record in found.values()} == {"done"}
    # Those that were with it when it died, and no worker died of it more often than was asked.
    assert all(record["retries"] == 1 for record in found.values())


def test_a_gpu_worker_without_gpu_hands_nothing_to_workers_that_never_said_they_had_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def begin(self: Workplace, job: Job) -> Begun:
        if get_worker().name == "broken":
            raise UnfitError("no CUDA GPU here")
        return Begun("f", 0, 10, (), Work(10, dict(SESSION)))

    def worker(name: str, **resources: float) -> dict[str, Any]:
        return {"cls": Worker, "options": {"nthreads": 1, "name": name, "resources": resources}}

    def outcomes(client: Client) -> tuple[dict[str, str], list[str]]:
        jobs = [Job(str(i), f"/nowhere/{i}.ood.zarr", 9 - i) for i in range(4)]
        told: list[str] = []
        dispatcher = Dispatcher(client, "test", jobs, 1, resources_for("cuda"), told.append)
        while dispatcher.busy:
            dispatcher.take(1)
        return {r["slide"]: r["outcome"] for r in dispatcher.records()}, told

    monkeypatch.setattr(Workplace, "begin", begin)
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "dashboard_address": None}}
    workers = {0: worker("broken", GPU=1), 1: worker("cpu")}
    with (
        environment_kept(),
        SpecCluster(workers=workers, scheduler=scheduler) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(CohortPlugin(Settings("none", {}), "test"), name="test")
        assert len(suitable_workers(client, resources_for("cuda"))) == 1
        assert len(suitable_workers(client, {})) == 2
        found, told = outcomes(client)
        assert set(found.values()) == {"failed"} and told[0] == "no CUDA GPU here"
        cluster.worker_spec[2] = worker("good", GPU=1)
        cluster.sync(cluster._correct_state)
        client.wait_for_workers(3, timeout=20)
        found, told = outcomes(client)
        assert set(found.values()) == {"done"} and told == ["no CUDA GPU here"]
