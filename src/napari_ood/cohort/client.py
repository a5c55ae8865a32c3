"""Workers: those of this machine, started for one cohort, or those of a scheduler that runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from napari_ood.errors import OodError, RunError

if TYPE_CHECKING:
    from distributed import Client

GPU = "GPU"
"""Resource that workers with a GPU are started with: ``dask worker … --resources GPU=1``."""
CONNECT_S = 15
IGNORE_INTERRUPT = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""Run by workers of this machine: a terminal sends Ctrl-C to them too, and they would die of it in
the middle of what the cohort then stops in order."""
LEAVE_AT_ONCE = "import atexit, os; atexit.register(os._exit, 0)"
"""Run by them too: to take torch apart object by object costs each more than a second of processor
time at its end, and a busy machine the four seconds after which dask kills them and says so."""


def require_distributed() -> None:
    """Raise OodError, with advice, where dask.distributed is not installed."""
    if find_spec("distributed") is None:
        raise OodError(
            "cohorts need dask.distributed, which is not installed: "
            'pip install "napari-ood[cohort]"'
        )


def resources_for(device: str) -> dict[str, float]:
    """What a task asks of its worker. ``auto`` asks nothing: each worker takes what it has."""
    return {GPU: 1} if device.startswith("cuda") else {}


def suitable_workers(client: Client, resources: Mapping[str, float]) -> set[str]:
    """Addresses of the workers that may be given tasks which ask for these resources."""
    addresses = set(client.nthreads())
    if not resources:
        return addresses
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {
        address for address in addresses
        if address in workers and set(resources) <= set(workers[address]["resources"])
    }  # fmt: skip


@contextmanager
def connected(scheduler: str | None, workers: int | None, device: str) -> Iterator[Client]:
    """Connect to a scheduler, or start workers on this machine and end them afterwards.

    Raises
    ------
    RunError
        If no scheduler answers at the address.
    """
    from distributed import Client

    if scheduler is None:
        with _local(workers, device) as client:
            yield client
        return
    try:
        _check_address(scheduler)
        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise RunError(
            f"no scheduler answers at {scheduler} ({error}): start one with 'dask scheduler', "
            "which prints its address"
        ) from error
    with client:
        yield client


def _check_address(address: str) -> None:
    """Raise ValueError or OSError for what no scheduler can have.

    Asked for one, dask's client fails too, but it then waits half a minute to be closed.
    """
    from distributed.comm.addressing import parse_address, resolve_address
    from distributed.comm.registry import get_backend

    get_backend(parse_address(address)[0])
    resolve_address(address)


@contextmanager
def _local(workers: int | None, device: str) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    cores = os.cpu_count() or 1
    # Processes on one GPU only wait for one another.
    count = workers or (cores if device == "cpu" else 1)
    threads = max(1, cores // count) if device == "cpu" else cores
    # A worker that died is the cohort's to count: dask would try three times more, unseen.
    with (
        environment_kept(),
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            # Workers hold a few shards and no results; dask's limit would end them for the memory
            # that reuse_freed_memory keeps.
            memory_limit=0,
            env={"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
            resources=resources_for(device) or None,
            # Its warnings are of tasks that were taken back, which is what Ctrl-C is for.
            silence_logs=logging.ERROR,
            preload=[IGNORE_INTERRUPT, LEAVE_AT_ONCE],
            # Slides' names are nobody else's business: from this machine only.
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def environment_kept() -> Iterator[None]:
    """Take back what dask leaves in this process's environment when it starts workers from here.

    It sets their numbers of threads there, and all later child processes would inherit them.
    """
    import dask
    import distributed  # noqa: F401  brings its settings

    names = dask.config.get("distributed.nanny.pre-spawn-environ")
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def dashboard(client: Client) -> str | None:
    """Address of the dashboard; None where the scheduler has none, mostly for want of bokeh."""
    # A lambda travels by value: the scheduler need not have this package. Without bokeh there is
    # an address all the same, of a page that says that bokeh is missing.
    shown = client.run_on_scheduler(
        lambda dask_scheduler: bool(dask_scheduler.http_application.applications)
    )
    return str(client.dashboard_link) if shown else None
