"""Two worker processes for all tests, small slides of many shards, and runs to compare with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_ood import Bundle
from napari_ood.cohort import run_cohort
from napari_ood.cohort.client import environment_kept

STRIDE = 10
"""Many tiles on a small slide: 1,000 or so on the disc."""
MOST_S = 120
SMALL_SHARDS = {"BLOCK_PX": 64, "SHARD_TILES": (4, 4)}


def write_disc(path: Path, seed: int, radius: int) -> Path:
    """1,000 x 760 px at 0.5 µm/px: a disc of speckled tissue on glass, reaching two edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:760, :1000]
    pixels = np.full((760, 1000, 3), 243, np.uint8)
    disc = (y - 300) ** 2 + (x - 650) ** 2 < radius**2
    pixels[disc] = rng.integers(80, 220, (int(disc.sum()), 3), np.uint8)
    options = {"tile": (128, 128), "compression": "deflate", "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, photometric="rgb", resolution=(20_000, 20_000), **options)
    return path


@pytest.fixture(scope="session")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A small disc and a large one."""
    folder = tmp_path_factory.mktemp("cohort-slides")
    return [write_disc(folder / "small.tif", 1, 70), write_disc(folder / "large.tif", 2, 380)]


@pytest.fixture(scope="session")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disc of some twenty shards."""
    return write_disc(tmp_path_factory.mktemp("cohort-medium") / "medium.tif", 3, 150)


@pytest.fixture(scope="session")
def alone(
    slides: list[Path], tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Runs of the slides as one process leaves them, cut into the same shards; by slide name.

    In a process of its own with the workers' one thread: kernels sum in another order with more.
    What torch computes in this one may depend on the tests before.
    """
    folder = tmp_path_factory.mktemp("alone")
    runs = {path.stem: folder / f"{path.stem}.ood.zarr" for path in slides}
    code = f"""
import napari_ood.inference.plan as plan
from napari_ood import load_bundle, open_slide, run_slide
vars(plan).update({SMALL_SHARDS!r})
bundle = load_bundle({str(tiny_bundle.path)!r})
for path, out in {[(str(path), str(runs[path.stem])) for path in slides]!r}:
    with open_slide(path) as slide:
        run_slide(slide, bundle, out, device="cpu", stride={STRIDE})
"""
    one = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **one})
    return runs
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Address of a scheduler with two worker processes, which nannies start again when they die."""
    import dask
    from distributed import LocalCluster

    lines = [f"plan.{name} = {value}" for name, value in SMALL_SHARDS.items()]
    preload = "\n".join(["import napari_ood.inference.plan as plan", *lines])
    with (
        environment_kept(),
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            preload=[preload],
        ) as cluster,
    ):
        yield cluster.scheduler_address


Resting = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def resting(scheduler: str) -> Resting:
    """``with resting():`` workers rest after a shard that they stored until they are stopped.

    However fast they are, and however slow who watches them: they are stopped half-way.
    """

    @contextmanager
    def block() -> Iterator[None]:
        from distributed import Client

        with Client(scheduler, set_as_default=False) as client:
            client.run(_rest, True)
            try:
                yield
            finally:
                client.run(_rest, False)

    return block


def _rest(on: bool) -> None:
    """Called in a worker."""
    import time

    from napari_ood.cohort.work import Workplace
    from napari_ood.inference.store import RunWriter

    if not on:
        if hasattr(RunWriter, "at_once"):
            RunWriter.write, Workplace._compute = RunWriter.at_once, Workplace.at_once
            del RunWriter.at_once, Workplace.at_once
        return
    RunWriter.at_once, Workplace.at_once = RunWriter.write, Workplace._compute  # type: ignore
    at_work: list[Workplace] = []

    def compute(self: Workplace, *args: Any) -> Any:
        at_work.append(self)
        return Workplace.at_once(self, *args)  # type: ignore[attr-defined]

    def write(self: RunWriter, *args: Any, **options: Any) -> None:
        RunWriter.at_once(self, *args, **options)  # type: ignore[attr-defined]
        until = time.monotonic() + MOST_S
        while not at_work[-1].stopped.is_set():
            assert time.monotonic() < until, "nobody stopped the worker"
            time.sleep(0.01)

    RunWriter.write, Workplace._compute = write, compute  # type: ignore[method-assign]


@pytest.fixture
def occupied(scheduler: str, tmp_path: Path) -> Resting:
    """``with occupied():`` workers have other things to do: no task of a cohort comes to them."""
    free = tmp_path.with_name(f"{tmp_path.name} is free")

    def do_other_things(_: int) -> None:
        import time

        until = time.monotonic() + MOST_S
        while not free.exists() and time.monotonic() < until:
            time.sleep(0.01)

    @contextmanager
    def block() -> Iterator[None]:
        from distributed import Client

        with Client(scheduler, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=MOST_S)
            tasks = client.map(do_other_things, range(8), pure=False)  # workers take two each
            while sum(map(len, client.processing().values())) < 4:
                pass
            try:
                yield
            finally:
                free.touch()
                client.gather(tasks)

    return block


@pytest.fixture
def cohort_options() -> dict[str, Any]:
    """What tests ask of cohorts, so that their runs are those of ``alone``."""
    return {"device": "cpu", "stride": STRIDE, "retries": 2, "task_tiles": 32}


@pytest.fixture
def cohort(
    tiny_bundle: Bundle, scheduler: str, cohort_options: dict[str, Any]
) -> Callable[..., dict[str, Any]]:
    """``run_cohort(slides, out=…)`` with these on the two workers; options may be changed."""
    return partial(run_cohort, bundle=tiny_bundle, scheduler=scheduler, **cohort_options)
