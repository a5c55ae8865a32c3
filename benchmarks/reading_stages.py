"""Where the processor time of reading goes, by stage, and before and after a change.

    python benchmarks/reading_stages.py [SLIDE ...] [--network lymph-node-he] [--rounds 3]
                                        [--against FOLDER]

In processor time of the reading thread, which other programs on the machine disturb less than the
clock: milliseconds per tile for reading as a run reads, and of it for decoding (with what reads the
file) and for resampling; then those of opening the slide and planning the run, once.

``--against`` names the ``src`` folder of another version, as ``git worktree`` or ``git archive``
leave it. Both take turns, in fresh processes, and must give the same pixels.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

PASSES = 3
"""Over the slide, in each process."""
STAGES = ("reading", "decoding", "resampling")


def clocked(owner: Any, name: str, spent: Counter[str], stage: str) -> None:
    """Add the processor time of a function's calls to ``spent[stage]``."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        start = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[stage] += time.thread_time() - start

    setattr(owner, name, wrapped)


def one_process(path: str, network: str) -> dict[str, Any]:
    """Read a slide a few times with the version that this process imports."""
    from engine import bundle_named

    from napari_ood import open_slide
    from napari_ood.inference.blocks import TileReader
    from napari_ood.inference.engine import checked_batch_size, shards_left
    from napari_ood.inference.order import WorkQueue
    from napari_ood.inference.plan import plan_run
    from napari_ood.models import reuse_freed_memory
    from napari_ood.slides import resample
    from napari_ood.slides.backends.tiff_page import TiffPageReader

    with tempfile.TemporaryDirectory() as folder:
        bundle = bundle_named(network, Path(folder))
    start = time.process_time()
    with open_slide(path, 0.5) as slide:
        plan = plan_run(slide, bundle)
    planning = time.process_time() - start
    reuse_freed_memory()  # as a run does
    spent: Counter[str] = Counter()
    clocked(TiffPageReader, "_samples", spent, "decoding")
    clocked(resample, "_resampled", spent, "resampling")
    clocked(TileReader, "read", spent, "reading")
    passes, checksum, n = [], 0, int(plan.tissue.sum())
    for _ in range(PASSES):
        spent.clear()
        pixels = {}
        with open_slide(path, 0.5) as slide:
            reader = TileReader(slide, plan)
            todo = shards_left(plan, np.zeros_like(plan.tissue))
            queue = WorkQueue(plan, todo, checked_batch_size("cpu", None, bundle.card))
            while (piece := queue.take()) is not None:
                block = reader.read(piece)
                for cell, tile in zip(np.concatenate(piece.batches), block.tiles, strict=True):
                    pixels[tuple(cell.tolist())] = zlib.crc32(tile)
        passes.append([1e3 * spent[stage] / n for stage in STAGES])
        checksum = zlib.crc32(json.dumps(sorted(pixels.items())).encode())
    return {"passes": passes, "planning": 1e3 * planning, "checksum": checksum, "n": n}


def compare(path: str, network: str, rounds: int, sources: dict[str, str]) -> None:
    """Print a row per version."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sources}
    for _ in range(rounds):
        for name, source in sources.items():
            environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, path, "--network", network, "--alone"]
            done = subprocess.run(
                command, env=environment, check=True, capture_output=True, text=True
            )
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    if len({one["checksum"] for ones in found.values() for one in ones}) > 1:
        sys.exit(f"{path}: the versions read different pixels")
    for name, ones in found.items():
        passes = [row for one in ones for row in one["passes"]]
        stages = (f"{statistics.median(column):.3f}" for column in zip(*passes, strict=True))
        planning = statistics.median(one["planning"] for one in ones)
        cells = (Path(path).name, name, f"{ones[0]['n']:,}", *stages, f"{planning:.0f}")
        print("|", " | ".join(cells), "|", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slides", nargs="*", help="made ones of 8,000 and 20,000 px by default")
    parser.add_argument("--network", default="lymph-node-he")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="src folder of another version")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(one_process(args.slides[0], args.network)))
        return
    from engine import made_in_process

    slides = args.slides or [str(made_in_process(side)) for side in (8_000, 20_000)]
    sources = {"this": str(Path(__file__).parents[1] / "src")}
    if args.against:
        sources = {"other": str(args.against.resolve()), **sources}
    print("| slide | version | tiles |", *(f"{s}, ms |" for s in STAGES), "open and plan, ms |")
    print("|---|---|---:|" + "---:|" * (len(STAGES) + 1))
    for path in slides:
        compare(path, args.network, args.rounds, sources)
    print(f"\n{args.network}, processor ms by tile, plan by run; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
