"""Tiles/s of the engine against its two limits, measured in the same run.

The limits: the network alone on tiles that are in memory, and reading alone (decode, resample, cut)
with the engine's number of threads. Rounds alternate the three, so that a machine whose speed
drifts treats them alike; medians are quoted.

    python benchmarks/engine.py [--model BUNDLE] [--slide PATH] [--size 8192] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from napari_ood import Bundle, Slide, load_bundle, open_slide, run_slide
from napari_ood.inference.engine import BATCH_SIZE
from napari_ood.inference.network import Network
from napari_ood.inference.pipeline import Block, TileReader, reader_count
from napari_ood.inference.plan import Plan, plan_run
from napari_ood.inference.store import shards
from napari_ood.models import resolve_device


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def read_all(slide_path: Path, plan: Plan, n_threads: int, keep: list[Block] | None = None) -> None:
    # A fresh slide each time: nothing may come from an earlier round's cache.
    with open_slide(slide_path) as slide, ThreadPoolExecutor(n_threads) as pool:
        reader = TileReader(slide, plan)
        todo = [s for s in shards(plan.tissue.shape, plan.shard) if plan.tissue[s.slices].any()]
        for block in pool.map(reader.read, todo):
            if keep is not None:
                keep.append(block)


def forward_all(network: Network, blocks: list[Block]) -> None:
    for block in blocks:
        for start in range(0, len(block.tiles), network.batch_size):
            network(block.tiles[start : start + network.batch_size])


def measure(slide: Slide, bundle: Bundle, device: str, rounds: int) -> dict[str, float]:
    plan = plan_run(slide, bundle)
    n, n_threads = int(plan.tissue.sum()), reader_count(device)
    blocks: list[Block] = []
    read_all(slide.path, plan, n_threads, blocks)
    network = Network(bundle, device, BATCH_SIZE[device.partition(":")[0]])
    forward_all(network, blocks[:1])
    times: dict[str, list[float]] = {"network": [], "reading": [], "engine": []}
    for round_ in range(rounds):
        times["network"].append(seconds(lambda: forward_all(network, blocks)))
        times["reading"].append(seconds(lambda: read_all(slide.path, plan, n_threads)))
        with tempfile.TemporaryDirectory() as folder, open_slide(slide.path) as fresh:
            run = run_slide(fresh, bundle, Path(folder) / "run.ood.zarr", device=device)
            times["engine"].append(run.provenance["sessions"][-1]["seconds"])
        print(f"round {round_ + 1}:", {k: round(n / v[-1], 1) for k, v in times.items()})
    return {k: n / statistics.median(v) for k, v in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="lymph-node-he")
    parser.add_argument("--slide", type=Path, help="default: a procedural slide")
    parser.add_argument("--size", type=int, default=8192, help="of the procedural slide, px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = resolve_device(args.device)
    with tempfile.TemporaryDirectory() as folder:
        path = args.slide
        if path is None:
            from napari_ood.samples import write_synthetic_slide

            path = Path(folder) / "synthetic.ome.tif"
            write_synthetic_slide(path, size=args.size, seed=7)
        with open_slide(path) as slide:
            rates = measure(slide, load_bundle(args.model), device, args.rounds)
    for name, rate in rates.items():
        print(f"{name:8s} {rate:9.1f} tiles/s")
    limit = min(rates["network"], rates["reading"])
    print(f"ratio {rates['engine'] / limit:.2f}")


if __name__ == "__main__":
    main()
