"""How much of the window's thread is taken at once: counted, or compared with napari alone."""

from __future__ import annotations

import contextlib
import gc
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Vectors

from napari_ood import Bundle, Slide
from napari_ood.samples import Truth, write_synthetic_slide
from napari_ood.viewer.bridge import Bridge, bridge_of
from napari_ood.viewer.garbage import Garbage
from napari_ood.viewer.layers import (
    PAINT_TOOLS,
    class_colormap,
    make_layer,
    slide_layer_data,
    truth_layer_data,
)
from napari_ood.viewer.session import Session
from napari_ood.viewer.steps import Steps
from pace import best

from .conftest import needs_display
from .test_window import choose, click, open_dock, settled

WAIT_MS = 30_000
MORE_THAN_NAPARI = 2.0
"""Factor over the slowest single layer of plain napari, both in CPU time of the same thread."""


def test_without_a_window_steps_are_done_at_once() -> None:
    done: list[str] = []
    steps = Steps(in_window=False)

    def first() -> None:
        steps.add(lambda: done.append("second"))
        done.append("first")

    steps.add(first)
    assert sorted(done) == ["first", "second"] and not steps.pending


def test_truth_and_overlays_go_with_their_slide(
    slide: Slide, finished: Callable[[Bridge], None]
) -> None:
    viewer = ViewerModel()
    viewer.add_layer(make_layer(slide_layer_data(slide)))
    planted = np.zeros((64, 96), np.uint8)
    truth = Truth(planted, planted, 5.0, 10.0, {1: "ink"}, {1: "tissue"})
    viewer.add_layer(make_layer(truth_layer_data(truth, slide)))
    own = viewer.add_image(np.zeros((4, 4)))
    finished(bridge_of(viewer))
    viewer.layers.remove(viewer.layers[0])
    assert list(viewer.layers) == [own], "and nothing but what is the user's own stays"


def test_what_paints_on_labels_is_there_for_those_who_may_paint() -> None:
    planted = np.zeros((8, 8), np.uint8)
    colormap = class_colormap(("#ff0000",))
    layer = make_layer((planted, {"colormap": colormap}, "labels"))
    tools = [layer._overlays[name] for name in PAINT_TOOLS]
    layer.editable = False
    assert not any(tool.visible for tool in tools)
    layer.editable = True
    assert all(tool.visible for tool in tools)


@pytest.fixture
def bundles(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_OOD_BUNDLES", str(tiny_bundle.path.parent))


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any], bundles: None) -> Iterator[Any]:
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1280, 800)
    yield viewer


WITHOUT = 1.5
"""The same for turns in which no layer comes or goes."""


class Most(NamedTuple):
    """Seconds of the longest turn in which a layer came or went, and of the longest other one."""

    with_layer: float
    without: float
    n_layers: int


class Turns:
    """Notes each turn of the event loop: its CPU time, and the layers that came and went in it."""

    def __init__(self, viewer: Any, interval_ms: int = 0) -> None:
        from qtpy.QtCore import QTimer

        self.seconds: list[float] = []
        self.layers: Counter[int] = Counter()
        self._last = time.thread_time()
        self._timer = QTimer()
        self._timer.timeout.connect(self._turn)
        self._timer.start(interval_ms)
        viewer.layers.events.inserted.connect(self._note)
        viewer.layers.events.removed.connect(self._note)

    def _turn(self) -> None:
        now = time.thread_time()
        self.seconds.append(now - self._last)
        self._last = now

    def _note(self) -> None:
        self.layers[len(self.seconds)] += 1

    def since(self) -> Most:
        """The longest turns since the last call."""
        self._turn()
        turns = list(enumerate(self.seconds))
        most = Most(
            with_layer=max((s for i, s in turns if self.layers[i]), default=0.0),
            without=max((s for i, s in turns if not self.layers[i]), default=0.0),
            n_layers=max(self.layers.values(), default=0),
        )
        self.seconds.clear()
        self.layers.clear()
        return most

    def stop(self) -> None:
        self._timer.stop()


def slowest_layer(viewer: Any, turns: Turns, qtbot: Any) -> float:
    """CPU seconds that napari takes for one layer of a kind, the slowest of those in use.

    Of three of each kind the fastest counts: the first one loads and compiles.
    """
    square: Any = np.zeros((8, 8), np.uint8)
    took = []
    for make in (
        lambda: Image(square, contrast_limits=(0, 1)),
        lambda: Labels(square, features={"class": ["a"]}),
        lambda: Vectors(np.zeros((1, 2, 2))),
    ):
        seconds = []
        for _ in range(3):
            qtbot.wait(50)
            turns.since()
            viewer.add_layer(make())
            qtbot.wait(50)
            seconds.append(turns.since().with_layer)
        took.append(min(seconds))
    viewer.layers.clear()
    qtbot.wait(50)
    return max(took)


@needs_display
@pytest.mark.slow
def test_a_run_never_takes_the_window_for_longer_than_one_layer_takes_napari(
    make_napari_viewer: Callable[..., Any],
    bundles: None,
    slide_path: Path,
    tmp_path: Path,
    qtbot: Any,
) -> None:
    """From the click to the last overlay; then its slide goes, and the stored run is opened."""

    def shares() -> dict[str, float]:
        viewer = make_napari_viewer(show=True, strict_qt="raise")
        viewer.window.resize(1280, 800)
        turns = Turns(viewer)
        one = slowest_layer(viewer, turns, qtbot)
        bridge_of(viewer).session.set_folder(Path(mkdtemp(dir=tmp_path)))
        found = {}
        for precision, most in run_twice(viewer, slide_path, turns, qtbot):
            found[f"{precision}, with a layer"] = most.with_layer / (MORE_THAN_NAPARI * one)
            found[f"{precision}, without"] = most.without / (WITHOUT * one)
        turns.stop()
        viewer.close()
        return found

    took = best(shares, bound=1.0, pace=lambda: 1.0)
    assert max(took.values()) < 1.0, took


def run_twice(
    viewer: Any, slide_path: Path, turns: Turns, qtbot: Any
) -> Iterator[tuple[str, Most]]:
    """A run into new layers, then one into those of the run before; both go, and one is opened."""
    dock = open_dock(viewer)
    viewer.open(slide_path, plugin="napari-ood")
    choose(dock.bundle.combo, "tiny")
    bridge = dock.bridge
    bridge.warm()
    qtbot.wait(100)
    for precision in ("fp32", "bf16"):
        bridge.session.set_precision(precision)
        qtbot.wait(100)
        turns.since()
        click(dock.run.run_button)
        settled(qtbot, bridge)
        qtbot.wait(100)
        most = turns.since()
        assert len(viewer.layers) == 6
        maps = bridge.session.state.maps
        assert maps.how.precision == precision
        for overlay, layer in zip(maps.overlays, viewer.layers[1:-1], strict=True):
            assert layer.data is maps.array(overlay), "hidden layers follow as well"
        assert most.n_layers == (1 if precision == "fp32" else 0)
        yield precision, most
    path = bridge.session.state.maps.path
    viewer.layers.remove(viewer.layers[0])
    settled(qtbot, bridge)
    assert not viewer.layers
    assert turns.since().n_layers == 1
    viewer.open(path, plugin="napari-ood")
    assert bridge.session.state.maps.path == path, "the run is known before its layers come"
    settled(qtbot, bridge)
    assert len(viewer.layers) == 6
    assert [x.visible for x in viewer.layers] == [True, False, False, False, True, True]
    assert turns.since().n_layers == 1


@needs_display
def test_what_a_step_changes_is_painted_in_a_turn_of_its_own(viewer: Any, qtbot: Any) -> None:
    """And painted it is, whatever the step does; also where nothing else is due."""
    dock = open_dock(viewer)
    steps, canvas = dock.bridge.steps, viewer.window._qt_viewer.canvas
    qtbot.waitUntil(lambda: steps.canvas is not None, timeout=WAIT_MS)
    frames: list[object] = []
    canvas._scene_canvas.events.draw.connect(frames.append)

    def draws() -> bool:
        """Whether a frame that is asked for at once comes at once."""
        before = len(frames)
        canvas.native.repaint()
        return len(frames) > before

    def follows() -> bool:
        """Whether a frame comes by itself."""
        before = len(frames)
        with contextlib.suppress(qtbot.TimeoutError):
            qtbot.waitUntil(lambda: len(frames) > before, timeout=WAIT_MS)
        return len(frames) > before

    drawn: list[bool] = []

    def step() -> None:
        drawn.append(draws())

    def bad() -> None:
        step()
        raise ValueError("of a step")

    qtbot.wait(200)
    assert draws()
    steps.add(step)
    steps.add(step)
    assert follows()
    qtbot.waitUntil(lambda: not steps.pending, timeout=WAIT_MS)
    assert drawn == [False, False]
    steps.add(bad)
    with pytest.raises(ValueError, match="of a step"):
        steps._next()
    assert follows()
    qtbot.waitUntil(lambda: not steps.pending, timeout=WAIT_MS)
    assert drawn == [False] * 3
    for end in (steps.finish, lambda: viewer.window.resize(1200, 750), steps.drop):
        qtbot.wait(200)
        steps.paint_apart()
        assert not draws()
        end()
        assert follows()


@needs_display
def test_pictures_of_the_window_show_what_was_just_added(viewer: Any, qtbot: Any) -> None:
    dock = open_dock(viewer)
    qtbot.waitUntil(lambda: dock.bridge.steps.canvas is not None, timeout=WAIT_MS)
    viewer.add_image(np.full((100, 100), 255, np.uint8), contrast_limits=(0, 255))
    assert dock.bridge.steps.pending, "it will be painted"
    picture = viewer.window.screenshot(canvas_only=False, flash=False)
    native = viewer.window._qt_viewer.canvas.native
    middle = native.mapTo(viewer.window._qt_window, native.rect().center())
    ratio = picture.shape[1] / viewer.window._qt_window.width()
    y, x = round(middle.y() * ratio), round(middle.x() * ratio)
    assert (picture[y, x, :3] == 255).all()


STALL_S = 0.1
"""What no run may take of the window's thread at once: the bound of the task, not a measurement."""
BEAT_MS = 5


@needs_display
def test_a_run_never_stops_the_window_for_100_ms(
    make_napari_viewer: Callable[..., Any], tmp_path: Path, qtbot: Any
) -> None:
    """A shipped network on a slide of 4 megapixels, from the click to the last overlay.

    In CPU time of the window's thread, the best of a few runs, each in a window of its own.
    """
    path = write_synthetic_slide(tmp_path / "slide.ome.tif", size=2048, seed=5)

    def longest_turn() -> dict[str, float]:
        viewer = make_napari_viewer(show=True, strict_qt="raise")
        viewer.window.resize(1560, 960)
        dock = open_dock(viewer)
        session = dock.bridge.session
        viewer.open(path, plugin="napari-ood")
        session.choose_bundle("synthetic-he")
        session.set_folder(Path(mkdtemp(dir=tmp_path)))
        qtbot.wait(500)
        turns = Turns(viewer, BEAT_MS)
        click(dock.run.run_button)
        settled(qtbot, dock.bridge)
        qtbot.wait(100)
        longest = turns.since()
        turns.stop()
        assert session.state.outcome.startswith("Done"), session.state.outcome
        assert len(viewer.layers) == 6
        viewer.close()
        return {"a turn": max(longest.with_layer, longest.without)}

    took = best(longest_turn, STALL_S)
    assert max(took.values()) < STALL_S, took


@needs_display
def test_what_is_frozen_is_freed_in_a_pause_and_thawed_with_the_window(
    viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((64, 64), np.uint8)
    monkeypatch.setattr("napari_ood.viewer.garbage.WORTH_BYTES", pixels.nbytes)
    layer = viewer.add_image(pixels)
    before = len(gc.get_objects())
    open_dock(viewer)
    qtbot.wait(50)
    assert gc.get_freeze_count() > before / 2
    assert len(gc.get_objects()) < before / 2, "little is left to be looked at"
    garbage = viewer.window._qt_window.findChild(Garbage)
    garbage._timer.setInterval(3_600_000)  # it looks when the test does
    gone = weakref.ref(layer)
    viewer.layers.remove(layer)
    del layer
    qtbot.wait(50)
    gc.collect()
    assert gone() is not None, "a frozen cycle is not found"
    garbage._look()
    assert gone() is not None, "the mouse may still be moving"
    with monkeypatch.context() as during_a_run:
        during_a_run.setattr(Session, "busy", True)
        garbage._look()
        assert gone() is not None, "a run must not be stopped"
    with monkeypatch.context() as usually:
        usually.setattr("napari_ood.viewer.garbage.WORTH_BYTES", pixels.nbytes + 1)
        garbage._look()
        assert gone() is not None, "for so little the window is not stopped"
    garbage._look()
    assert gone() is None
    assert gc.get_freeze_count() > before / 2
    steps, done = bridge_of(viewer).steps, []
    steps.add(lambda: done.append("late"))
    viewer.close()
    assert gc.get_freeze_count() == 0
    qtbot.wait(50)
    assert not done and not steps.pending, "nothing is done to a window that is closed"
