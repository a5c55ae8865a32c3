"""Regions, rankings, verdicts, comparisons, outlines of a million tiles, in processor seconds.

    python benchmarks/workbench.py

Prints a markdown table. Scores are drawn: white noise, and noise smoothed to blobs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from napari_ood.analysis import compare_runs, rank_regions
from napari_ood.analysis.diverging import By, as_regions, diverging_regions
from napari_ood.analysis.regions import ORDERS, Region, find_regions
from napari_ood.export.outline import Lattice, outlines
from napari_ood.review import Kind, Verdict, match_verdicts

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from drawn import DrawnRun

SIDE, FLAGGED, N_FEATURES, N_VERDICTS = 1000, 0.05, 64, 1000


def main() -> None:
    """Print one row per step, noise and blobs side by side."""
    table = {name: steps(smooth) for name, smooth in (("noise", 0.0), ("blobs", 3.0))}
    print(f"| step | {' | '.join(table)} |\n|---|{'---:|' * len(table)}")
    for step in table["noise"]:
        print(f"| {step} | {' | '.join(times[step] for times in table.values())} |")


def steps(smooth: float) -> dict[str, str]:
    """Time each step on scores of this smoothness."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(SIDE, SIDE))
    if smooth:
        scores = ndimage.gaussian_filter(scores, smooth)
    features = rng.normal(size=(SIDE * SIDE, N_FEATURES)).astype(np.float32)
    run = DrawnRun(scores, features=features)
    flagged = run.values > np.quantile(run.values, 1 - FLAGGED)
    took: dict[str, str] = {}
    regions: tuple[Region, ...] = clock(
        took, "find regions", lambda: find_regions(run, flagged, "ood")
    )
    for by in ORDERS:
        clock(took, f"rank by {by}", lambda by=by: rank_regions(regions, by, run))
    verdicts = clock(took, f"{N_VERDICTS:,} verdicts", lambda: judged(regions))
    clock(took, "match verdicts", lambda: match_verdicts(regions, verdicts))
    # Another model: the same slide, other noise, one tile in twenty of another class.
    other = DrawnRun(
        scores + 0.5 * scores.std() * rng.normal(size=scores.shape),
        predicted=(rng.random((SIDE, SIDE)) < 0.05).astype(int),
    )
    difference = clock(took, "compare with another run", lambda: compare_runs(run, other))
    for by in By:
        clock(took, f"divergences by {by}", lambda by=by: diverging_regions(difference, by))
    clock(
        took,
        "summary of the comparison",
        lambda: (difference.correlation, difference.kappa, difference.delta_map()),
    )
    worst = diverging_regions(difference)
    clock(took, "divergences as regions", lambda: as_regions(difference, worst))
    lattice = Lattice(np.arange(SIDE + 1) * 96.0, np.arange(SIDE + 1) * 96.0)
    mask = flagged.reshape(SIDE, SIDE)
    clock(took, "outlines", lambda: outlines(mask, lattice))
    return {"regions": f"{len(regions):,}", **took}


def judged(regions: tuple[Region, ...]) -> list[Verdict]:
    return [
        Verdict.of(region, Kind.AGREE, reviewer="r", threshold=0.0)
        for region in regions[:N_VERDICTS]
    ]


def clock(took: dict[str, str], step: str, work: Callable[[], Any]) -> Any:
    began = time.process_time()
    done = work()
    took[step] = f"{time.process_time() - began:.2f}"
    return done


if __name__ == "__main__":
    main()
