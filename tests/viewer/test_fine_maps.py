"""Slide-wide maps: filled in a thread, shown where they belong, stopped, replaced, taken away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_ood import Bundle, Slide
from napari_ood.explain.mosaic import Mosaic
from napari_ood.explain.target import Target
from napari_ood.viewer.bridge import bridge_of
from napari_ood.viewer.fine_map_words import duration
from napari_ood.viewer.fine_maps import NO_BOX, NO_BUNDLE, NO_SLIDE, fine_kinds, fine_targets
from napari_ood.viewer.layers import make_layer, slide_layer_data, slide_of
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.mosaic_layer import MosaicLayer, mosaic_layer_of
from napari_ood.viewer.state import Scope

from .conftest import SHAPE, finish, needs_display


class Grey:
    """A map of tiles that anybody can check: their mean over colours. It can be held up."""

    name = title = "grey"
    unit, signed, limit = "grey values", False, 255.0

    def __init__(self) -> None:
        self.go, self.n_calls = threading.Event(), 0
        self.go.set()
        self.look: Callable[[], object] = lambda: None
        """Called before each patch, in the thread that fills the map."""

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        assert self.go.wait(60)
        self.look()
        self.n_calls += 1
        return tiles.astype(np.float32).mean(axis=3)


@pytest.fixture
def grey(monkeypatch: pytest.MonkeyPatch) -> Iterator[Grey]:
    """Maps are the tiles' grey values, without a network; levels are small, so there are some."""
    mapper = Grey()
    monkeypatch.setattr("napari_ood.viewer.fine_map_work._mapper", lambda made, explainer: mapper)
    monkeypatch.setattr("napari_ood.explain.mosaic.COARSEST_PX", 64)
    yield mapper
    mapper.go.set()


@pytest.fixture
def viewer(slide: Slide, tiny_bundle: Bundle) -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_layer(make_layer(slide_layer_data(slide)))
    bridge_of(viewer).session.use_bundle(tiny_bundle)
    return viewer


def tick_until(maps: MosaicLayer, done: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, maps.fine.state
        maps.tick()
        time.sleep(0.01)


def fill(maps: MosaicLayer, **wish: Any) -> None:
    maps.fine.wish(**wish)
    assert maps.start(), maps.fine.state.problem
    tick_until(maps, lambda: not maps.fine.state.running)


def test_each_cell_lies_on_the_pixels_it_was_made_from(
    viewer: ViewerModel, slide: Slide, grey: Grey
) -> None:
    maps = mosaic_layer_of(bridge_of(viewer))
    fill(maps, scope=Scope.SLIDE)
    layer, below = maps.layer, viewer.layers[0]
    assert layer is not None and layer.multiscale and len(layer.data) > 1
    assert layer.units == below.units
    values = layer.data[0]
    rows, cols = np.nonzero(np.isfinite(values))
    assert len(rows) > 0.8 * values.size
    pixels = slide.read(0, 0, 0, *SHAPE).astype(np.float32).mean(axis=2)
    rng = np.random.default_rng(0)
    for i in rng.choice(len(rows), 50):
        corners = [layer.data_to_world((rows[i] + d, cols[i] + d)) for d in (-0.5, 0.5)]
        low, high = (np.array(below.world_to_data(c)) + 0.5 for c in corners)
        np.testing.assert_allclose(low, np.round(low), atol=1e-6)
        (y, x), (bottom, right) = low.round().astype(int), high.round().astype(int)
        if y >= 0 and x >= 0 and bottom <= SHAPE[0] and right <= SHAPE[1]:
            part = pixels[y:bottom, x:right]
            # The bundle is coarser than the slide: its pixels are rounded means of these.
            assert values[rows[i], cols[i]] == pytest.approx(part.mean(), abs=0.5)


def test_a_stopped_map_goes_on_and_another_takes_its_layer(viewer: ViewerModel, grey: Grey) -> None:
    maps = mosaic_layer_of(bridge_of(viewer))
    grey.go.clear()
    maps.fine.wish(scope=Scope.SLIDE)
    assert maps.start()
    tick_until(maps, lambda: maps.layer is not None)
    maps.fine.stop()
    assert maps.fine.state.stopping and not maps.fine.state.running
    grey.go.set()
    tick_until(maps, lambda: not maps.fine.state.stopping)
    stopped, layer = maps.fine.state, maps.layer
    assert layer is not None and stopped.made is not None
    assert 0 < stopped.n_done < stopped.n_tiles
    fill(maps)
    assert maps.fine.state.made is stopped.made, "nothing was done twice"
    assert maps.fine.state.n_done == stopped.n_tiles
    fill(maps, target=Target.of_class(1))
    assert maps.fine.state.made is not stopped.made
    assert maps.layer is layer, "napari takes half a second to remove one"
    assert layer.data[0] is maps.fine.state.made.mosaic.levels[0]
    assert "green" in layer.name


def test_what_is_written_later_shows_in_every_level(viewer: ViewerModel, grey: Grey) -> None:
    """napari keeps the coarsest level for itself; it must not keep a copy."""
    maps = mosaic_layer_of(bridge_of(viewer))
    grey.go.clear()
    maps.fine.wish(scope=Scope.SLIDE)
    assert maps.start()
    tick_until(maps, lambda: maps.layer is not None)
    layer = maps.layer
    assert layer is not None
    layer.locked_data_level = len(layer.data) - 1
    middle = viewer.layers[0].extent.world.mean(axis=0)
    assert np.isnan(layer.get_value(middle, world=True)[1])
    dark = layer.thumbnail.copy()
    grey.go.set()
    tick_until(maps, lambda: not maps.fine.state.running)
    assert layer.get_value(middle, world=True)[1] > 0
    assert (layer.thumbnail != dark).any()


def test_a_removed_layer_or_slide_stops_the_work_and_the_overlay_comes_back(
    viewer: ViewerModel, grey: Grey
) -> None:
    bridge = bridge_of(viewer)
    maps = mosaic_layer_of(bridge)
    assert bridge.run()
    finish(bridge)
    assert bridge.session.state.overlay is Overlay.OOD
    for remove in ("layer", "slide"):
        grey.go.clear()
        assert maps.start() if remove == "slide" else maps.fine.start(None)
        assert bridge.session.state.overlay is None
        tick_until(maps, lambda: maps.layer is not None)
        slide_layer = next(x for x in viewer.layers if slide_of(x) is not None)
        viewer.layers.remove(maps.layer if remove == "layer" else slide_layer)
        assert maps.layer is None and maps.fine.state.made is None
        n_calls = grey.n_calls
        grey.go.set()
        tick_until(maps, lambda: not maps.fine.state.stopping)
        assert grey.n_calls <= n_calls + 1, "the patch that was begun, and no other"
        assert remove == "slide" or bridge.session.state.overlay is Overlay.OOD
        maps.fine.wish(scope=Scope.SLIDE)


def test_the_map_follows_the_camera(viewer: ViewerModel, grey: Grey) -> None:
    maps = mosaic_layer_of(bridge_of(viewer))
    grey.go.clear()
    maps.fine.wish(scope=Scope.SLIDE)
    assert maps.start()
    tick_until(maps, lambda: maps.layer is not None)
    viewer.scene.camera.zoom = 20
    viewer.scene.camera.center = (0, 0.95 * SHAPE[0] / 2, 0.95 * SHAPE[1] / 2)
    maps.tick()
    mosaic = maps.fine.state.made.mosaic  # type: ignore[union-attr]
    corner = mosaic.levels[0][-40:-10, -40:-10]
    n_when_there: list[int] = []
    grey.look = lambda: np.isfinite(corner).any() and n_when_there.append(mosaic.n_done)
    grey.go.set()
    tick_until(maps, lambda: not maps.fine.state.running)
    assert n_when_there[0] < maps.fine.state.n_tiles / 2


def test_what_stands_in_the_way_is_said(
    slide: Slide, tiny_bundle: Bundle, image_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = ViewerModel()
    bridge = bridge_of(viewer)
    maps = mosaic_layer_of(bridge)
    assert not maps.start() and maps.fine.state.problem == NO_SLIDE
    viewer.add_layer(make_layer(slide_layer_data(slide)))
    assert not maps.start() and maps.fine.state.problem == NO_BUNDLE
    bridge.session.use_bundle(image_bundle)
    assert not maps.start() and "as a whole" in maps.fine.state.problem
    bridge.session.use_bundle(tiny_bundle)
    maps.fine.wish(scope=Scope.SHAPE)
    assert not maps.start() and maps.fine.state.problem == NO_BOX
    maps.fine.wish(scope=Scope.SLIDE)
    monkeypatch.setattr("napari_ood.explain.mosaic.MOST_CELLS", 100)
    assert maps.start()
    tick_until(maps, lambda: not maps.fine.state.running)
    assert "smaller" in maps.fine.state.problem
    assert maps.layer is None


def test_what_is_offered_suits_the_bundle(tiny_bundle: Bundle, two_kinds_bundle: Bundle) -> None:
    assert [name for name, _ in fine_kinds(tiny_bundle)] == ["grad_cam", "layer_cam"]
    words = [w for w, _ in fine_targets(two_kinds_bundle.card, "layer_cam")]
    assert words[0] == "OOD score"
    assert set(words[3:]) == {"red", "green", "blue", "uncertainty"}
    assert fine_targets(tiny_bundle.card, "heatmap") == ()


def test_times_are_short_words() -> None:
    assert [duration(s) for s in (0.2, 42, 89, 91, 3590, 3720)] == [
        "1 s", "42 s", "89 s", "2 min", "1 h 0 min", "1 h 2 min",
    ]  # fmt: skip


@needs_display
def test_the_dock_starts_stops_and_comes_back(
    make_napari_viewer: Callable[..., Any],
    slide: Slide,
    tiny_bundle: Bundle,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real network: the OOD score's Grad-CAM, by buttons; then the dock is closed and opened."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    seen, add = threading.Event(), Mosaic._add

    def add_and_rest(mosaic: Mosaic, patch: Any) -> None:
        assert mosaic.n_done == 0 or seen.wait(60)
        add(mosaic, patch)

    monkeypatch.setattr(Mosaic, "_add", add_and_rest)
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1280, 900)
    viewer.add_layer(make_layer(slide_layer_data(slide)))
    bridge = bridge_of(viewer)
    bridge.session.use_bundle(tiny_bundle)
    window, dock = viewer.window.add_plugin_dock_widget("napari-ood", "OOD inspector")
    panel = dock.fine_map
    dock.scroll_area.ensureWidgetVisible(panel)
    qtbot.wait(100)
    assert panel.target.currentText() == "OOD score"
    QTest.mouseClick(panel.scope.button(Scope.SLIDE), Qt.MouseButton.LeftButton)
    QTest.mouseClick(panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.stop.isEnabled() and panel.fine.state.n_done > 0, timeout=60_000)
    n_tiles = panel.fine.state.n_tiles
    assert f"of {n_tiles:,} tiles" in panel.progress.text()
    seen.set()
    qtbot.waitUntil(lambda: not panel.fine.state.running, timeout=60_000)
    maps = mosaic_layer_of(bridge)
    layer = maps.layer
    assert layer is not None and np.isfinite(layer.data[0]).any()
    assert np.nanmax(layer.data[0]) > 0
    viewer.window.remove_dock_widget(window)
    qtbot.wait(50)
    assert maps.layer is layer
    _, dock = viewer.window.add_plugin_dock_widget("napari-ood", "OOD inspector")
    assert dock.fine_map.title.text() == "Grad-CAM of OOD score"
    assert dock.fine_map.progress.text() == f"Done: {n_tiles:,} tiles"
    assert "foreign" in dock.fine_map.meaning.text()
    colors = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    layer.visible = False
    plain = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    assert (np.abs(colors - plain).max(axis=2) > 20).mean() > 0.001
