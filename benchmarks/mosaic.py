"""Maps finer than a tile: tiles per second, and how much of the time is the map of tiles itself.

``python benchmarks/mosaic.py [--bundle NAME]`` fills a square in the middle of a slide, by default
the demo's, with tiles that lie half of their side apart. Reading and blending come on top of what
the mapper takes, and of the network's forward alone, which is timed on the same tiles in the same
run: on a busy machine read the ratios. With ``--window`` (under a display, such as ``xvfb-run -a``)
the map is filled in a real window while a timer of 5 ms counts how long the event loop was away.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_ood.explain.tile_mapper import TileMapper
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide
    from napari_ood.viewer.job import Box

METHODS = ("grad_cam", "layer_cam")
FORWARD_BATCH = 64
BEAT_MS = 5
BLOCKED_MS = 100


class Timed:
    """A mapper with a clock."""

    def __init__(self, mapper: TileMapper) -> None:
        self._mapper, self.seconds = mapper, 0.0
        self.name, self.title, self.unit = mapper.name, mapper.title, mapper.unit
        self.signed, self.limit = mapper.signed, mapper.limit

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        began = time.perf_counter()
        values = self._mapper(tiles)
        self.seconds += time.perf_counter() - began
        return values


def middle(slide: Slide, side_um: float) -> Box:
    """A square in the middle of a slide, level-0 pixels."""
    mpp = slide.mpp or (1.0, 1.0)
    size = [min(round(side_um / mpp[a]), slide.shape[a]) for a in (0, 1)]
    start = [(slide.shape[a] - size[a]) // 2 for a in (0, 1)]
    return start[0], start[1], size[0], size[1]


def forward_seconds(bundle: Bundle, tiles: NDArray[np.uint8], device: str) -> float:
    """Seconds per tile of the network alone, the median of three."""
    import torch

    from napari_ood.models import resolve_device

    target = resolve_device(device)
    net, batch = bundle.network(target), torch.from_numpy(tiles).to(target)
    times = []
    with torch.inference_mode():
        for _ in range(4):
            began = time.perf_counter()
            net(batch)[0].cpu()
            times.append(time.perf_counter() - began)
    return statistics.median(times[1:]) / len(tiles)


def measure(slide: Slide, bundle: Bundle, side_um: float, device: str) -> None:
    """Print a row per method and target."""
    from napari_ood.explain import Explainer, Target
    from napari_ood.explain.mosaic import Mosaic, sample_tiles
    from napari_ood.explain.tile_mapper import SaliencyMapper

    sample = sample_tiles(slide, bundle, FORWARD_BATCH)
    forward, explainer = forward_seconds(bundle, sample, device), Explainer(bundle, device)
    print(f"{bundle.name}: {1 / forward:.0f} tiles/s forward alone, batches of {len(sample)}")
    print("| map | tiles | tiles/s | read, blend (share) | tile ÷ forward |")
    print("|---|---|---|---|---|")
    for target in (Target.of_class(0), Target.uncertainty(), Target.of_score()):
        if target.kind == "score" and "ood" not in bundle.card.scores:
            continue
        for method in METHODS:
            mapper = Timed(SaliencyMapper(explainer, method, target, 1.0))
            mapper(sample[:2])
            mapper.seconds = 0.0
            mosaic = Mosaic(slide, bundle, mapper, middle(slide, side_um))
            began = time.perf_counter()
            mosaic.fill()
            took = time.perf_counter() - began
            print(
                f"| {mapper.title}, {target.words(bundle.card)} | {mosaic.n_tiles} "
                f"| {mosaic.n_tiles / took:.1f} | {100 * (1 - mapper.seconds / took):.1f} % "
                f"| {took / mosaic.n_tiles / forward:.1f} |"
            )


def watch(slide: Slide, bundle: Bundle, seconds: float) -> None:
    """Fill a map in a window and print how long the event loop was away, at most and how often."""
    from qtpy.QtCore import QTimer

    from napari_ood.viewer import app
    from napari_ood.viewer.bridge import bridge_of
    from napari_ood.viewer.dock_inspector import InspectorDock
    from napari_ood.viewer.layers import make_layer, slide_layer_data

    viewer = app.new_window()
    viewer.add_layer(make_layer(slide_layer_data(slide)))
    bridge_of(viewer).session.use_bundle(bundle)
    dock: InspectorDock = viewer.window.add_plugin_dock_widget(app.PLUGIN, "OOD inspector")[1]
    app.settle(2000)
    beats: list[tuple[float, float, str]] = []
    last = [time.perf_counter(), time.thread_time()]

    def beat() -> None:
        now, used = time.perf_counter(), time.thread_time()
        beats.append(
            (1000 * (now - last[0]), 1000 * (used - last[1]), dock.fine_map.fine.state.stage)
        )
        last[:] = now, used

    timer = QTimer()
    timer.timeout.connect(beat)
    timer.start(BEAT_MS)
    app.settle(2000)
    report("before", beats)
    beats.clear()
    dock.fine_map.start.click()
    end = time.perf_counter() + seconds
    while dock.fine_map.fine.state.running and time.perf_counter() < end:
        app.settle(100)
    for stage in dict.fromkeys(stage for *_, stage in beats):
        report(stage or "other", [b for b in beats if b[2] == stage])
    print(dock.fine_map.progress.text())
    dock.fine_map.stop.click()
    dock.fine_map.fine.wait()
    viewer.close()


def report(what: str, beats: list[tuple[float, float, str]]) -> None:
    """Print the gaps between beats: on the wall, and this thread's own processor time."""
    wall, own = (sorted(b[i] for b in beats) for i in (0, 1))
    blocked, late = sum(x > BLOCKED_MS for x in wall), wall[int(0.99 * (len(wall) - 1))]
    print(
        f"{what:<40} median {statistics.median(wall):.0f} ms, 99th {late:.0f}, "
        f"worst {wall[-1]:.0f}; over {BLOCKED_MS} ms: {blocked} of {len(wall)}; "
        f"own time at most {own[-1]:.0f} ms"
    )


def main() -> None:
    """Measure and print."""
    from napari_ood.models import load_bundle
    from napari_ood.samples import synthetic_slide
    from napari_ood.slides import open_slide

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slide", type=Path, help="the demo's by default")
    parser.add_argument("--bundle", default="synthetic-he")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--side", type=float, default=1000.0, help="of the square, in µm")
    parser.add_argument("--window", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0, help="in the window, at most")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    with open_slide(arguments.slide or synthetic_slide()) as slide:
        if arguments.window:
            watch(slide, bundle, arguments.seconds)
        else:
            measure(slide, bundle, arguments.side, arguments.device)


if __name__ == "__main__":
    main()
