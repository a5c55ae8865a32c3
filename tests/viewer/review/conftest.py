"""A slide with three foreign patches on familiar noise, and its run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_ood import Bundle, Run, Slide, open_run, open_slide
from napari_ood.inference import run_slide
from napari_ood.viewer.maps import Maps, Overlay
from napari_ood.viewer.review_queue import ReviewQueue
from napari_ood.viewer.session import Session

TILE_PX = 64
"""Side of a tile of the tiny bundle (32 px at 1 µm/px) on a slide of 0.5 µm/px."""
SHAPE = (10, 15)
PATCHES = {"large": (slice(5, 9), slice(8, 13)), "row": (slice(1, 2), slice(1, 4)), "one": (6, 2)}
INKS = {"large": (20, 60, 200), "row": (0, 0, 0), "one": (250, 240, 0)}
SIZES = {"large": 20, "row": 3, "one": 1}


def write_patches(path: Path) -> Path:
    """10 x 15 tiles of pink noise; in it 20 tiles of one ink, 3 of another, 1 of a third."""
    rng = np.random.default_rng(1)
    kind = np.zeros(SHAPE, int)
    colors = np.array([(200, 120, 180), *INKS.values()])
    for i, name in enumerate(PATCHES):
        kind[PATCHES[name]] = i + 1
    full = np.kron(kind, np.ones((TILE_PX, TILE_PX), int))
    noise = rng.normal(0, 15, (*full.shape, 3))
    pixels = np.clip(colors[full] + noise, 0, 255).astype(np.uint8)
    tifffile.imwrite(
        path, pixels, photometric="rgb", tile=(128, 128), compression="zlib",
        resolution=(2e4, 2e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    return path


def run_of(folder: Path, bundle: Bundle) -> Path:
    """Run the bundle over that slide; the path of the run."""
    with open_slide(write_patches(folder / "patches.tif")) as slide:
        return run_slide(slide, bundle, folder / "patches.ood.zarr", tissue=False).path


def between_patches_and_noise(run: Run) -> float:
    """A threshold below every patch and above all noise."""
    scores = run.map("ood")
    foreign = np.zeros(SHAPE, bool)
    for where in PATCHES.values():
        foreign[where] = True
    low, high = float(scores[~foreign].max()), float(scores[foreign].min())
    assert low < high, "the patches are the most foreign tiles"
    return (low + high) / 2


@pytest.fixture
def run_path(tmp_path: Path, tiny_bundle: Bundle) -> Path:
    return run_of(tmp_path, tiny_bundle)


@pytest.fixture
def slide(run_path: Path) -> Iterator[Slide]:
    with open_slide(run_path.with_name("patches.tif")) as opened:
        yield opened


@pytest.fixture
def run(run_path: Path) -> Run:
    return open_run(run_path)


OpenQueue = Callable[..., ReviewQueue]


@pytest.fixture
def open_queue(run: Run, slide: Slide, tiny_bundle: Bundle) -> OpenQueue:
    """Open the run in a session of its own, as a program does that was started anew."""

    def open_it(reviewer: str = "Ada", threshold: float | None = None) -> ReviewQueue:
        session = Session()
        session.add_slide(slide)
        session.show(slide, Maps.of_run(run, tiny_bundle))
        set_threshold(session, between_patches_and_noise(run) if threshold is None else threshold)
        queue = ReviewQueue(session, reviewer)
        session.changed.connect(lambda new, old: queue.follow(new))
        queue.follow(session.state)
        assert queue.wait()
        return queue

    return open_it


def set_threshold(session: Session, value: float) -> None:
    from napari_ood.scores.thresholds import value_threshold

    score = session.state.scales[Overlay.OOD].score
    session.set_threshold(Overlay.OOD, value_threshold(score, value))
