"""A small slide with half of it foreign, and a window where there is a display."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_ood import Bundle, Slide, open_slide
from napari_ood.viewer.aside import Aside
from napari_ood.viewer.bridge import Bridge
from napari_ood.viewer.job import Job

MPP = 0.5
MOST_HELD_S = 120
SHAPE = (640, 960)
TISSUE = (200, 120, 180)
INK = (20, 60, 200)


# As a string it is looked at when a test starts, by when pytest-xvfb has opened a screen.
needs_display = pytest.mark.skipif(
    "sys.platform == 'linux'"
    " and not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY'))",
    reason="no display: install xvfb, as make setup does",
)


def write_slide(path: Path, mpp: float | None = MPP) -> Path:
    """640 x 960 px; the left half like what the tiny bundle knows, the right half flat ink."""
    rng = np.random.default_rng(1)
    pixels = np.clip(rng.normal(TISSUE, 15, (*SHAPE, 3)), 0, 255).astype(np.uint8)
    pixels[:, SHAPE[1] // 2 :] = INK
    scale: dict[str, Any] = {}
    if mpp is not None:
        scale = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(128, 128), compression="zlib", **scale)
    return path


@pytest.fixture
def slide_path(tmp_path: Path) -> Path:
    return write_slide(tmp_path / "half.tif")


@pytest.fixture
def slide(slide_path: Path) -> Iterator[Slide]:
    with open_slide(slide_path) as opened:
        yield opened


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Small shards, and an engine that rests after its first one: let go by setting the event.

    However fast or slow the machine, a run goes on until it is cancelled or let go.
    """
    monkeypatch.setattr("napari_ood.inference.plan.BLOCK_PX", 128)
    monkeypatch.setattr("napari_ood.inference.plan.SHARD_TILES", (2, 32))
    let_go = threading.Event()

    class Held(Aside[Any]):
        def __call__(self, news: Any) -> None:
            super().__call__(news)
            job: Job = self._listener.__self__
            until = time.monotonic() + MOST_HELD_S
            while not (job.cancelled or let_go.wait(0.01)):
                assert time.monotonic() < until, "nobody cancelled the run or let it go"

    monkeypatch.setattr("napari_ood.viewer.job.Aside", Held)
    yield let_go
    let_go.set()


def finish(bridge: Bridge, seconds: float = 60) -> None:
    """Let a run end and be shown, without Qt."""
    assert bridge.session.wait(seconds)
    assert not bridge.tick()
    bridge.steps.finish()


@pytest.fixture
def finished(slide: Slide, tiny_bundle: Bundle) -> Callable[[Bridge], None]:
    """Run the tiny bundle over the slide in a bridge's viewer, to the end."""

    def run(bridge: Bridge) -> None:
        bridge.session.use_bundle(tiny_bundle)
        assert bridge.run()
        finish(bridge)

    return run
