"""A bundle that judges whole images, in the viewer: values in the dock, no colour over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from PIL import Image

from napari_ood import Bundle, open_run, open_slide
from napari_ood.viewer import restore
from napari_ood.viewer.bridge import bridge_of
from napari_ood.viewer.checks import check_run
from napari_ood.viewer.layers import TINT, slide_layer_data
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.section_results import image_text
from napari_ood.viewer.section_run import where_text
from napari_ood.viewer.session import Session
from napari_ood.viewer.state import Scope

from .conftest import finish, needs_display


@pytest.fixture
def image_path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    pixels = rng.integers(60, 250, (8, 12, 3), np.uint8)
    path = tmp_path / "lesion.jpg"
    Image.fromarray(pixels).resize((600, 400), Image.Resampling.BICUBIC).save(path, quality=95)
    return path


def test_an_image_without_mpp_can_be_run_at_once(image_path: Path, image_bundle: Bundle) -> None:
    with open_slide(image_path) as image:
        assert image.mpp is None
        assert check_run(image, image_bundle) is None


def test_the_result_is_in_words_and_hides_nothing(image_path: Path, image_bundle: Bundle) -> None:
    viewer = ViewerModel()
    bridge = bridge_of(viewer)
    viewer._add_layer_from_data(*slide_layer_data(open_slide(image_path)))
    bridge.session.use_bundle(image_bundle)
    assert bridge.run()
    finish(bridge)
    state = bridge.session.state
    assert state.maps is not None and state.overlay is None
    assert [x.visible for x in viewer.layers] == [True, False, False, False]
    p = state.maps.image_probabilities
    assert p is not None
    np.testing.assert_allclose(p, open_run(state.maps.path).probabilities()[0])
    readout = state.maps.readout(0, 0)
    assert readout is not None
    text = image_text(state.maps, readout)
    assert text.startswith(f"{image_bundle.card.classes[p.argmax()]} {100 * p.max():.0f} %")
    assert "in-distribution images" in text and "tile" not in text
    assert "Done in" in state.outcome
    assert "beside the image" in where_text(state)
    bridge.session.set_overlay(Overlay.OOD)
    ood = viewer.layers[-1]
    assert ood.visible and ood.opacity == pytest.approx(0.9 * TINT)
    corners = ood.extent.world + np.array([[-0.5], [0.5]]) * ood.scale  # of cells, not centres
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [399.5, 599.5]])


def test_a_part_is_named_and_the_choice_of_overlay_stays(
    image_path: Path, image_bundle: Bundle
) -> None:
    session = Session()
    session.add_slide(open_slide(image_path))
    session.use_bundle(image_bundle)
    for region, overlay in ((None, None), ((100, 200, 200, 150), Overlay.OOD)):
        assert session.start(region)
        assert session.wait(60)
        session.poll()
        assert session.state.overlay is overlay
        session.set_overlay(Overlay.OOD)
    maps = session.state.maps
    assert maps is not None
    readout = maps.readout(0, 0)
    assert readout is not None
    assert image_text(maps, readout).startswith("Part of 150 × 200 px at 200, 100:\n")


def test_an_opened_run_shows_no_overlay_either(image_path: Path, image_bundle: Bundle) -> None:
    session = Session()
    session.add_slide(open_slide(image_path))
    session.use_bundle(image_bundle)
    assert session.start()
    assert session.wait(60)
    session.poll()
    assert session.state.maps is not None and session.state.maps.path is not None
    viewer = ViewerModel()
    bridge = bridge_of(viewer)
    for data in restore.read(session.state.maps.path).layer_data():
        viewer._add_layer_from_data(*data)
    assert [x.visible for x in viewer.layers] == [True, False, False, False]
    assert bridge.session.state.overlay is None
    assert bridge.session.state.maps is not None
    assert bridge.session.state.maps.image_probabilities is not None


@needs_display
def test_the_dock_tells_all_without_pointing(
    make_napari_viewer: Callable[..., Any],
    image_path: Path,
    image_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: Any,
) -> None:
    monkeypatch.setenv("NAPARI_OOD_BUNDLES", str(image_bundle.path.parent))
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1280, 800)
    dock = viewer.window.add_plugin_dock_widget("napari-ood", "OOD")[1]
    viewer.open(image_path, plugin="napari-ood")
    qtbot.waitUntil(lambda: dock.slide.mpp_row.isVisible(), timeout=30_000)
    dock.bridge.session.choose_bundle("tiny-image")
    assert not dock.slide.mpp_row.isVisible(), "the bundle has no use for it"
    assert not dock.slide.warning.isVisible()
    assert dock.run.scope.button(Scope.SLIDE).text() == "Whole image"
    assert "whole images, resized to 32 × 32 px" in dock.bundle.facts.text()
    dock.run.run_button.click()
    qtbot.waitUntil(lambda: not dock.bridge.session.busy, timeout=60_000)
    p = dock.bridge.session.state.maps.image_probabilities
    shown = [row[2].text() for row in dock.results.legend._rows]
    assert shown == [f"{100 * x:.0f} %" for x in sorted(p.tolist(), reverse=True)]
    assert dock.results.legend.isVisible()
    assert "OOD" in dock.results.readout.text()
