"""How long a moved threshold takes until it is on the screen, at a million tiles, in a real window.

Run it under a display (``xvfb-run -a python benchmarks/threshold_repaint.py``). It writes a run of
synthetic logits and features into a temporary folder, opens it with the docks, and moves the
threshold of the OOD map as the mouse does, one move after the other. Printed are, per move, what
happens at once (masks, lines, and eight times per second words) and the time until the canvas has
been painted, both as time on the wall and as processor time of this process; and a frame in which
nothing has changed: under software OpenGL that is nearly all of it, as Qt puts the whole window
together anew for each frame. No network is run; torch is not even loaded.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_ood.models import Bundle

TARGET_MS = 50.0
BUNDLE = "synthetic-he"
SCORES = {"uncertainty": "entropy", "ood": "energy"}
"""Of logits alone: what a threshold costs does not depend on what its score was made of."""
SHARD = (64, 64)
MPP = 0.5


def bundle_of_logits() -> Bundle:
    """The bundle with an OOD score that needs no features: a million tiles' are a gigabyte."""
    from dataclasses import replace

    from napari_ood.models import load_bundle

    bundle = load_bundle(BUNDLE)
    bundle.card = replace(bundle.card, scores=SCORES)
    return bundle


def write_run(path: Path, bundle: Bundle, side: int) -> None:
    """A stored run of side x side tiles: logits of held-out tiles, blended so that all differ."""
    from napari_ood.inference.plan import Plan
    from napari_ood.inference.store import RunWriter, shards
    from napari_ood.slides.grid import TileGrid

    card, rng = bundle.card, np.random.default_rng(0)
    known = bundle.require_reference().validation_logits
    pitch = round(card.tile_size * (card.mpp or MPP) / MPP)
    size = (side * pitch, side * pitch)
    step = ((card.mpp or MPP) / MPP,) * 2
    plan = Plan(TileGrid.over(size, card.tile_size, step), np.ones((side, side), bool), SHARD)
    record = {
        "identity": {},
        "slide": {"name": "noise", "path": "noise.tif", "mpp": [MPP, MPP], "fingerprint": "0"},
        "bundle": {
            "name": bundle.name,
            "path": str(bundle.path),
            "hashes": dict(bundle.hashes),
            "card": card.to_config(),
        },
        "sessions": [],
    }
    writer = RunWriter.create(path, plan, card.n_heads, len(card.classes), 1, record)
    for shard in shards((side, side), SHARD):
        index = shard.origin + np.argwhere(np.ones(shard.shape, bool))
        pairs = known[rng.integers(0, len(known), (2, len(index)))]
        share = rng.random((len(index), 1, 1), np.float32)
        logits = pairs[0] * share + pairs[1] * (1 - share)
        writer.write(shard, index, logits, np.zeros((len(index), 1), np.float32))


def measure(folder: Path, side: int, n_moves: int) -> dict[str, list[float]]:
    """Milliseconds per move: what happens at once, until painted, and what painting alone takes."""
    from napari_ood.inference import Run
    from napari_ood.scores.thresholds import value_threshold
    from napari_ood.viewer.app import new_window, settle
    from napari_ood.viewer.bridge import bridge_of
    from napari_ood.viewer.layers import make_layer, overlay_layer_data
    from napari_ood.viewer.maps import Maps, Overlay

    bundle, path = bundle_of_logits(), folder / "noise.ood.zarr"
    write_run(path, bundle, side)
    window = new_window()
    dock_window, dock = window.window.add_plugin_dock_widget(
        "napari-ood", "OOD thresholds", tabify=True
    )
    dock_window.raise_()
    began = time.perf_counter()
    maps = Maps.of_run(Run(path, bundle), bundle)
    print(f"scored in {time.perf_counter() - began:.1f} s")
    for data in overlay_layer_data(maps, None, "noise"):
        window.add_layer(make_layer(data))
    window.fit_to_view()
    session = bridge_of(window).session
    began = time.perf_counter()
    while session.state.studying:
        settle(20)
    print(f"figures after {time.perf_counter() - began:.1f} s, in a thread")
    figure = session.state.figures[Overlay.OOD]
    values = np.linspace(figure.low, figure.high, n_moves + 2)[1:-1]
    frames = Frames(window)
    settle(500)
    times: dict[str, list[float]] = {name: [] for name in ROWS}
    for value in values:
        moved = value_threshold(figure.score, float(value))
        clock = Clock()
        session.set_threshold(Overlay.OOD, moved)
        clock.read(times, "at once")
        frames.wait()
        clock.read(times, "until painted")
    settle(500)  # the words of the last move
    for _ in values:
        clock = Clock()
        frames.ask()
        frames.wait()
        clock.read(times, "idle repaint")
    assert dock.cards[Overlay.OOD].summary.text()
    print(f"OpenGL: {frames.renderer}; {frames.sizes(window)}")
    window.close()
    return times


ROWS = ("at once", "at once, CPU", "until painted", "until painted, CPU", "idle repaint",
        "idle repaint, CPU")  # fmt: skip
"""At once: masks, counts, labels. Until painted: that and a frame. Idle repaint: a frame alone."""


class Clock:
    """Milliseconds since it was made, on the wall and of this process: others use the machine."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self, times: dict[str, list[float]], name: str) -> None:
        """Note the time so far."""
        times[name].append(1000 * (time.perf_counter() - self._wall))
        times[f"{name}, CPU"].append(1000 * (time.process_time() - self._cpu))


class Frames:
    """Counts the frames of napari's canvas."""

    def __init__(self, window: Any) -> None:
        from qtpy.QtWidgets import QApplication
        from vispy import gloo

        self._app = QApplication.instance()
        self._scene = window.window._qt_viewer.canvas._scene_canvas
        self._n, self._seen = 0, 0
        self._scene.set_current()
        self.renderer = gloo.gl.glGetParameter(gloo.gl.GL_RENDERER)
        self._scene.events.draw.connect(self._count)

    def _count(self, event: Any) -> None:
        self._n += 1

    def sizes(self, window: Any) -> str:
        """What is painted: software OpenGL takes time for every pixel of the whole window."""
        whole = window.window.geometry()
        return "canvas {} x {} px in a window of {} x {} px".format(*self._scene.size, *whole[2:])

    def ask(self) -> None:
        """Have a frame drawn though nothing has changed."""
        self._scene.update()

    def wait(self) -> None:
        """Process events until a frame has been drawn and nothing else is due."""
        while self._n == self._seen:
            self._app.processEvents()
        self._app.processEvents()
        self._seen = self._n


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=1_000_000)
    parser.add_argument("--moves", type=int, default=60)
    arguments = parser.parse_args()
    side = int(np.ceil(arguments.tiles**0.5))
    with tempfile.TemporaryDirectory() as folder:
        times = measure(Path(folder), side, arguments.moves)
    print(f"{side * side:,} tiles, {arguments.moves} moves (ms: median, 95th percentile, worst)")
    for what, values in times.items():
        ordered = sorted(values)
        p95 = ordered[int(0.95 * (len(ordered) - 1))]
        print(f"  {what:<42} {statistics.median(values):7.1f} {p95:7.1f} {ordered[-1]:7.1f}")
    print(f"  torch loaded: {'torch' in sys.modules}")
    total, idle = (statistics.median(times[name]) for name in ("until painted", "idle repaint"))
    verdict = "met" if total < TARGET_MS else "missed"
    print(
        f"median {total:.1f} ms, target {TARGET_MS:.0f} ms: {verdict}. A frame alone {idle:.1f} "
        f"ms, ours {total - idle:.1f} ms: {total / idle:.2f} frames"
    )


if __name__ == "__main__":
    main()
