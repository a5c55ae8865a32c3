"""Docks of the plugin share one place, and their tabs can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_ood import Bundle

from .conftest import needs_display

pytestmark = needs_display

DOCKS = {
    "OOD": "OOD",
    "OOD slide passport": "Passport",
    "OOD review": "Review",
    "OOD export": "Export",
    "OOD compare runs": "Compare",
    "OOD thresholds": "Thresholds",
}


def test_six_docks_lie_on_tabs_that_are_not_cut_off(
    make_napari_viewer: Callable[..., Any], tiny_bundle: Bundle, qtbot: Any
) -> None:
    from qtpy.QtWidgets import QTabBar

    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1600, 1000)
    docks = []
    for name in DOCKS:
        docks.append(viewer.window.add_plugin_dock_widget("napari-ood", name)[0])
        qtbot.wait(100)
    main = viewer.window._qt_window
    bars = [bar for bar in main.findChildren(QTabBar) if bar.count() == len(DOCKS)]
    (bar,) = bars
    assert {bar.tabText(i) for i in range(bar.count())} == set(DOCKS.values())
    for i in range(bar.count()):
        assert bar.fontMetrics().horizontalAdvance(bar.tabText(i)) <= bar.tabRect(i).width() - 6
    assert bar.tabRect(bar.count() - 1).right() <= bar.width(), "all of them are in sight"
    names = {dock.toggleViewAction().text() for dock in docks}
    assert names == {f"{name} (napari-ood)" for name in DOCKS}, "the menu Window has whole names"
