"""Readers: time to open, and reads/s of 256 px windows, beside OpenSlide on the same file.

Windows lie on tissue-like pixels (the slide given, repeated over a large pyramid), at positions
never read before, so that no cache of decoded tiles helps either side; the page cache is warm.
Rounds alternate the readers and the best one counts, since other work only ever slows a round.

    python benchmarks/readers.py ../shared/data/slides/aperio_cmu_small/CMU-1-Small-Region.svs
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import tifffile

from napari_ood import open_slide

TILE = 256
Window = tuple[int, int]
Read = Callable[[Window], object]


def write_pyramid(source: Path, path: Path, side: int) -> None:
    """Write a JPEG pyramid (4:2:0, quality 88, levels 1, 4, 16) of a slide's pixels, repeated."""
    with open_slide(source) as slide:
        h, w = (n // TILE * TILE for n in slide.shape)
        pixels = slide.read(0, 0, 0, h, w)
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for factor in (1, 4, 16):
            level = pixels[::factor, ::factor]
            size = side // factor
            tif.write(
                tiles(level, size), shape=(size, size, 3), dtype=np.uint8, tile=(TILE, TILE),
                photometric="rgb", compression="jpeg", compressionargs={"level": 88},
                subfiletype=0 if factor == 1 else 1, resolution=(2e4, 2e4),
                resolutionunit="CENTIMETER",
            )  # fmt: skip


def tiles(level: np.ndarray, size: int) -> Iterator[np.ndarray]:
    n = -(-size // TILE)
    for k in range(n * n):
        # a step that no period of the source divides: neighbours differ
        y = (k // n * 167) % (level.shape[0] - TILE) if level.shape[0] > TILE else 0
        x = (k % n * 211) % (level.shape[1] - TILE) if level.shape[1] > TILE else 0
        tile = level[y : y + TILE, x : x + TILE]
        yield np.pad(tile, [(0, TILE - tile.shape[0]), (0, TILE - tile.shape[1]), (0, 0)])


def best_seconds(calls: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(call())
    return {name: min(values) for name, values in times.items()}


def time_open(open_it: Callable[[], object]) -> Callable[[], float]:
    def call() -> float:
        start = time.perf_counter()
        open_it()
        return time.perf_counter() - start

    return call


def time_reads(
    opener: Callable[[], Read], windows: list[Window], n_threads: int
) -> Callable[[], float]:
    def call() -> float:
        read = opener()  # a fresh handle: empty caches
        with ThreadPoolExecutor(n_threads) as pool:
            start = time.perf_counter()
            for _ in pool.map(read, windows):
                pass
            return time.perf_counter() - start

    return call


def ours(path: Path, size: int) -> Callable[[], Read]:
    def opener() -> Read:
        slide = open_slide(path)
        return lambda window: slide.read(0, *window, size, size)

    return opener


def theirs(path: Path, size: int) -> Callable[[], Read]:
    def opener() -> Read:
        slide = openslide.OpenSlide(path)
        return lambda window: np.asarray(
            slide.read_region(window[::-1], 0, (size, size)).convert("RGB")
        )

    return opener


def windows(side: int, size: int, n: int, *, aligned: bool) -> list[Window]:
    """Return ``n`` windows that share no codec tile, spread over the slide."""
    step = -(-(size + TILE) // TILE) * TILE
    grid = [(y, x) for y in range(0, side - step, step) for x in range(0, side - step, step)]
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(grid))[:n]
    shift = 0 if aligned else 101
    return [(grid[k][0] + shift, grid[k][1] + shift) for k in chosen]


def table(path: Path, side: int, rounds: int, n: int) -> str:
    rows = ["| what | napari-ood | OpenSlide | ratio |", "|---|---|---|---|"]
    opened = best_seconds(
        {
            "ours": time_open(lambda: open_slide(path).levels),
            "theirs": time_open(lambda: openslide.OpenSlide(path)),
        },
        max(rounds, 5),
    )
    rows.append(f"| open, ms | {opened['ours'] * 1e3:.1f} | {opened['theirs'] * 1e3:.1f} | |")
    for size, aligned in ((TILE, True), (TILE, False), (4 * TILE, False)):
        some = windows(side, size, n * TILE // size, aligned=aligned)
        for n_threads in sorted({1, os.cpu_count() or 1}):
            took = best_seconds(
                {
                    "ours": time_reads(ours(path, size), some, n_threads),
                    "theirs": time_reads(theirs(path, size), some, n_threads),
                },
                rounds,
            )
            rate = {name: len(some) / seconds for name, seconds in took.items()}
            where = "aligned" if aligned else "anywhere"
            rows.append(
                f"| {size} px {where}, {n_threads} thread(s), reads/s"
                f" | {rate['ours']:,.0f} | {rate['theirs']:,.0f}"
                f" | {rate['ours'] / rate['theirs']:.1f} x |"
            )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("source", type=Path, help="slide whose pixels fill the pyramid")
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reads", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pyramid.tif"
        write_pyramid(options.source, path, options.side)
        print("Readers\n")
        print(table(path, options.side, options.rounds, options.reads))
        print(
            f"\n{options.side} px square, JPEG 4:2:0, quality 88, {os.cpu_count()} CPUs, "
            "page cache warm"
        )


if __name__ == "__main__":
    main()
