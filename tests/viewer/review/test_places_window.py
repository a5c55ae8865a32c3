"""In a real window: places of another dock by keys, QuPath's verdicts and outlines by buttons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Shapes

from napari_ood import Bundle, Run
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.state import Scope

from .conftest import PATCHES, TILE_PX
from .test_places_and_import import places_of, write_geojson
from .test_review_dock import (  # noqa: F401 - fixtures
    canvas_of,
    click,
    empty,
    focus,
    own_config,
    pytestmark,
    said,
    type_keys,
    wait_for_regions,
    window,
)


def test_places_by_keys_and_back(
    window: tuple[Any, Any],  # noqa: F811
    run: Run,
    tiny_bundle: Bundle,
    qtbot: Any,
) -> None:
    viewer, dock = window
    session = dock.bridge.session
    session.set_places(places_of(dock.queue, run, tiny_bundle))
    wait_for_regions(dock, qtbot)
    assert dock.head.places.isVisible() and not dock.head.overlay.isVisible()
    assert dock.list.regions.rowCount() == 1
    assert dock.list.regions.lines(0)[1].startswith("|B − A|")
    focus(canvas_of(viewer), qtbot)
    type_keys("nt", qtbot)
    assert said(dock) == ["unknown tissue"]
    type_keys("z", qtbot)
    assert said(dock) == []
    click(dock.head.places.back)
    wait_for_regions(dock, qtbot)
    assert session.state.places is None
    assert dock.list.regions.rowCount() == 3
    assert dock.head.overlay.isVisible() and not dock.head.places.isVisible()
    dock.parentWidget().hide()
    outline = next(layer for layer in viewer.layers if layer.name.startswith("Review"))
    assert not outline.visible, "no outline of a dock that is not in front"


def test_qupath_by_buttons_and_as_a_shape(
    window: tuple[Any, Any],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: Any,
) -> None:
    from qtpy.QtWidgets import QFileDialog

    viewer, dock = window
    file = write_geojson(tmp_path / "drawn.geojson", "Unknown tissue", PATCHES["large"])
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (str(file), ""))
    dock.scroll_area.ensureWidgetVisible(dock.tail.import_button)
    qtbot.wait(50)
    click(dock.tail.import_button)
    qtbot.waitUntil(lambda: "1 verdict added" in dock.tail.imported.text(), timeout=30_000)
    assert said(dock) == ["unknown tissue"]
    assert dock.queue.state.n_done == 1
    # No plugin is named: nobody else reads GeoJSON, so napari does not ask.
    viewer.open(file, plugin=None)
    assert isinstance(viewer.layers[-1], Shapes)
    rows, cols = PATCHES["large"]
    box = (rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start)
    assert dock.bridge.region_of(Scope.SHAPE) == tuple(TILE_PX * side for side in box)


def test_a_picture_of_the_canvas_has_the_legend(
    window: tuple[Any, Any],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: Any,
) -> None:
    from PIL import Image
    from qtpy.QtWidgets import QFileDialog

    from napari_ood.viewer.canvas_legend import CanvasLegend

    viewer, _ = window
    thresholds = viewer.window.add_plugin_dock_widget("napari-ood", "OOD thresholds")[1]
    session = thresholds.bridge.session
    session.set_overlay(Overlay.OOD)
    qtbot.waitUntil(lambda: bool(session.state.figures), timeout=30_000)
    path = tmp_path / "canvas"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
    pictures = []
    for legend in (True, False):
        session.set_legend(legend)
        qtbot.wait(100)
        thresholds.picture_button.click()
        pictures.append(Image.open(path.with_suffix(".png")).convert("RGB").copy())
    shown, bare = pictures
    assert shown.size == bare.size == viewer.canvas.size[::-1]
    legend = thresholds.window().findChild(CanvasLegend)
    assert legend is not None
    ys, xs = (np.asarray(shown) != np.asarray(bare)).any(axis=2).nonzero()
    assert abs(min(xs) - legend.x()) <= 1 and abs(max(xs) + 1 - legend.x() - legend.width()) <= 1
    assert len(xs) > 0.8 * legend.width() * legend.height()
    assert min(ys) > shown.height / 2, "in the lower left corner"
