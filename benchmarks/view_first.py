"""How long until the part of a slide that is on screen is done, while the view moves.

    python benchmarks/view_first.py [--network lymph-node-he] [--side 12000] [--zoom 4]
                                    [--only-count]

A run begins with a view of the slide's middle; as soon as that part is done, the view moves to
another place, then to a third one, and then off the slide; the run is stopped there. For each view:
its share of the run's tiles, the seconds until the last of them was stored, what that share takes
at the speed of this run, and the bound: twice that plus half a second.

Before that, how many tiles are computed for views of a few tiles, which cost whole batches. That is
counted from the plan, at random places in the tissue; no tile is computed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from engine import bundle_named, made_in_process

from napari_ood import Bundle, Progress, open_slide, run_slide
from napari_ood.inference.engine import checked_batch_size
from napari_ood.inference.order import cut_batches, in_view
from napari_ood.inference.plan import Plan, plan_run
from napari_ood.inference.store import shards
from napari_ood.slides.grid import Region

PLACES = ((0.5, 0.5), (0.42, 0.7), (0.6, 0.25))
"""Middles of the views, (y, x) shares of the slide."""
SMALL_VIEWS = ((2, 3), (4, 5), (8, 10), (16, 20))
"""Height and width of views in tiles."""
N_PLACES = 300
SETTLED_TILES = 64
"""What is computed before the first view is looked at: the first batches of a process are slow."""


class Camera:
    """Views in turn: the next one as soon as the one on screen is done."""

    def __init__(self, views: list[Region], visible: list[np.ndarray]) -> None:
        self._views, self._visible = views, visible
        self._done = np.zeros_like(visible[0])
        self._k = -1
        self._since = 0.0
        self.seconds: list[float] = []
        self.n_left: list[int] = []
        self.began = self.n_done = 0

    @property
    def region(self) -> Region | None:
        """What is on screen."""
        return self._views[self._k] if 0 <= self._k < len(self._views) else None

    @property
    def is_over(self) -> bool:
        """Whether all views are done."""
        return self._k == len(self._views)

    def look(self, progress: Progress) -> None:
        """Note the tiles that were stored; move on if nothing on screen is missing."""
        self._done[tuple(progress.index.T)] = True
        self.n_done = progress.n_done
        now = time.perf_counter()
        if self._k < 0:
            if progress.n_done < SETTLED_TILES:
                return
            self.began, self.n_before = now, progress.n_done
        elif self.is_over or (self._visible[self._k] & ~self._done).any():
            return
        else:
            self.seconds.append(now - self._since)
        self._k += 1
        self._since = now
        if not self.is_over:
            self.n_left.append(int((self._visible[self._k] & ~self._done).sum()))


def count(plan: Plan, sizes: tuple[int, ...]) -> None:
    """Print how many tiles the batches hold that small views touch."""
    rng = np.random.default_rng(0)
    grid, tissue = plan.grid, np.argwhere(plan.tissue)
    batches = {
        size: [
            batch
            for shard in shards(plan.tissue.shape, plan.shard)
            for batch in cut_batches(plan.tissue, shard, size)
        ]
        for size in sizes
    }
    print("| view, tiles | of tissue in it |", *(f"computed, batches of {n} |" for n in sizes))
    print("|---|---:|" + "---:|" * len(sizes))
    for high, wide in SMALL_VIEWS:
        found = []
        for cell in tissue[rng.integers(0, len(tissue), N_PLACES)]:
            middle = np.add(grid.region[:2], (cell + rng.random(2)) * grid.pitch)
            side = np.multiply((high, wide), grid.pitch)
            view = (*(middle - side / 2).tolist(), *side.tolist())
            seen = int((plan.tissue & grid.tiles_in(view)).sum())
            computed = [
                sum(len(batch) for batch in batches[size] if in_view(grid, batch, [view]))
                for size in sizes
            ]
            found.append((seen, *computed))
        seen, *computed = np.median(found, axis=0)
        print(f"| {high} × {wide} | {seen:.0f} |", *(f"{n:.0f} |" for n in computed), flush=True)
    print()


def measure(path: Path, bundle: Bundle, device: str, zoom: float) -> bool:
    """Print a row per view; return whether all were done in time."""
    with open_slide(path) as slide, tempfile.TemporaryDirectory() as folder:
        plan = plan_run(slide, bundle)
        side = slide.shape[0] / zoom, slide.shape[1] / zoom
        views = [
            (y * slide.shape[0] - side[0] / 2, x * slide.shape[1] - side[1] / 2, *side)
            for y, x in PLACES
        ]
        visible = [plan.tissue & plan.grid.tiles_in(view) for view in views]
        camera = Camera(views, visible)
        run_slide(
            slide, bundle, Path(folder) / "run.ood.zarr", device=device, precision="fp32",
            view=lambda: camera.region, on_progress=camera.look, cancel=lambda: camera.is_over,
        )  # fmt: skip
        speed = (camera.n_done - camera.n_before) / (time.perf_counter() - camera.began)
        n = int(plan.tissue.sum())
        print(f"{n:,} tiles, {speed:.1f} tiles/s, {zoom:g} × as wide as the view\n")
        print("| view | its tiles | share of all | its work, s | done after, s | bound, s |")
        print("|---|---:|---:|---:|---:|---:|")
        in_time = True
        for k, (took, left) in enumerate(zip(camera.seconds, camera.n_left, strict=True)):
            work = left / speed
            bound = 2 * work + 0.5
            in_time &= took <= bound
            share = 100 * left / n
            print(f"| {k + 1} | {left} | {share:.1f} % | {work:.2f} | {took:.2f} | {bound:.2f} |")
        return in_time


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="lymph-node-he")
    parser.add_argument("--side", type=int, default=12_000)
    parser.add_argument("--zoom", type=float, default=4.0, help="slide's side by the view's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only-count", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = bundle_named(args.network, Path(folder))
        path = made_in_process(args.side)
        with open_slide(path) as slide:
            usual = checked_batch_size(args.device, None, bundle.card)
            count(plan_run(slide, bundle), tuple(sorted({8, 16, 32, usual})))
        if args.only_count:
            return
        in_time = measure(path, bundle, args.device, args.zoom)
    print(f"\n{args.network}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    print("in time" if in_time else "too late")


if __name__ == "__main__":
    main()
