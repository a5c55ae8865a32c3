"""The dock in a real window: press, wait, look at pixels, close."""

from __future__ import annotations

import gc
import re
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_ood import Bundle, open_run
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.state import Phase, Scope

from .conftest import INK, needs_display

pytestmark = needs_display

MakeViewer = Callable[..., Any]


@pytest.fixture
def bundles(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dock finds the tiny bundle."""
    monkeypatch.setenv("NAPARI_OOD_BUNDLES", str(tiny_bundle.path.parent))


@pytest.fixture
def window(
    make_napari_viewer: MakeViewer, slide_path: Path, bundles: None, qtbot: Any
) -> Iterator[tuple[Any, Any]]:
    """A visible window with the slide, and its dock with the tiny bundle chosen."""
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1280, 800)
    dock = open_dock(viewer)
    viewer.open(slide_path, plugin="napari-ood")
    choose(dock.bundle.combo, "tiny")
    # They are looked for once more; a dock that is closed meanwhile is taken for a leak by napari.
    qtbot.waitUntil(lambda: not dock.bundle._listing.working, timeout=30_000)
    yield viewer, dock


def open_dock(viewer: Any) -> Any:
    return viewer.window.add_plugin_dock_widget("napari-ood", "OOD")[1]


def choose(combo: Any, text: str) -> None:
    """Choose as a user does: the signal is ``activated``. Bundles are listed in a thread."""
    from qtpy.QtTest import QTest

    end = time.monotonic() + 30
    while (row := combo.findText(text)) < 0 and time.monotonic() < end:
        QTest.qWait(10)
    assert row >= 0
    combo.setCurrentIndex(row)
    combo.activated.emit(row)


def click(button: Any) -> None:
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication, QScrollArea

    assert button.isVisible()
    assert button.isEnabled()
    area = button.parent()
    while area is not None and not isinstance(area, QScrollArea):
        area = area.parent()
    # A click on what is scrolled away, or about to move, lands on something else.
    at_rest = 0
    until = time.monotonic() + 30
    while at_rest < 3 and time.monotonic() < until:
        place = button.mapTo(button.window(), QPoint(0, 0))
        QTest.qWait(50)
        area.ensureWidgetVisible(button)
        moved = button.mapTo(button.window(), QPoint(0, 0)) != place
        at_rest = 0 if moved or QApplication.activePopupWidget() else at_rest + 1
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def run_to_the_end(qtbot: Any, dock: Any) -> None:
    click(dock.run.run_button)
    settled(qtbot, dock.bridge)


def settled(qtbot: Any, bridge: Any) -> None:
    """Wait until the run has ended and its layers are there."""
    qtbot.waitUntil(lambda: not (bridge.session.busy or bridge.steps.pending), timeout=60_000)


def pixel(viewer: Any, y_um: float, x_um: float) -> np.ndarray:
    """Colour on the canvas over a world point, RGB 0 to 255."""
    picture = viewer.screenshot(canvas_only=True, flash=False)
    camera = viewer.scene.camera
    size = np.array(viewer.canvas.size)
    ratio = picture.shape[0] / size[0]
    offset = (np.array([y_um, x_um]) - camera.center[-2:]) * camera.zoom
    row, col = ((size / 2 + offset) * ratio).round().astype(int)
    return picture[row, col, :3].astype(int)


def over_ink(rgba: np.ndarray, opacity: float) -> np.ndarray:
    """What a colour (0 to 1) over the slide's foreign half looks like, RGB 0 to 255."""
    alpha = rgba[3] * opacity
    return np.asarray(255 * rgba[:3] * alpha + np.array(INK) * (1 - alpha))


def test_run_fills_the_window(window: tuple[Any, Any], qtbot: Any) -> None:
    viewer, dock = window
    run_to_the_end(qtbot, dock)
    qtbot.wait(100)
    assert [x.visible for x in viewer.layers] == [True, False, False, False, True, True]
    maps, ood = dock.bridge.session.state.maps, viewer.layers[-2]
    low, high = ood.contrast_limits
    color = ood.colormap.map((maps.scores[Overlay.OOD][3, 12] - low) / (high - low))[0]
    np.testing.assert_allclose(pixel(viewer, 3.5 * 32, 12.5 * 32), over_ink(color, 0.9), atol=6)
    red, green, blue = pixel(viewer, 3.5 * 32, 12.5 * 32)
    assert green > red > blue, "foreign ink turned from blue to green or yellow"
    click(dock.results.overlay.button(None))
    qtbot.wait(100)
    np.testing.assert_allclose(pixel(viewer, 100, 400), INK, atol=3)
    click(dock.results.overlay.button(Overlay.PREDICTION))
    qtbot.wait(100)
    color = viewer.layers[1].get_color(int(maps.prediction[3, 12]))
    np.testing.assert_allclose(pixel(viewer, 3.5 * 32, 12.5 * 32), over_ink(color, 0.45), atol=6)


def test_the_dock_says_what_happens(window: tuple[Any, Any], qtbot: Any) -> None:
    _, dock = window
    assert "half" in dock.slide.facts.text()
    assert "0.5 µm/px" in dock.slide.facts.text()
    assert not dock.slide.mpp_row.isVisible()
    assert "half.ood.zarr beside the slide" in dock.run.where.text().replace("\u200b", "")
    assert not dock.results.isVisible()
    run_to_the_end(qtbot, dock)
    assert dock.run.speed.text().startswith("Done: 150 tiles")
    assert dock.run.run_button.text() == "Finished"
    assert dock.results.isVisible()
    assert "familiar" in dock.results.bar._words


def test_cancel_and_continue(window: tuple[Any, Any], held: threading.Event, qtbot: Any) -> None:
    _, dock = window
    session = dock.bridge.session
    click(dock.run.run_button)
    qtbot.waitUntil(lambda: session.state.maps is not None, timeout=60_000)
    click(dock.run.cancel_button)
    settled(qtbot, dock.bridge)
    path = session.state.maps.path
    assert 0 < open_run(path).n_tiles < 150
    assert "continues where it stopped" in dock.run.where.text()
    assert dock.run.run_button.text() == "Continue"
    held.set()
    run_to_the_end(qtbot, dock)
    assert open_run(path).complete


def test_the_scope_can_be_the_view(window: tuple[Any, Any], qtbot: Any) -> None:
    viewer, dock = window
    viewer.scene.camera.zoom *= 4
    click(dock.run.scope.button(Scope.VIEW))
    expected = dock.bridge.region_of(Scope.VIEW)
    run_to_the_end(qtbot, dock)
    region = open_run(dock.bridge.session.state.maps.path).grid.region
    assert region == expected
    assert region[3] < 960 / 2


def test_a_run_goes_on_while_its_dock_is_closed(
    window: tuple[Any, Any], held: threading.Event, qtbot: Any
) -> None:
    viewer, dock = window
    click(dock.run.run_button)
    viewer.window.remove_dock_widget(dock)
    gone = weakref.ref(dock)
    del dock
    again = open_dock(viewer)
    assert again.run.cancel_button.isEnabled()
    held.set()
    settled(qtbot, again.bridge)
    assert again.results.isVisible()
    assert len(viewer.layers) == 6
    qtbot.wait(50)
    gc.collect()
    assert gone() is None or gone()._bridge is None


@pytest.mark.usefixtures("held")
def test_closing_the_window_ends_the_run(
    make_napari_viewer: MakeViewer, slide_path: Path, bundles: None, qtbot: Any
) -> None:
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    dock = open_dock(viewer)
    viewer.open(slide_path, plugin="napari-ood")
    choose(dock.bundle.combo, "tiny")
    session = dock.bridge.session
    click(dock.run.run_button)
    viewer.close()
    assert session.wait(60), "the thread ends within a batch"
    assert not open_run(slide_path.parent / "half.ood.zarr").complete


def test_a_closed_dock_hears_nothing(window: tuple[Any, Any], qtbot: Any) -> None:
    viewer, dock = window
    session = dock.bridge.session
    n = len(session.changed)
    viewer.window.remove_dock_widget(dock)
    assert len(session.changed) == n - 1
    session.set_scope(Scope.VIEW)
    assert session.state.phase is Phase.IDLE


def test_the_empty_dock_leads_on(make_napari_viewer: MakeViewer, bundles: None, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    dock = open_dock(viewer)
    qtbot.waitUntil(lambda: dock.slide.open_button.isVisible(), timeout=30_000)
    assert dock.slide.sample_button.isVisible()
    assert not dock.run.run_button.isEnabled()
    assert dock.run.check.text() == "Open a slide first."


def test_nothing_is_cut_off_in_a_small_window(
    window: tuple[Any, Any], qtbot: Any, slide_path: Path
) -> None:
    from qtpy.QtWidgets import QLabel, QPushButton

    viewer, dock = window
    long = "a_slide_whose_name_is_as_long_as_those_of_some_hospitals_are_level-0.tif"
    viewer.open(shutil.copy(slide_path, slide_path.with_name(long)), plugin="napari-ood")
    run_to_the_end(qtbot, dock)
    qtbot.wait(100)
    for button in dock.findChildren(QPushButton):
        if button.isVisible():
            assert button.width() >= button.fontMetrics().horizontalAdvance(button.text())
    for label in dock.findChildren(QLabel):
        if label.isVisible() and label.wordWrap():
            assert label.height() >= label.heightForWidth(label.width())
            pieces = re.split(r"[\s\u200b]", label.text())
            widest = max(map(label.fontMetrics().horizontalAdvance, pieces))
            assert widest <= label.width(), label.text()


def test_the_dock_loads_no_torch_and_a_run_loads_it_beside_opengl(slide_path: Path) -> None:
    # In a process of its own: here torch was loaded first, where it cannot clash with Mesa.
    code = f"""
import sys, napari
viewer = napari.Viewer()
viewer.window.add_plugin_dock_widget("napari-ood", "OOD")
viewer.open({str(slide_path)!r}, plugin="napari-ood")
viewer.screenshot()
print("torch" in sys.modules, len(viewer.layers))
from napari_ood.models import resolve_device
print(resolve_device("cpu"))
import torchvision
viewer.close()
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "1", "cpu"]


def test_the_manifest_names_what_exists() -> None:
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("napari-ood")
    for command in manifest.contributions.commands or []:
        assert command.python_name is not None
        module, _, name = command.python_name.partition(":")
        assert hasattr(__import__(module, fromlist=[name]), name), command.id
