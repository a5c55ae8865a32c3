"""Workers of one thread each, or one worker with all cores: processor time and memory per tile.

    python benchmarks/cluster/processes.py [--rounds 3] [--bundle lymph-node-he]

Runs the same slide by ``run_cohort`` with one process per core and with one process that has all
cores (which it uses as lanes, one batch each). Each is run with few and with many tiles, and the
differences are taken: start-up, loading and opening cancel. About four minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

FEW, MANY = 96, 32
"""Strides, px, of the run with few tiles and of that with many."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bundle", default="lymph-node-he")
    parser.add_argument("--size", type=int, default=3072, help="side of the slide, px")
    args = parser.parse_args()
    cores = os.cpu_count() or 1
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f}, {args.bundle}\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slides = draw(folder, cores, args.size)
        found: dict[int, list[tuple[float, float, float]]] = {cores: [], 1: []}
        for i in range(args.rounds):
            for workers in found:  # in turns: others' load changes
                found[workers].append(compare(slides, folder / f"{i}-{workers}", workers, args))
    print("| processes × threads | processor, ms per tile | tiles/s | memory at most, MiB |")
    print("|---|---:|---:|---:|")
    for workers, rounds in found.items():
        cpu, speed, memory = (statistics.median(column) for column in zip(*rounds, strict=True))
        what = f"{workers} × {cores // workers}"
        print(f"| {what} | {cpu:.2f} | {speed:.1f} | {memory:,.0f} |", flush=True)


def draw(folder: Path, n: int, size: int) -> list[Path]:
    """A slide per core, so that all processes have one."""
    from napari_ood.samples.slide_file import write_synthetic_slide

    return [write_synthetic_slide(folder / f"{i}.ome.tif", size, seed=i) for i in range(n)]


def compare(
    slides: list[Path], out: Path, workers: int, args: argparse.Namespace
) -> tuple[float, float, float]:
    """Processor ms per tile, tiles per second, and the most memory of all processes, MiB."""
    (few, cpu_few, s_few, _), (many, cpu_many, s_many, memory) = (
        one_cohort(slides, out / str(stride), workers, stride, args.bundle)
        for stride in (FEW, MANY)
    )
    n = many - few
    return 1000 * (cpu_many - cpu_few) / n, n / (s_many - s_few), memory


def one_cohort(
    slides: list[Path], out: Path, workers: int, stride: int, bundle: str
) -> tuple[int, float, float, float]:
    """Tiles, processor seconds of the workers, seconds, MiB."""
    from napari_ood import load_bundle
    from napari_ood.cohort import run_cohort

    before, began = children_time(), time.monotonic()
    with Watched(memory_of_children) as watched:
        done = run_cohort(
            slides, load_bundle(bundle), out, workers=workers, device="cpu", stride=stride
        )
    assert done["counts"]["done"] == len(slides), done["slides"]
    seconds = time.monotonic() - began
    return done["counts"]["tiles"], children_time() - before, seconds, watched.most


def children_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory_of_children() -> float:
    """MiB, what several share counted once."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        try:
            total += child.memory_full_info().uss
        except psutil.Error:
            continue  # it has just ended
    return total / 2**20


class Watched:
    """The largest value that a function gave meanwhile."""

    def __init__(self, look: Callable[[], float]) -> None:
        self.most, self._look, self._over = 0.0, look, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            self.most = max(self.most, self._look())


if __name__ == "__main__":
    main()
