"""A cohort of 100,000 slides: what it costs, and whether the scheduler bears it.

    python benchmarks/scale.py [--tasks 10000 30000 100000] [--skip-cost]

First a real run of the sample slide, in a process of its own: processor time, bytes and files per
tile and slide, which are multiplied. Then cohorts of so many slides through the real dispatcher,
a real dask scheduler and two workers, all in processes of their own, with a work function that
computes nothing: what is left is what handing out costs. Prints markdown tables.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

SLIDES = 100_000
TILES_PER_SLIDE = 10_000
"""A section of 2 cm² of tissue in tiles of 224 px at 0.5 µm/px has 16,000, a biopsy 500."""
BUNDLE = "lymph-node-he"
N_WORKERS = 2
SAMPLE_S = 0.25
COPIES = 40

FAKE_WORK = """
import napari_ood.cohort.work as work
SESSION = {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:00:01+00:00",
           "device": "cpu", "batch_size": 32, "n_tiles": 100, "seconds": 1.0, "tiles_per_s": 100.0,
           "stage_seconds": {"read": 0.1, "forward": 0.8, "write": 0.1}, "machine": "none"}
def begin(self, job):
    return work.Begun("0" * 64, 0, 100, (), work.Work(100, dict(SESSION)))
work.Workplace.begin = begin
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=[10_000, SLIDES])
    parser.add_argument("--skip-cost", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--real", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(simulate(args.one)))
    elif args.real is not None:
        print(json.dumps(real_run(args.real)))
    else:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n", flush=True)
        if not args.skip_cost:
            print_cost()
        print_scheduler(args.tasks)


# --- what a slide costs --------------------------------------------------------------------------


def print_cost() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = alone("--real", folder)
    n = found["tiles"]
    times = TILES_PER_SLIDE / n
    per_slide = found["files"] - found["chunks"] + found["chunks"] * times
    rows = [
        ("processor time", f"{1000 * found['cpu_s'] / n:.2f} ms per tile",
         f"{found['cpu_s'] * times * SLIDES / 3600:,.0f} core-hours"),
        ("the run on disk", f"{found['bytes'] / n:,.0f} bytes per tile",
         f"{found['bytes'] * times * SLIDES / 1e12:.2f} TB"),
        ("files of the runs", f"{per_slide:.0f} per slide",
         f"{per_slide * SLIDES / 1e6:.1f} million"),
        ("board, first reading: processor", f"{1000 * found['board_s']:.0f} ms per slide",
         f"{found['board_s'] * SLIDES / 60:.0f} min"),
        ("board, from its cache: processor", f"{1000 * found['board_again_s']:.1f} ms per slide",
         f"{found['board_again_s'] * SLIDES:.0f} s"),
        ("board's cache", f"{found['board_bytes']:,} bytes per slide",
         f"{found['board_bytes'] * SLIDES / 1e6:.0f} MB"),
    ]  # fmt: skip
    print(f"{BUNDLE} on {n:,} tiles, one thread; {SLIDES:,} slides of {TILES_PER_SLIDE:,} tiles:\n")
    print(f"| | measured | {SLIDES:,} slides |\n|---|---:|---:|")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def real_run(folder: Path) -> dict[str, Any]:
    """Run the sample slide, after a warm-up; read the board of one run and of many, twice each."""
    from napari_ood import load_bundle, open_slide, run_slide
    from napari_ood.board import read_board
    from napari_ood.board.cache import CACHE
    from napari_ood.samples import synthetic_slide

    bundle, path = load_bundle(BUNDLE), synthetic_slide()
    with open_slide(path) as slide:
        run_slide(slide, bundle, folder / "warm.ood.zarr", region=(2048, 2048, 1024, 1024))
        started = processor_time()
        run = run_slide(slide, bundle, folder / "run.ood.zarr", device="cpu")
        cpu_s = processor_time() - started
    files = [p for p in run.path.rglob("*") if p.is_file()]
    one, board = folder / "one", folder / "board"
    for place, n in ((one, 1), (board, COPIES)):
        for i in range(n):
            copy_run(run.path, place / f"{i:03}.ood.zarr", i)
    seconds = {}
    for when in ("first", "again"):
        for place in (one, board):
            began = processor_time()
            read_board(place)
            seconds[when, place] = processor_time() - began
    # What is done once, such as finding the bundle, does not count per slide.
    first, again = (
        (seconds[when, board] - seconds[when, one]) / (COPIES - 1) for when in ("first", "again")
    )
    return {
        "tiles": run.n_tiles,
        "cpu_s": cpu_s,
        "bytes": sum(p.stat().st_size for p in files),
        "files": len(files),
        "chunks": sum("c" in p.relative_to(run.path).parts[1:2] for p in files),
        "board_s": first,
        "board_again_s": again,
        "board_bytes": (board / CACHE).stat().st_size // COPIES,
    }


def copy_run(run: Path, to: Path, i: int) -> None:
    """A copy that is told apart, as the runs of different slides are."""
    shutil.copytree(run, to)
    note = to / "zarr.json"
    record = json.loads(note.read_text())
    record["attributes"]["napari_ood_run"]["slide"]["name"] = f"slide {i}"
    note.write_text(json.dumps(record))


def processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# --- what the scheduler bears --------------------------------------------------------------------


def print_scheduler(counts: list[int]) -> None:
    print("Tasks that compute nothing, one per slide:\n")
    print("| slides | s | ms per slide | scheduler, processor ms per slide | scheduler, MiB more | "
          "dispatcher, MiB more | manifest, MB | write it, s | written | read it, s |")  # fmt: skip
    print("|---:" * 10 + "|")
    for n in counts:
        r = alone("--one", str(n))
        print(
            f"| {n:,} | {r['s']:.0f} | {1000 * r['s'] / n:.2f} | "
            f"{1000 * r['scheduler_cpu_s'] / n:.2f} | {r['scheduler_mib']:,.0f} | "
            f"{r['dispatcher_mib']:,.0f} | {r['manifest_bytes'] / 1e6:.1f} | {r['write_s']:.2f} | "
            f"{r['writes']}× | {r['read_s']:.2f} |",
            flush=True,
        )


def alone(*arguments: str) -> dict[str, Any]:
    """Run a part of this script in a process of its own."""
    one = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **one}
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def simulate(n: int) -> dict[str, Any]:
    """A cohort of ``n`` slides that are none, through ``run_cohort``."""
    from napari_ood import load_bundle
    from napari_ood.cohort import manifest, run_cohort

    own = psutil.Process()
    with tempfile.TemporaryDirectory() as name, cluster(Path(name)) as (address, scheduler):
        folder, peaks = Path(name), {"scheduler": 0, "dispatcher": 0}
        listed = folder / "slides.txt"
        listed.write_text("".join(f"slide-{i:06}.svs\n" for i in range(n)))
        bundle = load_bundle("synthetic-he")
        before = {"scheduler": scheduler.memory_info().rss, "dispatcher": own.memory_info().rss}
        cpu, looked = sum(scheduler.cpu_times()[:2]), 0.0

        def look(progress: object) -> None:
            nonlocal looked
            if time.monotonic() - looked > SAMPLE_S:
                looked = time.monotonic()
                peaks["scheduler"] = max(peaks["scheduler"], scheduler.memory_info().rss)
                peaks["dispatcher"] = max(peaks["dispatcher"], own.memory_info().rss)

        writes: list[float] = []
        write = manifest.write_manifest

        def timed(*arguments: Any) -> Path:
            began = time.perf_counter()
            path = write(*arguments)
            writes.append(time.perf_counter() - began)
            return path

        manifest.write_manifest = timed
        began = time.perf_counter()
        done = run_cohort([listed], bundle, folder / "out", scheduler=address, device="cpu",
                          on_progress=look)  # fmt: skip
        seconds = time.perf_counter() - began
        assert done["counts"]["done"] == n, done["counts"]
        size = (folder / "out" / "cohort.json").stat().st_size
        reading = time.perf_counter()
        manifest.read_manifest(folder / "out")
        reading = time.perf_counter() - reading
        return {
            "s": seconds,
            "scheduler_cpu_s": sum(scheduler.cpu_times()[:2]) - cpu,
            **{f"{k}_mib": (peaks[k] - before[k]) / 2**20 for k in peaks},
            "manifest_bytes": size,
            "write_s": writes[-1],
            "writes": len(writes),
            "read_s": reading,
        }


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A scheduler and workers as one would start them by hand; its address and its process."""
    note, preload = folder / "scheduler.json", folder / "fake_work.py"
    preload.write_text(FAKE_WORK)
    dask = [sys.executable, "-m"]
    quiet = {"DASK_LOGGING__DISTRIBUTED": "error", "DASK_DISTRIBUTED__DASHBOARD__LINK": ""}
    options = {"env": {**os.environ, **quiet}, "stdout": subprocess.DEVNULL,
               "stderr": subprocess.DEVNULL, "cwd": folder}  # fmt: skip
    scheduler = [*dask, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
                 "--no-dashboard", "--scheduler-file", str(note)]  # fmt: skip
    started = [subprocess.Popen(scheduler, **options)]
    try:
        while not note.exists():
            if started[0].poll() is not None:
                raise SystemExit("the scheduler did not start")
            time.sleep(0.1)
        time.sleep(0.5)
        address = json.loads(note.read_text())["address"]
        worker = [*dask, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny",
                  "--no-dashboard", "--memory-limit", "0", "--preload", str(preload)]  # fmt: skip
        started += [subprocess.Popen(worker, **options) for _ in range(N_WORKERS)]
        yield address, psutil.Process(started[0].pid)
    finally:
        for process in started:
            process.kill()  # they hold nothing
            process.wait()


if __name__ == "__main__":
    main()
