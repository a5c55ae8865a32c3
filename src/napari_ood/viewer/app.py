"""napari with slides, runs and the dock: what the command line opens."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import napari
from qtpy.QtCore import QEventLoop, QTimer

from napari_ood.errors import RunError
from napari_ood.naming import RUN_SUFFIX
from napari_ood.viewer.bridge import bridge_of
from napari_ood.viewer.layers import TRUTH_KEY

if TYPE_CHECKING:
    from napari import Viewer

    from napari_ood.viewer.dock_ood import OodDock

PLUGIN = "napari-ood"
DOCK = "OOD"
COHORT_DOCK = "OOD cohort"
WINDOW_PX = (1600, 1000)
SETTLE_MS = 200


def new_window(show: bool = True) -> Viewer:
    """A napari window with the dock open."""
    viewer = napari.Viewer(title="napari-ood", show=show)
    viewer.window.resize(*WINDOW_PX)
    open_dock(viewer)
    return viewer


def open_dock(viewer: Viewer) -> OodDock:
    """Open the dock *OOD* in a viewer, or give the one that is open."""
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
    return dock  # type: ignore[no-any-return]


def open_in_napari(paths: Iterable[str | Path], block: bool = True) -> Viewer:
    """Open slides and runs in a new window.

    Parameters
    ----------
    paths : slides (files or folders) and runs (``*.ood.zarr``)
    block : wait until the window is closed
    """
    viewer = new_window()
    for path in paths:
        viewer.open(Path(path), plugin=PLUGIN)
    if block:
        napari.run()
    return viewer


def open_cohort(folder: str | Path, name: str | None = None, block: bool = True) -> Viewer:
    """Open the board of a cohort in a new window, and one of its slides at its worst region.

    Parameters
    ----------
    folder : of the cohort
    name : of a run in it, without suffix
    block : wait until the window is closed
    """
    viewer = napari.Viewer(title="napari-ood")
    viewer.window.resize(*WINDOW_PX)
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, COHORT_DOCK)
    dock.read(Path(folder).absolute(), name)
    if block:
        napari.run()
    return viewer


def demo_window(out: str | Path, show: bool = True) -> Path:
    """Open the demo's run in a window and write a picture of the whole window.

    Parameters
    ----------
    out : the demo's folder, with one run in it; ``screenshot.png`` is written beside it
    show : leave the window open until the user closes it, else close it at once

    Returns
    -------
    Path
        The picture.

    Raises
    ------
    RunError
        If there is no run in ``out``.
    """
    folder = Path(out)
    runs = sorted(folder.glob(f"*{RUN_SUFFIX}"))
    if not runs:
        raise RunError(f"{folder} holds no run to show: run napari-ood demo first")
    viewer = open_in_napari(runs[:1], block=False)
    bridge_of(viewer).steps.finish()
    for layer in viewer.layers:
        if TRUTH_KEY in layer.metadata:
            layer.visible = True
    viewer.layers.selection.active = viewer.layers[0]
    picture = folder / "screenshot.png"
    save_window(viewer, picture)
    if show:
        napari.run()
    else:
        viewer.close()
    return picture


def save_window(viewer: Viewer, path: Path) -> None:
    """Write a PNG of the whole window as soon as it has been drawn."""
    settle()
    viewer.window.screenshot(str(path), flash=False, canvas_only=False)


def settle(milliseconds: int = SETTLE_MS) -> None:
    """Let Qt lay out and draw everything that is due."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()
