"""How long the window's event loop stops for what a user does, and what the window costs a run.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/gui_stalls.py [--rounds 3]
        [--save FILE.json] [--before FILE.json] [--skip-throughput | --only-throughput]
        [--side PX]

A real window is driven with mouse and keys, within its event loop, by modules that are compiled,
as installed ones are. A timer that wants to fire every 5 ms notes when it did: the longest time
between two beats is the stall, in wall time, and in CPU time of the window's own thread, which
other programs on the machine hardly lengthen. Painting is part of it. Rows marked *napari alone*
do the like with plain napari and layers of the same kind in a process without this plugin: what no
plugin can be below of. ``--skip-throughput`` takes two minutes a round on two idle cores.

Then a larger slide is run with and without a window, in turn, each time in a process of its own and
in fp32, with a small network and then with a usual one: tiles per second, and processor ms per tile
of the whole process, Mesa's threads included, which other programs on the machine hardly lengthen.
The last line is the usual network's ratio of tiles per second, the median over rounds.
``--only-throughput`` takes five minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from compileall import compile_dir
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

BEAT_MS = 5
STALL_MS = 100.0
QUIET_S = 0.6
"""After an action is over: what it leaves to be done later belongs to it."""
PATIENCE_S = 240.0
PRECISION = "NAPARI_OOD_PRECISION"
BUNDLE, SIZE, SEED = "synthetic-he", 6144, 5
SMALL_SIDE, SIDE = 3000, 20_000
"""px of the slides that are run for the throughput: the first one loads torch. Real slides have
more tissue than the second one: start and end of a run weigh less there."""
REAL = "lymph-node-he"
"""A network of usual size; BUNDLE's is a small one."""
LOOK_MS = 100
Gap = tuple[float, float]
"""ms of wall time, ms of CPU time."""
Rate = tuple[float, float]
"""Tiles per second of the engine, processor ms per tile of the process from start to end."""


class Heart:
    """Beats in the window's event loop and notes each gap between two beats."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.gaps: list[Gap] = []
        self._last = (0.0, 0.0)
        self._timer = QTimer()
        self._timer.timeout.connect(self._beat)
        self._timer.start(BEAT_MS)

    def _beat(self) -> None:
        now = (time.perf_counter(), time.thread_time())
        self.gaps.append((1e3 * (now[0] - self._last[0]), 1e3 * (now[1] - self._last[1])))
        self._last = now

    def rest(self) -> None:
        """Forget what was noted."""
        self.gaps.clear()
        self._last = (time.perf_counter(), time.thread_time())


class Driver:
    """Does things in a window, and measures the longest gap of each."""

    def __init__(self) -> None:
        self.heart = Heart()
        self.found: dict[str, Gap] = {}

    def wait(self, done: Callable[[], bool] = lambda: True, quiet: float = QUIET_S) -> None:
        """Let the window live until something is so, and for a moment more."""
        from qtpy.QtTest import QTest

        end = time.monotonic() + PATIENCE_S
        while not done():
            if time.monotonic() > end:
                raise TimeoutError("the window did not come to an end")
            QTest.qWait(10)
        QTest.qWait(round(1e3 * quiet))

    @contextmanager
    def action(self, name: str, done: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Measure what happens within, until it is done; of several of a name the worst counts."""
        self.wait()
        self.heart.rest()
        yield
        self.wait(done)
        wall = max(gap[0] for gap in self.heart.gaps)
        own = max(gap[1] for gap in self.heart.gaps)
        before = self.found.get(name, (0.0, 0.0))
        self.found[name] = (max(wall, before[0]), max(own, before[1]))


# ------------------------------------------------------------------------- mouse and keys


def click(button: Any) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QScrollArea

    area = button.parent()
    while area is not None and not isinstance(area, QScrollArea):
        area = area.parent()
    QTest.qWait(50)  # what is about to move would be missed
    if area is not None:
        area.ensureWidgetVisible(button)
        QTest.qWait(50)
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def canvas(viewer: Any) -> Any:
    return viewer.window._qt_viewer.canvas.native


def click_canvas(viewer: Any, y: float, x: float) -> None:
    """A click on a world point."""
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    camera, native = viewer.scene.camera, canvas(viewer)
    dy, dx = (np.array([y, x]) - camera.center[-2:]) * camera.zoom
    at = QPoint(round(native.width() / 2 + dx), round(native.height() / 2 + dy))
    QTest.mouseMove(native, at)
    QTest.mouseClick(native, Qt.MouseButton.LeftButton, pos=at)


def press_key(viewer: Any, name: str) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    QTest.keyClick(canvas(viewer), getattr(Qt.Key, f"Key_{name}"))


def delete_selected(viewer: Any, layer: Any) -> None:
    """Select a layer and press the list's own button for removing it."""
    viewer.layers.selection.active = layer
    click(viewer.window._qt_viewer.layerButtons.deleteButton)


def window() -> Any:
    import napari

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1560, 960)
    viewer.window._qt_window.activateWindow()
    return viewer


# ------------------------------------------------------------------------- what a user does


def use_plugin(slide: Path, run: Path) -> dict[str, Gap]:
    viewer, drive = window(), Driver()
    drive.wait(quiet=2.0)
    with drive.action("nothing (idle)"):
        drive.wait(quiet=2.0)
    dock = open_and_run(viewer, drive, slide)
    inspect(viewer, drive)
    map_slide(viewer, drive)
    take_away(viewer, drive, dock)
    with drive.action("open a stored run", lambda: _calm(viewer)):
        viewer.open(run, plugin="napari-ood")
    with drive.action("remove its slide", lambda: _calm(viewer)):
        delete_selected(viewer, viewer.layers[0])
    viewer.close()
    return drive.found


def open_and_run(viewer: Any, drive: Driver, slide: Path) -> Any:
    with drive.action("open the dock OOD"):
        dock = viewer.window.add_plugin_dock_widget("napari-ood", "OOD")[1]
    with drive.action("open a slide"):
        viewer.open(slide, plugin="napari-ood")
    session = dock.bridge.session
    session.choose_bundle(BUNDLE)
    with drive.action("a run, from click to end", lambda: not session.busy and _calm(viewer)):
        click(dock.run.run_button)
    with drive.action("show another overlay"):
        click(dock.results.overlay.button(session.state.maps.overlays[0]))
    return dock


def inspect(viewer: Any, drive: Driver) -> None:
    from napari_ood.viewer.geometry import map_placement
    from napari_ood.viewer.inspector_state import Tab

    with drive.action("open the inspector"):
        dock = viewer.window.add_plugin_dock_widget("napari-ood", "OOD inspector")[1]
    inspector, maps = dock.inspector, dock.bridge.session.state.maps
    rows, cols = np.nonzero(maps.prediction)
    order = np.random.default_rng(0).permutation(len(rows))[:8]
    place = map_placement(maps.grid, maps.mpp)
    cells = np.stack([rows, cols], axis=1)[order]
    places = cells * np.array(place.scale) + np.array(place.translate)

    def idle() -> bool:
        return not inspector.working

    with drive.action("first click on a tile", idle):
        click_canvas(viewer, *places[0])
    assert inspector.state.cell is not None, "the click missed"
    for place in places[1:4]:
        with drive.action("more clicks on tiles", idle):
            click_canvas(viewer, *place)
    with drive.action("first saliency map", idle):
        click(dock.tabs.button(Tab.SALIENCY))
    for place in places[4:]:
        with drive.action("clicks with saliency", idle):
            click_canvas(viewer, *place)
    for key in ("Right", "Down", "Left"):
        with drive.action("arrow keys with saliency", idle):
            press_key(viewer, key)


def map_slide(viewer: Any, drive: Driver) -> None:
    from napari_ood.viewer.bridge import bridge_of
    from napari_ood.viewer.mosaic_layer import mosaic_layer_of
    from napari_ood.viewer.state import Scope

    layer = mosaic_layer_of(bridge_of(viewer))
    panel = _widget(viewer, "FineMapPanel")
    layer.fine.wish(scope=Scope.SLIDE)
    with drive.action("slide-wide map", lambda: layer.layer is not None and _calm(viewer)):
        click(panel.start)
    with drive.action("it fills, for 5 s"):
        drive.wait(quiet=5.0)
    if panel.stop.isEnabled():
        click(panel.stop)
    drive.wait(lambda: not layer.fine.state.running)
    viewer.scene.camera.zoom *= 3
    with drive.action("zoom and pan over it"):
        for step in (1, -1, 1, -1):
            camera = viewer.scene.camera
            camera.zoom *= 1.3**step
            drive.wait(quiet=0.1)
    viewer.fit_to_view()


def take_away(viewer: Any, drive: Driver, dock: Any) -> None:
    with drive.action("close the inspector"):
        _close(viewer, "Inspector")
    overlays = [x for x in viewer.layers if x.name.startswith("Grad-CAM")]
    with drive.action("remove one layer"):
        delete_selected(viewer, overlays[0])
    with drive.action("remove the slide", lambda: _calm(viewer)):
        delete_selected(viewer, viewer.layers[0])
    with drive.action("leave the mouse alone for 12 s"):
        drive.wait(quiet=12.0)
    for layer in list(viewer.layers):  # what an older version left behind
        viewer.layers.remove(layer)


def _calm(viewer: Any) -> bool:
    """Whether all layers that were to come or go have done so."""
    from napari_ood.viewer.bridge import bridge_of

    steps = getattr(bridge_of(viewer), "steps", None)  # an older version has none
    return steps is None or not steps.pending


def _widget(viewer: Any, kind: str) -> Any:
    from qtpy.QtWidgets import QWidget

    for widget in viewer.window._qt_window.findChildren(QWidget):
        if type(widget).__name__ == kind:
            return widget
    raise LookupError(kind)


def _close(viewer: Any, title: str) -> None:
    """Press the cross of a dock."""
    from qtpy.QtWidgets import QDockWidget

    docks = viewer.window._qt_window.findChildren(QDockWidget)
    dock = next(d for d in docks if title in d.windowTitle() and d.isVisible())
    click(dock.titleBarWidget().close_button)


# ------------------------------------------------------------------------- napari alone


def use_napari(slide: Path) -> dict[str, Gap]:
    """The like of each action with layers of the same kind, without this plugin."""
    from napari.layers import Image, Labels, Vectors
    from qtpy.QtWidgets import QLabel

    viewer, drive = window(), Driver()
    drive.wait(quiet=2.0)
    rng = np.random.default_rng(0)
    with drive.action("a dock with one label"):
        viewer.window.add_dock_widget(QLabel("one"), name="one")
    levels = [np.full((SIZE >> i, SIZE >> i, 3), 200, np.uint8) for i in range(3)]
    placed: dict[str, Any] = {"scale": (0.5, 0.5), "units": ("um", "um")}
    with drive.action("first layer, RGB pyramid"):
        viewer.add_layer(Image(levels, rgb=True, multiscale=True, **placed))
    values = rng.random((64, 64), np.float32)
    for name in ("second layer, image", "another image"):
        with drive.action(name):
            viewer.add_layer(Image(values, contrast_limits=(0, 1), **placed))
    classes = rng.integers(0, 4, (64, 64)).astype(np.uint16)
    with drive.action("first labels"):
        viewer.add_layer(Labels(classes, features={"class": ["a", "b", "c", "d"]}, **placed))
    lines = rng.random((8, 2, 2))
    with drive.action("first vectors"):
        viewer.add_layer(Vectors(lines, **placed))
    with drive.action("hide and show an image"):
        viewer.layers[1].visible = False
        drive.wait(quiet=0.1)
        viewer.layers[1].visible = True
    with drive.action("remove an image"):
        delete_selected(viewer, viewer.layers[1])
    with drive.action("six images at once"):
        for _ in range(6):
            viewer.add_layer(Image(values, contrast_limits=(0, 1), **placed))
    with drive.action("zoom and pan over it"):
        for step in (1, -1, 1, -1):
            viewer.scene.camera.zoom *= 1.3**step
            drive.wait(quiet=0.1)
    with drive.action("full garbage collection"):
        gc.collect()
    viewer.close()
    return drive.found


# ------------------------------------------------------------------------- throughput


def throughput(small: Path, slide: Path, bundle: Path, with_window: bool) -> Rate:
    """Speed of a run, after one of a small slide in the process: it loads torch.

    Headless and windowed runs are of one precision, which neither measures.
    """
    os.environ[PRECISION] = "fp32"
    runs = _windowed_runs if with_window else _headless_runs
    with tempfile.TemporaryDirectory() as folder:
        run, processor_s = runs((small, slide), bundle.name, Path(folder))[-1]
        n, seconds = len(run.index), run.provenance["sessions"][-1]["seconds"]
        return float(n / seconds), 1e3 * processor_s / n


def _headless_runs(slides: tuple[Path, ...], bundle: str, folder: Path) -> list[tuple[Any, float]]:
    """Each run, and processor seconds from its start to its end."""
    from napari_ood import load_bundle, open_slide, run_slide

    loaded, runs = load_bundle(bundle), []
    for path in slides:
        with open_slide(path) as slide:
            start = time.process_time()
            run = run_slide(slide, loaded, folder / f"{path.stem}.ood.zarr")
            runs.append((run, time.process_time() - start))
    return runs


def _windowed_runs(slides: tuple[Path, ...], bundle: str, folder: Path) -> list[tuple[Any, float]]:
    """The same, from the click until the result is shown and all of its layers are there."""
    from napari_ood import open_run

    viewer = window()
    dock = viewer.window.add_plugin_dock_widget("napari-ood", "OOD")[1]
    session = dock.bridge.session
    session.choose_bundle(bundle)
    session.set_folder(folder)
    runs = []
    for path in slides:
        viewer.open(path, plugin="napari-ood")
        live(1.0)
        start = time.process_time()
        click(dock.run.run_button)
        live(until=lambda: not session.busy and _calm(viewer))
        processor_s = time.process_time() - start
        runs.append((open_run(session.state.maps.path), processor_s))
        delete_selected(viewer, viewer.layers[0])
        live(until=lambda: _calm(viewer))
    viewer.close()
    return runs


def live(seconds: float = 0.0, until: Callable[[], bool] = lambda: True) -> None:
    """Let the window live as it does for a user: waiting costs nothing, unlike ``QTest.qWait``."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, timer = QEventLoop(), QTimer()
    timer.timeout.connect(lambda: loop.quit() if until() else None)
    end = time.monotonic() + PATIENCE_S
    QTimer.singleShot(round(1e3 * seconds), lambda: timer.start(LOOK_MS))
    QTimer.singleShot(round(1e3 * (seconds + PATIENCE_S)), loop.quit)
    loop.exec()
    timer.stop()
    if time.monotonic() > end:
        raise TimeoutError("the window did not come to an end")


# ------------------------------------------------------------------------- the table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=SIDE, help="px of the slide for the throughput")
    parser.add_argument("--save", type=Path, help="keep the measurement for --before")
    parser.add_argument("--before", type=Path, help="a measurement to print beside this one")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--skip-throughput", action="store_true")
    parts.add_argument("--only-throughput", action="store_true")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--paths", type=Path, nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        role = partial(ROLES[args.role], *args.paths)
        print(json.dumps(in_event_loop(role) if args.role in WITH_WINDOW else role()))
        return
    with tempfile.TemporaryDirectory() as folder:
        stalls = 0 if args.only_throughput else args.rounds
        rates = 0 if args.skip_throughput else args.rounds
        measured = {**measure_stalls(Path(folder), stalls), **measure_rates(args.side, rates)}
    if args.save:
        args.save.write_text(json.dumps(measured))
    before = json.loads(args.before.read_text()) if args.before else None
    report(measured, before)


def in_event_loop(work: Callable[[], Any]) -> Any:
    """What work gives that is done as napari's own is: while the event loop runs."""
    from concurrent.futures import Future

    from napari.qt import get_qapp
    from qtpy.QtCore import QEventLoop, QTimer

    app = get_qapp()  # kept: without it the window dies
    loop, done = QEventLoop(app), Future[Any]()

    def do() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again outside of the loop
            done.set_exception(error)
        loop.quit()

    QTimer.singleShot(0, do)
    loop.exec()
    return done.result()


def measure_stalls(folder: Path, rounds: int) -> dict[str, Any]:
    """Longest gaps of each action, per round."""
    if not rounds:
        return {"plugin": [], "alone": []}
    package = find_spec("napari_ood")
    assert package is not None and package.origin is not None
    compile_dir(Path(package.origin).parent, quiet=1)
    slide, stored = _slide(folder, SIZE), folder / "stored"
    stored.mkdir()
    run = Path(_child("store", slide, stored))
    plugin = [_child("plugin", slide, run) for _ in range(rounds)]
    return {"plugin": plugin, "alone": [_child("alone", slide) for _ in range(rounds)]}


def measure_rates(side: int, rounds: int) -> dict[str, Any]:
    """Speeds without and with a window, per bundle and round; and how busy it was."""
    from made_slides import made_slide

    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    rates: dict[str, list[tuple[Rate, Rate]]] = {BUNDLE: [], REAL: []}
    if rounds:
        slides = made_slide(SMALL_SIDE), made_slide(side)
        for name, found in rates.items():
            for round_ in range(rounds):
                roles = ("headless", "windowed")
                took = {
                    role: _child(role, *slides, Path(name))
                    for role in (roles if round_ % 2 == 0 else reversed(roles))
                }
                found.append((took["headless"], took["windowed"]))
    return {"rates": rates, "load": load, "cores": os.cpu_count()}


def _slide(folder: Path, size: int) -> Path:
    """A procedural slide, made when it is first asked for."""
    from napari_ood.samples import write_synthetic_slide

    path = folder / f"slide-{size}.ome.tif"
    if not path.exists():
        write_synthetic_slide(path, size=size, seed=SEED)
    return path


def _child(role: str, *paths: Path) -> Any:
    """What a process of its own measures."""
    command = [sys.executable, __file__, "--role", role, "--paths", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{role} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def store(slide: Path, folder: Path) -> str:
    from napari_ood import load_bundle, open_slide, run_slide

    with open_slide(slide) as opened:
        return str(run_slide(opened, load_bundle(BUNDLE), folder / "stored.ood.zarr").path)


ROLES: dict[str, Callable[..., Any]] = {
    "plugin": use_plugin,
    "alone": use_napari,
    "store": store,
    "headless": partial(throughput, with_window=False),
    "windowed": partial(throughput, with_window=True),
}


WITH_WINDOW = ("plugin", "alone")


def report(measured: dict[str, Any], before: dict[str, Any] | None) -> None:
    cores, load = measured["cores"], measured["load"]
    print(f"{cores} cores, load {load[0]:.1f}" if load else f"{cores} cores")
    if measured["plugin"]:
        print("Longest gap of the event loop, ms: median over rounds (and the worst round)\n")
    for part, title in (("plugin", "napari-ood"), ("alone", "napari alone")):
        if not measured[part]:
            continue
        earlier = before[part] if before else []
        heads = ["CPU before"] * bool(earlier) + ["CPU", "wall"]
        print(f"| {title} | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}")
        for action in measured[part][0]:
            cells = [_cell(earlier, action, 1)] * bool(earlier)
            cells += [_cell(measured[part], action, 1), _cell(measured[part], action, 0)]
            print(f"| {action} | {' | '.join(cells)} |")
        print()
    for name, rates in measured["rates"].items():
        if rates:
            _report_rates(name, rates)


def _report_rates(name: str, rates: list[tuple[Rate, Rate]]) -> None:
    """Medians; ratios are of the two runs of a round, and the last one is of their speeds."""
    print(f"| {name} | tiles/s | processor ms per tile |\n|---|---:|---:|")
    for i, title in enumerate(("headless", "in a window")):
        speed, cost = (median(rate[i][k] for rate in rates) for k in (0, 1))
        print(f"| {title} | {speed:.0f} | {cost:.2f} |")
    cost = median(h[1] / w[1] for h, w in rates)
    speeds = [w[0] / h[0] for h, w in rates]
    print(f"\nof processor time {cost:.2f}; of speeds {', '.join(f'{r:.2f}' for r in speeds)}")
    print(f"ratio {median(speeds):.2f}")


def _cell(rounds: list[dict[str, Gap]], action: str, which: int) -> str:
    values = [one[action][which] for one in rounds if action in one]
    if not values:
        return ""
    over = "**" if median(values) > STALL_MS and which else ""
    return f"{over}{median(values):.0f}{over} ({max(values):.0f})"


if __name__ == "__main__":
    main()
