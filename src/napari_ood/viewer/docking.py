"""Where a dock goes: onto the tabs of the plugin's other docks, not into half of their height."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QTabBar, QWidget

if TYPE_CHECKING:
    from napari.window import Window

PLUGIN = "napari-ood"
OWN = "(napari-ood)"
"""What napari puts behind the names of the plugin's docks."""
SHORTER = {"Slide passport": "Passport", "Compare runs": "Compare"}
TAB_PADDING = "QTabBar::tab {padding: 3px 2px; margin: 0px}"
"""Six tabs are to be read in a dock of usual width; napari's theme has room for three."""


def join_tabs(widget: QWidget) -> None:
    """Put the dock of a widget onto the tabs of another dock of this plugin, in front.

    Nothing happens where there is none in the same area, or the dock shares its place already.
    """
    dock = dock_of(widget)
    main = dock.parentWidget() if dock is not None else None
    if dock is None or not isinstance(main, QMainWindow) or dock.isFloating():
        return
    area = main.dockWidgetArea(dock)
    others = [
        other
        for other in main.findChildren(QDockWidget)
        if other is not dock
        and other.isVisibleTo(main)
        and not other.isFloating()
        and OWN in other.windowTitle() + other.objectName()
        and main.dockWidgetArea(other) == area
    ]
    if others and not main.tabifiedDockWidgets(dock):
        main.tabifyDockWidget(others[-1], dock)
        dock.show()
        dock.raise_()
    for each in (dock, *others):
        _shorten_tab(each)
    for bar in main.findChildren(QTabBar, options=Qt.FindChildOption.FindDirectChildrenOnly):
        bar.setStyleSheet(TAB_PADDING)


def put_below(widget: QWidget, share: float) -> None:
    """Put the dock of a widget below the canvas, where napari has put it at its right.

    napari 0.9 does not heed the area that the manifest names. What the user has moved stays.

    Parameters
    ----------
    widget : in a dock
    share : of the window's height
    """
    dock = dock_of(widget)
    main = dock.parentWidget() if dock is not None else None
    if dock is None or not isinstance(main, QMainWindow) or dock.isFloating():
        return
    if main.dockWidgetArea(dock) == Qt.DockWidgetArea.RightDockWidgetArea:
        main.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, dock)
        main.resizeDocks([dock], [round(share * main.height())], Qt.Orientation.Vertical)


def _shorten_tab(dock: QDockWidget) -> None:
    """Let a tab say what is on it: six tabs that all begin with "OOD" cannot be told apart."""
    action = dock.toggleViewAction()
    name = action.text() if action is not None else ""
    short = dock.windowTitle().removesuffix(f" {OWN}").removeprefix("OOD ")
    short = short[:1].upper() + short[1:]
    if OWN in dock.windowTitle():
        dock.setWindowTitle(SHORTER.get(short, short))
        dock.setToolTip(name)
        if action is not None:
            action.setText(name)  # of the menu Window, which Qt would rename as well


def raise_dock(window: Window, name: str) -> None:
    """Open a dock of this plugin, or bring the one that is open to the front."""
    dock, _ = window.add_plugin_dock_widget(PLUGIN, name)
    dock.show()
    dock.raise_()


def dock_of(widget: QWidget) -> QDockWidget | None:
    """The dock that a widget is in."""
    parent: QWidget | None = widget
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent
