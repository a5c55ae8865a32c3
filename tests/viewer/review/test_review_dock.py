"""The review dock in a real window: keys on the canvas, typing, undo, a killed program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_ood import Bundle, Run
from napari_ood.review import review_folder
from napari_ood.viewer import reviewer
from napari_ood.viewer.flight import view_now
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.review_state import Order, Stage
from viewer.conftest import needs_display

from .conftest import between_patches_and_noise, set_threshold

pytestmark = needs_display

MakeViewer = Callable[..., Any]


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of whoever runs the tests is neither read nor changed."""
    monkeypatch.setattr(reviewer, "config_folder", lambda: tmp_path / "config")
    reviewer.remember_reviewer("Ada")


@pytest.fixture
def empty(make_napari_viewer: MakeViewer, tiny_bundle: Bundle, monkeypatch: Any) -> Any:
    """A visible, active window without anything."""
    monkeypatch.setenv("NAPARI_OOD_BUNDLES", str(tiny_bundle.path.parent))
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1280, 800)
    return viewer


@pytest.fixture
def window(empty: Any, run_path: Path, run: Run, qtbot: Any) -> tuple[Any, Any]:
    """The run with three regions, its review dock in front, the largest region first."""
    empty.open(run_path, plugin="napari-ood")
    dock = open_dock(empty)
    set_threshold(dock.bridge.session, between_patches_and_noise(run))
    dock.queue.set_order(Order.AREA)
    wait_for_regions(dock, qtbot)
    assert [region.n_tiles for region in dock.queue.state.regions] == [20, 3, 1]
    activate(dock, qtbot)
    return empty, dock


def open_dock(viewer: Any) -> Any:
    return viewer.window.add_plugin_dock_widget("napari-ood", "OOD review")[1]


def wait_for_regions(dock: Any, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not dock.queue.busy and not dock.queue.state.searching, timeout=30_000)


def activate(dock: Any, qtbot: Any) -> None:
    def active() -> bool:
        dock.window().activateWindow()  # again: without a window manager a request may be lost
        return bool(dock.window().isActiveWindow())

    qtbot.waitUntil(active, timeout=30_000)


def focus(widget: Any, qtbot: Any) -> None:
    """Give a widget the keyboard, as a click does."""

    def focused() -> bool:
        if not widget.window().isActiveWindow():
            widget.window().activateWindow()
        widget.setFocus()
        return bool(widget.hasFocus())

    qtbot.waitUntil(focused, timeout=30_000)


def canvas_of(viewer: Any) -> Any:
    """The widget that the slide is drawn in; napari has no public name for it."""
    return viewer.window._qt_viewer.canvas.native


def type_keys(keys: str, qtbot: Any) -> None:
    """Press keys on whatever has the focus, as a keyboard does."""
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    for key in keys:
        focused = QApplication.focusWidget()
        assert focused is not None
        QTest.keyClick(focused, key)
        qtbot.wait(10)


def click(widget: Any, position: Any = None) -> None:
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    assert widget.isVisible() and widget.isEnabled()
    at = position if position is not None else widget.rect().center()
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton, pos=QPoint(at))


def said(dock: Any) -> list[str]:
    """Verdicts as they are on the disk, read by a store of its own."""
    store = dock.queue.state.found.store
    from napari_ood.review.store import ReviewStore

    fresh = ReviewStore(store.path, store.run_identity, store.reviewer)
    return [verdict.category for verdict in fresh.verdicts()]


def test_a_review_by_keys_on_the_canvas(window: tuple[Any, Any], qtbot: Any) -> None:
    viewer, dock = window
    focus(canvas_of(viewer), qtbot)
    type_keys("n", qtbot)
    qtbot.waitUntil(lambda: not dock._frame_timer.isActive(), timeout=30_000)
    y, x, h, w = dock.queue.state.region.box
    middle = (y + h / 2 - 0.5) * 0.5, (x + w / 2 - 0.5) * 0.5
    np.testing.assert_allclose(view_now(viewer).centre, middle)
    outline = viewer.layers["Review: region"]
    assert outline.visible
    assert len(outline.data) > 4
    assert viewer.layers.selection.active is not outline, "the outline does not take the selection"
    type_keys("i", qtbot)  # pen
    assert said(dock) == ["artefact: pen"]
    label = dock.queue.state.region.label
    own = dock.queue.state.maps.classes.index(label)
    type_keys(str(own + 1), qtbot)  # what the model says cannot be the right class instead
    assert len(said(dock)) == 1
    other = (own + 1) % 3
    type_keys(str(other + 1), qtbot)
    assert said(dock)[1] == f"wrong class: {dock.queue.state.maps.classes[other]}"
    type_keys("t", qtbot)
    assert said(dock)[2] == "unknown tissue"
    assert dock.head.progress.format() == "3 of 3 reviewed"
    type_keys("zz", qtbot)
    assert len(said(dock)) == 1
    assert dock.head.progress.format() == "1 of 3 reviewed"
    assert dock.queue.state.current == 1, "the camera is back at what was taken back"
    type_keys("p", qtbot)
    assert dock.queue.state.current == 0
    assert [b.isChecked() for b in dock.panel.artefacts.values()] == [True, *[False] * 4]


def test_typing_is_not_judging(window: tuple[Any, Any], qtbot: Any) -> None:
    viewer, dock = window
    focus(canvas_of(viewer), qtbot)
    type_keys("n", qtbot)
    type_keys("c", qtbot)
    assert dock.panel.comment.hasFocus()
    type_keys("a fatal pinto 123", qtbot)
    assert dock.panel.comment.text() == "a fatal pinto 123"
    assert not review_folder(dock.queue.state.maps.path).exists(), "nothing was judged"
    assert dock.queue.state.current == 0
    type_keys("\r", qtbot)
    assert not dock.panel.comment.hasFocus()
    assert said(dock) == ["skip"]
    focus(canvas_of(viewer), qtbot)
    type_keys("a", qtbot)
    first = dock.queue.state.regions[0]
    verdict = dock.queue.state.verdict_on(first)
    assert (verdict.category, verdict.comment) == ("agree", "a fatal pinto 123")
    focus(dock.tail.reviewer, qtbot)
    dock.tail.reviewer.selectAll()
    type_keys("Nina\r", qtbot)
    wait_for_regions(dock, qtbot)
    assert dock.queue.state.reviewer == "Nina"
    assert dock.queue.state.n_done == 0
    assert reviewer.remembered_reviewer() == "Nina"


def test_a_review_by_mouse(window: tuple[Any, Any], qtbot: Any) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    viewer, dock = window
    rows = dock.list
    focus(rows, qtbot)
    assert (dock.queue.state.current, rows.currentIndex().row()) == (None, -1)
    QTest.keyClick(rows, Qt.Key.Key_Down)
    assert dock.queue.state.current == 0
    click(rows.viewport(), rows.visualRect(rows.regions.index(1)).center())
    assert dock.queue.state.current == 1
    qtbot.waitUntil(lambda: rows.regions.pixmap(1) is not None, timeout=30_000)
    dock.scroll_area.ensureWidgetVisible(dock.panel.artefacts["fold"])
    qtbot.wait(50)
    click(dock.panel.artefacts["fold"])
    assert said(dock) == ["artefact: fold"]
    assert rows.regions.verdict_text(1) == "artefact: fold"
    dock.scroll_area.ensureWidgetVisible(dock.panel.overlay)
    qtbot.wait(50)
    click(dock.panel.overlay)
    assert dock.bridge.session.state.overlay is None
    click(dock.panel.overlay)
    assert dock.bridge.session.state.overlay is Overlay.OOD
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    black, white = (picture.max(axis=2) < 10), (picture.min(axis=2) > 245)
    assert black.sum() > 100 < white.sum(), "the outline is drawn in black and white"


def test_keys_belong_to_the_dock_in_front(window: tuple[Any, Any], qtbot: Any) -> None:
    viewer, dock = window
    dock.queue.go_next()
    other = viewer.window.add_plugin_dock_widget("napari-ood", "OOD export")[1]
    other.parent().raise_()
    qtbot.waitUntil(lambda: not dock.keys.bound, timeout=30_000)
    assert not viewer.layers["Review: region"].visible
    focus(canvas_of(viewer), qtbot)
    type_keys("a", qtbot)
    assert said(dock) == [], "nothing is judged from behind another dock"
    dock.parent().raise_()
    qtbot.waitUntil(lambda: dock.keys.bound, timeout=30_000)
    assert viewer.layers["Review: region"].visible
    dock.tail.keys.setChecked(False)
    focus(canvas_of(viewer), qtbot)
    type_keys("n", qtbot)
    assert dock.queue.state.current == 0
    dock.tail.keys.setChecked(True)
    type_keys("n", qtbot)
    assert dock.queue.state.current == 1
    viewer.window.remove_dock_widget(dock)
    assert not dock.keys.bound
    assert "Review: region" not in viewer.layers
    type_keys("a", qtbot)
    assert not review_folder(dock.queue.state.maps.path).exists()
    again = open_dock(viewer)
    wait_for_regions(again, qtbot)
    assert again.queue.state.stage is Stage.READY


def test_words_where_there_is_nothing_to_review(
    empty: Any, run_path: Path, qtbot: Any, tmp_path: Path
) -> None:
    from qtpy.QtWidgets import QLabel, QPushButton

    dock = open_dock(empty)
    assert dock.message.text().startswith("No run on this slide yet.")
    assert not dock.list.isVisible()
    assert not dock.keys.bound
    run_path.with_name("patches.tif").rename(tmp_path / "gone.tif")
    empty.open(run_path, plugin="napari-ood")
    wait_for_regions(dock, qtbot)
    set_threshold(dock.bridge.session, 1e9)
    wait_for_regions(dock, qtbot)
    assert dock.message.text().startswith("No region lies above the threshold")
    set_threshold(dock.bridge.session, -1e9)
    wait_for_regions(dock, qtbot)
    assert not dock.message.isVisible()
    assert dock.head.no_slide.isVisible()
    assert dock.list.regions.rowCount() == 1
    click_next(dock, qtbot)
    dock.tail.figures.button.setChecked(True)
    for button in dock.findChildren(QPushButton):
        if button.isVisible():
            assert button.width() >= button.fontMetrics().horizontalAdvance(button.text())

    def cut_off() -> list[str]:
        shown = [x for x in dock.findChildren(QLabel) if x.isVisible() and x.wordWrap()]
        return [x.text() for x in shown if x.height() < x.heightForWidth(x.width())]

    def words() -> str:
        return str([x.text() for x in dock.findChildren(QLabel)])

    # The figures are worked out in a thread, then the column grows.
    qtbot.waitUntil(lambda: not dock.queue.busy, timeout=30_000)
    qtbot.waitUntil(lambda: "Verdicts" in words(), timeout=30_000)
    qtbot.waitUntil(lambda: not cut_off(), timeout=30_000)


def click_next(dock: Any, qtbot: Any) -> None:
    dock.scroll_area.ensureWidgetVisible(dock.panel.next_button)
    qtbot.wait(50)
    click(dock.panel.next_button)
    assert dock.queue.state.current == 0


KILLED = """
import os, signal, sys
import napari
from qtpy.QtCore import QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from napari_ood.viewer import reviewer
from pathlib import Path
reviewer.config_folder = lambda: Path(sys.argv[2])
viewer = napari.Viewer()
viewer.open(sys.argv[1], plugin="napari-ood")
_, dock = viewer.window.add_plugin_dock_widget("napari-ood", "OOD review")
from napari_ood.scores.thresholds import value_threshold
from napari_ood.viewer.maps import Overlay
session = dock.bridge.session
score = session.state.scales[Overlay.OOD].score
session.set_threshold(Overlay.OOD, value_threshold(score, float(sys.argv[3])))
while dock.queue.busy:
    QTest.qWait(10)
canvas = viewer.window._qt_viewer.canvas.native
while not canvas.hasFocus():  # without a window manager a request may be lost
    dock.window().activateWindow()
    canvas.setFocus()
    QTest.qWait(10)
for key in "nib":
    QTest.keyClick(QApplication.focusWidget(), key)
print(dock.queue.state.n_done, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_program_has_lost_nothing(
    window: tuple[Any, Any], run_path: Path, run: Run, tmp_path: Path, qtbot: Any
) -> None:
    _, dock = window
    arguments = [str(run_path), str(tmp_path / "config"), str(between_patches_and_noise(run))]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, timeout=120
    )
    assert (killed.returncode, killed.stdout.split()) == (-signal.SIGKILL, ["2"]), killed.stderr
    dock.queue.set_reviewer("Grace")
    wait_for_regions(dock, qtbot)
    dock.queue.set_reviewer("Ada")
    wait_for_regions(dock, qtbot)
    given = {v.category for r in dock.queue.state.regions if (v := dock.queue.state.verdict_on(r))}
    assert given == {"artefact: pen", "artefact: blur"}
    activate(dock, qtbot)  # the other program's window was in front
    focus(canvas_of(dock.bridge.viewer), qtbot)
    type_keys("z", qtbot)
    assert dock.queue.state.n_done == 1
