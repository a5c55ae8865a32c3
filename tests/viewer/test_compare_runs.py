"""The dock that compares two stored runs of a slide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel

from napari_ood import Bundle, Slide, open_slide, run_slide
from napari_ood.analysis.diverging import By
from napari_ood.viewer.bridge import bridge_of
from napari_ood.viewer.comparison import Comparison, candidates, describe_run
from napari_ood.viewer.difference_layer import (
    difference_colormap,
    difference_layer,
    show_difference,
)
from napari_ood.viewer.maps import Overlay

from .conftest import INK, needs_display

WAIT_S = 60.0


@pytest.fixture
def mirrored(slide: Slide, tiny_bundle: Bundle) -> tuple[Path, Path]:
    """Runs of the slide and of a copy whose foreign half is the left one."""
    copy = slide.path.with_name("half-2.tif")
    scale: dict[str, Any] = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(copy, tifffile.imread(slide.path)[:, ::-1], photometric="rgb", **scale)
    paths = slide.path.with_name("half.ood.zarr"), slide.path.with_name("half-2.ood.zarr")
    run_slide(slide, tiny_bundle, paths[0], device="cpu", tissue=False)
    with open_slide(copy) as other:
        run_slide(other, tiny_bundle, paths[1], device="cpu", tissue=False)
    return paths


@pytest.fixture
def runs(slide: Slide, tiny_bundle: Bundle, two_kinds_bundle: Bundle) -> tuple[Path, Path]:
    """Runs of two bundles beside the slide."""
    a = slide.path.parent / "half.ood.zarr"
    b = slide.path.parent / "half-2.ood.zarr"
    run_slide(slide, tiny_bundle, a, device="cpu", tissue=False)
    run_slide(slide, two_kinds_bundle, b, device="cpu", tissue=False)
    return a, b


def compare(comparison: Comparison, score: str = "ood") -> None:
    comparison.set_score(score)
    comparison.start()
    assert comparison.choice.busy
    assert comparison.wait(WAIT_S)
    assert not comparison.poll()


def test_runs_beside_the_slide_are_offered_and_compared(
    slide: Slide, runs: tuple[Path, Path]
) -> None:
    viewer = ViewerModel()
    bridge = bridge_of(viewer)
    bridge.session.add_slide(slide)
    (slide.path.parent / "other.ood.zarr").mkdir()
    assert set(candidates(bridge.session.state, ())) == set(runs)
    assert describe_run(runs[1]) == "half-2 · tiny-two"
    comparison = Comparison()
    assert comparison.choice.why_not
    comparison.choose(*runs)
    compare(comparison)
    compared = comparison.choice.compared
    assert compared is not None and comparison.choice.error == ""
    difference = compared.difference
    layer = show_difference(viewer, difference)
    low, high = layer.contrast_limits
    assert low == -high == -difference.scale.limit
    assert show_difference(viewer, difference) is layer is difference_layer(viewer)
    scale, translate = np.array(layer.scale), np.array(layer.translate)
    box = difference.boxes[0]  # level-0 px to µm at 0.5 µm/px, pixel centres on whole numbers
    np.testing.assert_allclose(translate, (box[:2] + box[2:] / 2 - 0.5) * 0.5)
    np.testing.assert_allclose(scale, box[2:] * 0.5)
    assert {"ood", "uncertainty", "msp"} <= set(compared.scores)
    comparison.set_score("uncertainty")  # compares again by itself
    assert comparison.choice.busy
    assert comparison.wait(WAIT_S)
    comparison.poll()
    (after,) = [comparison.choice.compared]
    assert after is not None and (after.difference.delta == 0).all(), "one network, two bundles"
    assert comparison.choice.regions == ()


def test_what_cannot_be_compared_is_said(runs: tuple[Path, Path]) -> None:
    comparison = Comparison()
    comparison.choose(runs[0], runs[0])
    assert "same run" in comparison.choice.why_not
    comparison.start()
    assert not comparison.choice.busy
    comparison.choose(runs[0], runs[0].parent / "gone.ood.zarr")
    compare(comparison)
    assert comparison.choice.compared is None
    assert "gone.ood.zarr" in comparison.choice.error


def test_colours_are_those_of_the_larger_side_and_nothing_at_zero() -> None:
    less, none, more = difference_colormap().map(np.array([0.001, 0.5, 0.999]))
    assert less[0] > less[1] > less[2] and less[3] > 0.7, "brown: A is higher"
    assert more[1] > more[0] and more[3] > 0.7, "green: B is higher"
    assert none[3] < 0.02
    assert difference_colormap().map(np.array([np.nan]))[0, 3] == 0


@needs_display
def test_compare_in_a_window(
    make_napari_viewer: Callable[..., Any], mirrored: tuple[Path, Path], qtbot: Any
) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    from .test_export_dock import tick
    from .test_window import click, pixel

    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1280, 900)
    dock = viewer.window.add_plugin_dock_widget("napari-ood", "OOD compare runs")[1]
    session, comparison = dock.bridge.session, dock.comparison
    assert "No two runs are at hand" in dock.choice.intro.text()
    assert not dock.choice.compare_button.isEnabled()
    viewer.open(mirrored[0], plugin="napari-ood")
    assert (comparison.choice.a, comparison.choice.b) == mirrored
    assert not dock.choice.copies.isVisible()
    click(dock.choice.compare_button)
    qtbot.waitUntil(lambda: bool(comparison.choice.error), timeout=60_000)
    assert "different files" in dock.choice.message.text()
    qtbot.wait(50)
    tick(dock.choice.copies)
    click(dock.choice.compare_button)
    qtbot.waitUntil(lambda: comparison.choice.compared is not None, timeout=60_000)
    layer = difference_layer(viewer)
    assert layer is not None and layer.visible
    assert session.state.overlay is None, "one map at a time"
    qtbot.wait(150)
    region = next(r for r in comparison.choice.regions if r.peak < 0)  # only A has ink there
    y, x = (np.array(region.centre) - 0.5) * 0.5
    limit = comparison.choice.compared.difference.scale.limit
    share = np.clip(region.peak / limit, -0.999, 0.999) / 2 + 0.5
    color = difference_colormap().map(np.array([share]))[0]
    alpha = color[3] * layer.opacity
    np.testing.assert_allclose(
        pixel(viewer, y, x), 255 * color[:3] * alpha + np.array(INK) * (1 - alpha), atol=8
    )
    viewer.scene.camera.center = (0, 10.0, 10.0)
    table, row = dock.regions.list, comparison.choice.regions.index(region)
    dock.scroll_area.ensureWidgetVisible(table)
    qtbot.wait(100)
    spot = table.visualItemRect(table.item(row, 1)).center()
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=spot)
    goal = (np.array(region.box[:2]) + np.array(region.box[2:]) / 2 - 0.5) * 0.5
    qtbot.waitUntil(lambda: np.allclose(viewer.scene.camera.center[-2:], goal), timeout=30_000)
    tick(dock.difference.show_box)
    assert not layer.visible
    layer.visible = True  # the eye icon
    assert dock.difference.show_box.isChecked()
    session.set_overlay(Overlay.OOD)
    assert not layer.visible and not dock.difference.show_box.isChecked()
    click(dock.regions.by.button(By.CLASS))
    assert table.rowCount() == len(comparison.choice.regions)
    viewer.window.remove_dock_widget(dock)
    again = viewer.window.add_plugin_dock_widget("napari-ood", "OOD compare runs")[1]
    qtbot.wait(50)
    assert again.difference.isVisible() and again.comparison.choice.by is By.CLASS
