"""Tiles/s of the engine against its two limits, and how time and memory grow with the slide.

    python benchmarks/engine.py [--network lymph-node-he | resnet18 | free | FOLDER]
                                [--side 6000] [--rounds 3] [--precision fp32 | auto]
                                [--sides 5000 20000 40000]

The limits: the network alone on tiles that are in memory, and reading alone (decode, resample, cut)
with a thread per core. Rounds alternate the three, so that a machine whose speed drifts treats them
alike; medians are quoted. Beside tiles per second of wall time stand those per second of processor
time, which other programs on the machine disturb less.

``resnet18`` has 256 px tiles and 10 linear heads; ``free`` is a network that costs next to nothing,
256 px tiles and as many outputs: what is left is the engine itself. With ``--sides`` each size is
run in a process of its own, and its time per tile and its peak of memory (model included) printed.
The last line is ``ratio 0.xx``, the engine's speed by the lower of its limits.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from made_slides import TISSUE_SHARE

from napari_ood import Bundle, load_bundle, open_slide, run_slide
from napari_ood.inference.blocks import Block, TileReader
from napari_ood.inference.engine import checked_batch_size, open_network, shards_left
from napari_ood.inference.order import WorkQueue
from napari_ood.inference.plan import Plan, plan_run
from napari_ood.models import resolve_device
from napari_ood.models.precision import FP32, resolve_arithmetic

TILE, MPP = 256, 0.5
N_HEADS, N_CLASSES, N_FEATURES = 10, 2, 512
MOST_IN_MEMORY = 1500
"""Tiles that the network sees when it is timed alone."""


@dataclass(frozen=True)
class Took:
    """Seconds of the clock and of the processors."""

    wall: float
    cpu: float


def timed(call: Callable[[], object]) -> Took:
    """Time a call."""
    wall, cpu = time.perf_counter(), _cpu_seconds()
    call()
    return Took(time.perf_counter() - wall, _cpu_seconds() - cpu)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class FreeNet:
    """A network that looks at a few pixels of each tile; as the engine uses networks."""

    def __init__(self, device: str) -> None:
        import torch

        generator = torch.Generator().manual_seed(0)
        size = (3, N_HEADS * N_CLASSES + N_FEATURES)
        self._weight = torch.randn(size, generator=generator).to(device)

    def __call__(self, tiles: Any) -> tuple[Any, Any]:
        """Tiles [B, t, t, 3] to logits and features."""
        out = tiles[:, 16::32, 16::32].float().mean((1, 2)) @ self._weight
        logits, features = out.split((N_HEADS * N_CLASSES, N_FEATURES), dim=1)
        return logits.reshape(-1, N_HEADS, N_CLASSES), features

    def activate_in_place(self) -> bool:
        """There is nothing to activate."""
        return True


class FreeBundle(Bundle):
    """A bundle whose network costs next to nothing."""

    def network(self, device: str = "cpu") -> Any:
        """Return the network."""
        return FreeNet(device)


def bundle_named(name: str, folder: Path) -> Bundle:
    """Load a bundle, or make ``resnet18`` or ``free`` in a folder."""
    if name not in ("resnet18", "free"):
        return load_bundle(name)
    from napari_ood.models import Card, MultiHeadNet, save_bundle

    path = folder / "resnet18"
    if not path.exists():
        net = MultiHeadNet("timm:resnet18", n_heads=N_HEADS, n_classes=N_CLASSES, tile_size=TILE)
        # At the slide's own resolution, so that tiles are cut and not resampled.
        card = Card(
            name="resnet18", classes=("a", "b"), architecture=net.architecture, tile_size=TILE,
            mpp=MPP, mean=(0.5,) * 3, std=(0.25,) * 3, n_heads=N_HEADS, blocks=net.blocks,
            scores={"uncertainty": "entropy", "ood": "entropy"}, licence="none",
        )  # fmt: skip
        save_bundle(path, net, card)
    bundle = load_bundle(str(path))
    return bundle if name == "resnet18" else FreeBundle(bundle.path, bundle.card, bundle.hashes)


def read_all(path: Path, plan: Plan, n_threads: int, size: int) -> list[Block]:
    """Read all tiles of a slide; keep the first shards up to ``MOST_IN_MEMORY`` tiles."""
    kept: list[Block] = []
    # A fresh slide each time: nothing may come from an earlier round's cache.
    with open_slide(path) as slide, ThreadPoolExecutor(n_threads) as pool:
        reader = TileReader(slide, plan)
        todo = shards_left(plan, np.zeros_like(plan.tissue))
        queue = WorkQueue(plan, todo, size)
        pieces = list(iter(queue.take, None))
        for block in pool.map(reader.read, pieces):
            if sum(len(b.tiles) for b in kept) < MOST_IN_MEMORY:
                kept.append(block)
    return kept


def run_once(path: Path, bundle: Bundle, device: str, precision: str) -> dict[str, Any]:
    """Run a fresh copy of the slide; the engine's record of it."""
    with tempfile.TemporaryDirectory() as folder, open_slide(path) as slide:
        cpu = _cpu_seconds()
        out = Path(folder) / "run.ood.zarr"
        run = run_slide(slide, bundle, out, device=device, precision=precision)
        session: dict[str, Any] = run.provenance["sessions"][-1]
        return {"n": run.n_tiles, "cpu": _cpu_seconds() - cpu, **session}


def compare(path: Path, bundle: Bundle, device: str, rounds: int, precision: str) -> float:
    """Print the limits and the engine's speed; return their ratio."""
    n_threads = os.cpu_count() or 1
    with open_slide(path) as slide:
        plan = plan_run(slide, bundle)
    size = checked_batch_size(device, None, bundle.card)
    blocks = read_all(path, plan, n_threads, size)
    n_forward = sum(len(block.tiles) for block in blocks)
    arithmetic = resolve_arithmetic(precision, bundle, device, size)
    network = open_network(bundle, device, size, arithmetic)

    batches = [block.batch(k) for block in blocks for k in block.waiting]

    def forward_all() -> None:
        begun: deque[Callable[[], object]] = deque()
        for batch in batches:
            begun.append(network.begin(batch))
            if len(begun) > network.n_ahead:
                begun.popleft()()
        for answer in begun:
            answer()

    forward_all()
    n = run_once(path, bundle, device, precision)["n"]
    walls: dict[str, list[float]] = {"network alone": [], "reading alone": [], "engine": []}
    cpus: dict[str, list[float]] = {name: [] for name in walls}
    for _ in range(rounds):
        took = timed(forward_all)
        _append(walls, cpus, "network alone", n_forward, took)
        took = timed(lambda: read_all(path, plan, n_threads, size))
        _append(walls, cpus, "reading alone", n, took)
        record = run_once(path, bundle, device, precision)
        _append(walls, cpus, "engine", n, Took(record["seconds"], record["cpu"]))
    print(
        f"{n:,} tiles of {bundle.card.tile_size} px, medians of {rounds} rounds on {device}, "
        f"{arithmetic}\n"
    )
    print("| | tiles/s | tiles per processor second |\n|---|---:|---:|")
    rates = {name: statistics.median(values) for name, values in walls.items()}
    for name, rate in rates.items():
        print(f"| {name} | {rate:,.1f} | {statistics.median(cpus[name]):,.1f} |")
    print("\nbusy seconds of the last run:", _stages(record), flush=True)
    pairs = zip(*walls.values(), strict=True)
    return statistics.median(engine / min(limits) for *limits, engine in pairs)


def _append(
    walls: dict[str, list[float]], cpus: dict[str, list[float]], name: str, n: int, took: Took
) -> None:
    walls[name].append(n / took.wall)
    cpus[name].append(n / took.cpu)


def _stages(record: dict[str, Any]) -> str:
    stages = ", ".join(f"{k} {v:.2f}" for k, v in record["stage_seconds"].items())
    return f"{stages}; {record['seconds']:.2f} by the clock"


def grow(sides: Sequence[int], network: str, device: str, most_tiles: int) -> None:
    """Print time per tile and peak of memory for slides of several sizes."""
    print("| side, px | tiles | ms per tile | processor ms per tile | peak memory, MB | by first |")
    print("|---:|---:|---:|---:|---:|---:|")
    first = 0.0
    for side in sides:
        path = made_in_process(side)
        command = [sys.executable, __file__, "--alone", str(path), "--network", network]
        command += ["--device", device, "--most-tiles", str(most_tiles)]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        one = json.loads(found.splitlines()[-1])
        first = first or one["peak"]
        wall, cpu = (1e3 * one[k] / one["n"] for k in ("seconds", "cpu"))
        print(
            f"| {side:,} | {one['n']:,} | {wall:.2f} | {cpu:.2f} | {one['peak'] / 1e6:,.0f} "
            f"| {one['peak'] / first:.2f} |",
            flush=True,
        )


def made_in_process(side: int) -> Path:
    """Make a slide without leaving anything of that in this process's memory."""
    code = f"from made_slides import made_slide; print(made_slide({side}, {MPP}))"
    folder = Path(__file__).parent
    made = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=folder
    )
    return Path(made.stdout.strip())


def alone(path: Path, bundle: Bundle, device: str, most_tiles: int) -> dict[str, float]:
    """Run a slide, or ``most_tiles`` of it, and look at this process's memory."""
    n_done = 0

    def listener(progress: Any) -> None:
        nonlocal n_done
        n_done = progress.n_done

    with tempfile.TemporaryDirectory() as folder, open_slide(path) as slide:
        cpu = _cpu_seconds()
        run = run_slide(
            slide, bundle, Path(folder) / "run.ood.zarr", device=device, precision="fp32",
            on_progress=listener, cancel=lambda: n_done >= most_tiles,
        )  # fmt: skip
        seconds = run.provenance["sessions"][-1]["seconds"]
        cpu = _cpu_seconds() - cpu
        return {"n": run.n_tiles, "seconds": seconds, "cpu": cpu, "peak": peak_bytes()}


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says includes the parent's before exec
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Measure; print a table or two, and the ratio last."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="lymph-node-he")
    parser.add_argument("--side", type=int, default=6000, help="of the slide for the ratio, px")
    parser.add_argument("--slide", type=Path, help="another slide for the ratio")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default=FP32, help="as of `napari-ood run`; for the ratio")
    parser.add_argument("--sides", type=int, nargs="*", default=[], help="sizes to compare")
    parser.add_argument("--most-tiles", type=int, default=10**9, help="of each size")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = bundle_named(args.network, Path(folder))
        if args.alone:
            print(json.dumps(alone(args.alone, bundle, args.device, args.most_tiles)))
            return
        device = resolve_device(args.device)
        if args.sides:
            grow(args.sides, args.network, device, args.most_tiles)
            print()
        path = args.slide or made_in_process(args.side)
        ratio = compare(path, bundle, device, args.rounds, args.precision)
    print(
        f"\n{args.network}, {np.round(100 * TISSUE_SHARE):.0f} % tissue, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    print(f"ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
