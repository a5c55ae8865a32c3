"""Make a small cohort to look at: slides of two made-up scanners over a year, one of which drifts.

    .venv/bin/python scripts/make_cohort.py FOLDER

Pieces of the procedural H&E slide, with dates and scanners in a list. Later slides of the second
scanner are warmer and warmer, as by an ageing lamp. One file is damaged. FOLDER/runs is the cohort.
"""

from __future__ import annotations

import argparse
import csv
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import tifffile

from napari_ood import load_bundle, open_slide
from napari_ood.cohort import run_cohort
from napari_ood.samples import synthetic_slide

PX, N_SLIDES = 1536, 44
SCANNERS = ("Lab A, AT2", "Lab B, P1000")
DRIFTS_FROM = 13
"""Of the second scanner's slides, in the order of time."""
WARMER = 0.007
"""Share of blue that is lost with each slide from then on."""
MPP = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    slides = make_slides(folder / "slides")
    run_cohort([slides], load_bundle("synthetic-he"), folder / "runs", device="cpu", workers=2,
               on_notice=print)  # fmt: skip


def make_slides(folder: Path) -> Path:
    """Write the slides; return the list of them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    rng = np.random.default_rng(5)
    with open_slide(synthetic_slide()) as slide:
        height, width = slide.shape
        places = usual_places(slide.path, (height, width))
        for i in range(N_SLIDES):
            second = i % 2
            y, x = places[i % len(places)]
            if i % 15 == 7:  # now and then a slide under ink, in folds or out of focus
                y, x = int(rng.integers(height - PX)), int(rng.integers(width - PX))
            pixels = slide.read(0, y, x, PX, PX).astype(np.float32)
            late = max(0, i // 2 - DRIFTS_FROM) if second else 0
            pixels[..., 2] *= 1 - WARMER * late
            name = f"case-{i:03}.tif"
            write(folder / name, np.clip(pixels, 0, 255).astype(np.uint8))
            day = date(2025, 10, 6) + timedelta(days=8 * i + int(rng.integers(5)))
            rows.append(
                (name, SCANNERS[second], day.isoformat(), ("biopsy", "resection")[i % 3 > 0])
            )
    (folder / "case-damaged.tif").write_bytes(b"II*\0 and nothing that follows")
    rows.append(("case-damaged.tif", SCANNERS[0], "2026-03-02", "biopsy"))
    listed = folder / "slides.csv"
    with listed.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("slide", "scanner", "date", "group"), *rows])
    return listed


def usual_places(slide: Path, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Corners of pieces with much tissue and little that was planted as foreign."""
    from napari_ood.samples import load_truth
    from napari_ood.slides import tissue_mask

    truth = load_truth(slide)
    with open_slide(slide) as opened:
        mask = tissue_mask(opened)
        steps = [range(0, side - PX, 256) for side in size]
        corners = [(y, x) for y in steps[0] for x in steps[1]]
        boxes = np.array([(y, x, PX, PX) for y, x in corners], float)
        tissue = mask.fraction(boxes)
    foreign = sum(truth.foreign_share(boxes).values())
    order = np.argsort(foreign - 0.2 * tissue)
    return [corners[i] for i in order[:N_SLIDES]]


def write(path: Path, pixels: np.ndarray) -> None:
    scale = {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
    options = {"tile": (256, 256), "compression": "jpeg", "compressionargs": {"level": 90}}
    tifffile.imwrite(path, pixels, photometric="rgb", **options, **scale)


if __name__ == "__main__":
    main()
