"""The dock of thresholds in a real window: drag, keys, double-click, restart, empty states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from napari_ood import Bundle
from napari_ood.scores.thresholds import Meaning, value_threshold
from napari_ood.viewer.bridge import bridge_of
from napari_ood.viewer.canvas_legend import CanvasLegend
from napari_ood.viewer.layers import is_flags, make_layer, maps_of, slide_layer_data
from napari_ood.viewer.maps import FLAGGED, Overlay

from .conftest import finish, needs_display

pytestmark = needs_display

MakeViewer = Callable[..., Any]


@pytest.fixture
def window(
    make_napari_viewer: MakeViewer, slide: Any, tiny_bundle: Bundle, qtbot: Any
) -> Iterator[tuple[Any, Any]]:
    """A visible window with a finished run, and the dock of thresholds with its figures."""
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1280, 900)
    viewer.add_layer(make_layer(slide_layer_data(slide)))
    bridge = bridge_of(viewer)
    bridge.session.use_bundle(tiny_bundle)
    assert bridge.run()
    finish(bridge)
    dock = open_dock(viewer)
    qtbot.waitUntil(lambda: not bridge.session.state.studying, timeout=30_000)
    qtbot.wait(100)
    yield viewer, dock


def open_dock(viewer: Any) -> Any:
    return viewer.window.add_plugin_dock_widget("napari-ood", "OOD thresholds")[1]


def flagged(viewer: Any) -> np.ndarray:
    layer = next(x for x in viewer.layers if is_flags(x))
    n = layer.data.shape[0] // maps_of(layer).shape[0]  # cells along the side of a tile
    return np.asarray(layer.data[n // 2 :: n, n // 2 :: n] == FLAGGED)


def test_the_line_is_dragged_by_the_mouse_and_masks_follow(
    window: tuple[Any, Any], qtbot: Any
) -> None:
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    viewer, dock = window
    session = dock.bridge.session
    card = dock.cards[Overlay.OOD]
    plot, scores = card.histogram, session.state.maps.scores[Overlay.OOD]
    start = QPoint(round(plot.x_of(session.state.thresholds[Overlay.OOD].value)), 30)
    before = card.summary.text()
    QTest.mousePress(plot, Qt.MouseButton.LeftButton, pos=start)
    seen = []
    for x in (start.x() + 20, start.x() + 60, plot.width() - 20):
        QTest.mouseMove(plot, QPoint(x, 30))
        qtbot.wait(20)
        threshold = session.state.thresholds[Overlay.OOD]
        assert threshold.value == pytest.approx(plot.value_at(x), abs=1e-6)
        np.testing.assert_array_equal(flagged(viewer), scores > threshold.value32)
        seen.append(threshold.value)
    QTest.mouseRelease(plot, Qt.MouseButton.LeftButton, pos=QPoint(plot.width() - 20, 30))
    QTest.mouseMove(plot, QPoint(5, 30))
    qtbot.wait(20)
    assert session.state.thresholds[Overlay.OOD].value == seen[-1], "it was let go"
    assert seen == sorted(seen)
    assert threshold.meaning is Meaning.VALUE
    n = int((scores > threshold.value32).sum())
    qtbot.waitUntil(lambda: card.summary.text().startswith(f"{n:,} of 150 tiles"), timeout=30_000)
    assert card.summary.text() != before
    assert dock.meaning.meaning is Meaning.VALUE
    QTest.mouseDClick(plot, Qt.MouseButton.LeftButton, pos=QPoint(40, 30))
    assert session.state.thresholds[Overlay.OOD].meaning is Meaning.KEEP
    assert "95 %" in card.words.text()


def test_a_click_beside_the_line_chooses_the_score_and_moves_nothing(
    window: tuple[Any, Any], qtbot: Any
) -> None:
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    _, dock = window
    session = dock.bridge.session
    plot = dock.cards[Overlay.UNCERTAINTY].histogram
    dock.scroll_area.ensureWidgetVisible(plot)
    qtbot.wait(50)
    before = dict(session.state.thresholds)
    x = plot.x_of(before[Overlay.UNCERTAINTY].value)
    beside = round(x + 40 if x < plot.width() / 2 else x - 40)
    QTest.mouseClick(plot, Qt.MouseButton.LeftButton, pos=QPoint(beside, 30))
    assert session.state.overlay is Overlay.UNCERTAINTY
    assert dict(session.state.thresholds) == before
    assert "Uncertainty" in dock.meaning.heading.text()


def test_arrow_keys_move_the_line_of_the_focused_histogram(
    window: tuple[Any, Any], qtbot: Any
) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    _, dock = window
    session = dock.bridge.session
    plot = dock.cards[Overlay.OOD].histogram
    plot.setFocus()
    start, other = (session.state.thresholds[o].value for o in (Overlay.OOD, Overlay.UNCERTAINTY))
    QTest.keyClick(plot, Qt.Key.Key_Right)
    step = session.state.thresholds[Overlay.OOD].value - start
    assert step > 0
    QTest.keyClick(plot, Qt.Key.Key_Left)
    assert session.state.thresholds[Overlay.OOD].value == pytest.approx(start)
    QTest.keyClick(plot, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert session.state.thresholds[Overlay.OOD].value == pytest.approx(start + 10 * step)
    QTest.keyClick(plot, Qt.Key.Key_Home)
    assert session.state.thresholds[Overlay.OOD].value == start
    assert session.state.thresholds[Overlay.UNCERTAINTY].value == other


def test_a_meaning_is_typed_and_what_cannot_be_is_said(window: tuple[Any, Any], qtbot: Any) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    _, dock = window
    session, section = dock.bridge.session, dock.meaning
    dock.scroll_area.ensureWidgetVisible(section)
    section.share.setFocus()
    section.share.selectAll()
    QTest.keyClicks(section.share, "80")
    QTest.keyClick(section.share, Qt.Key.Key_Return)
    threshold = session.state.thresholds[Overlay.OOD]
    assert (threshold.meaning, threshold.parameter) == (Meaning.KEEP, 0.8)
    section.combo.setFocus()
    section.combo.setCurrentIndex(1)
    section.combo.activated.emit(1)
    section.share.selectAll()
    QTest.keyClicks(section.share, "1")
    QTest.keyClick(section.share, Qt.Key.Key_Return)
    # An untrained network guesses among three classes: one error in a hundred is out of reach.
    assert section.problem.isVisible()
    assert "the least that can be reached is" in section.problem.text()
    assert session.state.thresholds[Overlay.OOD] == threshold
    section.combo.setCurrentIndex(2)
    section.combo.activated.emit(2)
    assert session.state.thresholds[Overlay.OOD].meaning is Meaning.COVERAGE
    exact = session.state.thresholds[Overlay.OOD].value
    section.combo.activated.emit(3)
    assert session.state.thresholds[Overlay.OOD] == value_threshold(threshold.score, exact), (
        "another meaning of the same value flags the same tiles, however the field rounds it"
    )
    assert not section.problem.isVisible()
    assert section.plot.isVisible() and section.classes.isVisible()


def test_the_legend_lies_on_the_canvas_and_the_mouse_goes_through(
    window: tuple[Any, Any], qtbot: Any
) -> None:
    from napari_ood.viewer.ticker import main_window

    viewer, dock = window
    session = dock.bridge.session
    canvas = main_window(dock).centralWidget()
    (legend,) = canvas.findChildren(CanvasLegend)
    assert legend.isVisible() and legend.bar.isVisible() and not legend.fades.isVisible()
    low = legend.geometry()
    assert canvas.rect().contains(low) and low.bottom() > canvas.height() - 30 and low.left() < 30
    session.set_overlay(Overlay.COMBINED)
    qtbot.wait(50)
    assert legend.fades.isVisible() and not legend.bar.isVisible() and legend.flagged.isVisible()
    picture = viewer.window.screenshot(flash=False, canvas_only=False)
    assert picture.shape[2] == 4
    assert canvas.childAt(low.center()) is not legend, "the map below can be dragged"
    dock.legend.click()
    assert not legend.isVisible()
    session.set_legend(True)
    session.set_overlay(None)
    assert not legend.isVisible()
    viewer.window.remove_dock_widget(dock)
    assert len(canvas.findChildren(CanvasLegend)) == 1
    assert len(open_dock(viewer).parent().window().centralWidget().findChildren(CanvasLegend)) == 1


def test_the_dock_holds_no_state_and_a_closed_one_hears_nothing(
    window: tuple[Any, Any], qtbot: Any
) -> None:
    viewer, dock = window
    session = dock.bridge.session
    dock.cards[Overlay.OOD].histogram.moved.emit(7.5)
    text = dock.cards[Overlay.OOD].summary.text()
    n = len(session.changed)
    viewer.window.remove_dock_widget(dock)
    assert len(session.changed) == n - 1
    again = open_dock(viewer)
    qtbot.waitUntil(lambda: again.cards[Overlay.OOD].isVisible(), timeout=30_000)
    assert again.cards[Overlay.OOD].summary.text() == text
    assert "7.5" in again.cards[Overlay.OOD].words.text()


def test_the_empty_dock_says_what_is_needed(make_napari_viewer: MakeViewer, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    dock = open_dock(viewer)
    qtbot.waitUntil(dock.note.isVisible, timeout=30_000)
    assert "open one, or run a bundle" in dock.note.text()
    for hidden in (dock.meaning, dock.sets, dock.key, *dock.cards.values()):
        assert not hidden.isVisible()


def test_a_score_is_chosen_in_the_list(window: tuple[Any, Any], qtbot: Any) -> None:
    _, dock = window
    session, card = dock.bridge.session, dock.cards[Overlay.UNCERTAINTY]
    names = [card.combo.itemData(i) for i in range(card.combo.count())]
    assert {"entropy", "msp", "disagreement", "energy"} < set(names)
    card.combo.activated.emit(names.index("msp"))
    qtbot.waitUntil(
        lambda: session.state.scales[Overlay.UNCERTAINTY].score == "msp", timeout=30_000
    )
    words = "How improbable the predicted class is (msp)"
    assert card.combo.currentText() == words
    assert card.combo.toolTip().startswith(f"{words}\n"), "also where it is cut off"
    assert "95 %" in card.words.text()
