"""Opening and scoring a stored run of a million tiles, in seconds.

    python benchmarks/stored_run.py FOLDER [--side 1000] [--bundle synthetic-he]

Makes the run in FOLDER if it is not there (features are those of the bundle's own training tiles
plus noise), then does each step in a process of its own, and prints a markdown table with the peak
of memory above that of before. Files are in the page cache, as after a run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from napari_ood import load_bundle, open_run
from napari_ood.analysis import ScoredRun, find_regions, rank_regions
from napari_ood.inference.plan import Plan
from napari_ood.inference.store import RunWriter, shards
from napari_ood.models import Bundle
from napari_ood.slides.grid import TileGrid

SHARD = (21, 21)


def main() -> None:
    """Make the run if need be; print one row per step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=1000)
    parser.add_argument("--bundle", default="synthetic-he")
    args = parser.parse_args()
    bundle = load_bundle(args.bundle)
    path = args.folder / f"{args.bundle}-{args.side}.ood.zarr"
    if path.exists() and open_run(path).provenance["bundle"]["hashes"] != bundle.hashes:
        shutil.rmtree(path)  # of an older version of the bundle
    if not path.exists():
        make_run(path, bundle, args.side)
    print(f"{args.side**2:,} tiles of {args.bundle}\n")
    print("| step | s | s of processor time | MiB |\n|---|---:|---:|---:|")
    for name in STEPS:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            seconds, busy, mib = alone.submit(measure, name, path).result()
        print(f"| {name} | {seconds:.2f} | {busy:.2f} | {mib:,.0f} |", flush=True)


def make_run(path: Path, bundle: Bundle, side: int) -> None:
    """Store a run of ``side``² tiles without a network."""
    card, reference = bundle.card, bundle.require_reference()
    pixels = side * card.tile_size
    grid = TileGrid.over((pixels, pixels), card.tile_size)
    plan = Plan(grid, np.ones((side, side), bool), SHARD)
    record = {
        "identity": {"slide": "0" * 64, "bundle": dict(bundle.hashes), "grid": grid.to_dict()},
        "slide": {"name": "drawn", "path": "nowhere/drawn.tif", "size": list(grid.shape),
                  "mpp": [card.mpp] * 2, "bounds": None, "vendor": "generic",
                  "fingerprint": "0" * 64},
        "bundle": {"name": bundle.name, "path": str(bundle.path), "hashes": dict(bundle.hashes),
                   "card": card.to_config()},
        "warnings": [], "versions": {}, "created": "2026-01-01T00:00:00+00:00", "sessions": [],
    }  # fmt: skip
    writer = RunWriter.create(path, plan, card.n_heads, card.n_classes, card.n_features, record)
    rng = np.random.default_rng(0)
    for shard in shards((side, side), SHARD):
        index = np.argwhere(np.ones(shard.shape, bool)) + shard.origin
        rows = rng.integers(0, len(reference.train_features), len(index))
        features = reference.train_features[rows]
        features = features * rng.normal(1, 0.1, features.shape).astype(np.float32)
        logits = rng.normal(0, 2, (len(index), card.n_heads, card.n_classes)).astype(np.float32)
        writer.write(shard, index, logits, features)


def measure(name: str, path: Path) -> tuple[float, float, float]:
    """Time one step in this process; what it needs that is not part of it comes before."""
    scored = ScoredRun(open_run(path))
    work = STEPS[name](scored)
    before, began, busy = _peak_mib(), time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - busy, _peak_mib() - before


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _ood(scored: ScoredRun) -> Callable[[], Any]:
    scored.familiar("ood")  # the fit is the bundle's, not the run's
    return lambda: scored.score("ood")


def _diversity(scored: ScoredRun) -> Callable[[], Any]:
    scores = scored.score("entropy")
    regions = find_regions(scored, scores > np.quantile(scores, 0.95), "entropy")
    return lambda: rank_regions(regions, "diversity", scored)


STEPS: dict[str, Callable[[ScoredRun], Callable[[], Any]]] = {
    "logits": lambda scored: lambda: scored.run.logits,
    "features": lambda scored: lambda: scored.run.features,
    "uncertainty": lambda scored: lambda: scored.score("uncertainty"),
    "OOD score": _ood,
    "regions by diversity": _diversity,
}


if __name__ == "__main__":
    main()
