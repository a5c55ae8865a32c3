"""Session and layers together on a bare ViewerModel, with the real engine; no Qt."""

from __future__ import annotations

import gc
import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from napari.utils.notifications import notification_manager

from napari_ood import Bundle, Slide, open_run, open_slide
from napari_ood.viewer import restore
from napari_ood.viewer.bridge import Bridge, bridge_of
from napari_ood.viewer.layers import make_layer, maps_of, overlay_of, slide_layer_data
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.plugin import get_reader, read_run, read_slide
from napari_ood.viewer.state import Phase, Scope

from .conftest import SHAPE, finish, write_slide

Finished = Callable[[Bridge], None]
TILE_UM = 32.0
ALL = [Overlay.PREDICTION, Overlay.COMBINED, Overlay.UNCERTAINTY, Overlay.OOD]
N_LAYERS = 2 + len(ALL)
"""Slide, overlays, outline of flagged tiles."""


@pytest.fixture
def viewer(slide: Slide) -> ViewerModel:
    """A viewer with its bridge and the slide."""
    model = ViewerModel()
    bridge_of(model)
    model.add_layer(make_layer(slide_layer_data(slide)))
    return model


def overlays(viewer: ViewerModel) -> dict[Overlay, Layer]:
    return {o: x for x in viewer.layers if (o := overlay_of(x))}


def messages(since: int) -> list[str]:
    return [str(n.message) for n in notification_manager.records[since:]]


def mouse_at(viewer: ViewerModel, y: float, x: float) -> None:
    bridge_of(viewer)._last_hover = 0.0
    for callback in viewer.mouse_move_callbacks:
        callback(viewer, SimpleNamespace(position=(y, x), type="mouse_move"))


def test_a_slide_is_one_pyramid_in_micrometres_with_a_scale_bar(viewer: ViewerModel, slide: Slide):
    layer = viewer.layers[0]
    assert isinstance(layer, Image)
    assert (layer.multiscale, layer.rgb) == (True, True)
    np.testing.assert_allclose(layer.scale, slide.mpp)
    assert [str(u) for u in layer.units] == ["micrometer"] * 2
    assert viewer.canvas.overlays.scale_bar.visible
    assert bridge_of(viewer).session.state.slide is slide
    assert len(viewer.layers) == 1, "associated images stay closed"


def test_a_slide_without_mpp_is_in_pixels_until_it_is_entered(tmp_path: Path):
    viewer = ViewerModel()
    bridge = bridge_of(viewer)
    viewer._add_layer_from_data(*read_slide(str(write_slide(tmp_path / "a.tif", mpp=None)))[0])
    layer = viewer.layers[0]
    assert [str(u) for u in layer.units] == ["pixel"] * 2
    bridge.session.set_mpp(0.25)
    assert viewer.layers[0] is layer
    assert [str(u) for u in layer.units] == ["micrometer"] * 2
    np.testing.assert_allclose(layer.scale, (0.25, 0.25))
    assert bridge.session.state.slide is layer.metadata["napari-ood slide"]


def test_a_run_puts_its_overlays_where_its_tiles_are(viewer: ViewerModel, finished: Finished):
    bridge = bridge_of(viewer)
    finished(bridge)
    found = overlays(viewer)
    assert list(found) == ALL
    assert [x.visible for x in found.values()] == [False, False, False, True]
    assert all([str(u) for u in x.units] == ["micrometer"] * 2 for x in viewer.layers)
    run = open_run(bridge.session.state.maps.path)
    ood = found[Overlay.OOD]
    np.testing.assert_array_equal(ood.data, run.map("ood"))
    np.testing.assert_array_equal(found[Overlay.UNCERTAINTY].data, run.map("uncertainty"))
    np.testing.assert_array_equal(found[Overlay.PREDICTION].data, run.prediction_map() + 1)
    for box, score in zip(run.boxes, run.score("ood"), strict=True):
        centre = (box[:2] + box[2:] / 2 - 0.5) * 0.5
        assert ood.get_value(centre, world=True) == score


def test_colours_are_fixed_by_the_reference_not_by_the_slide(
    viewer: ViewerModel, finished: Finished, tiny_bundle: Bundle
):
    finished(bridge_of(viewer))
    ood = overlays(viewer)[Overlay.OOD]
    assert tiny_bundle.reference is not None
    expected = tiny_bundle.reference.display_range("mahalanobis@layer1")
    np.testing.assert_allclose(ood.contrast_limits, expected)
    nan, low, foreign = ood.colormap.map(np.array([np.nan, 0.0, 1.0]))
    assert nan[3] == low[3] == 0
    assert foreign[3] > 0.7
    assert ood.blending == "translucent_no_depth"
    assert ood.interpolation2d == "nearest"


def test_the_foreign_half_is_more_foreign(viewer: ViewerModel, finished: Finished):
    finished(bridge_of(viewer))
    ood = overlays(viewer)[Overlay.OOD].data
    middle = ood.shape[1] // 2
    assert np.nanmin(ood[:, middle:]) > np.nanmax(ood[:, :middle])


def test_predictions_have_the_colours_of_the_card(
    viewer: ViewerModel, finished: Finished, tiny_bundle: Bundle
):
    finished(bridge_of(viewer))
    layer = overlays(viewer)[Overlay.PREDICTION]
    assert isinstance(layer, Labels)
    assert not layer.editable
    label = int(layer.data.max())
    red, green, blue, alpha = layer.get_color(label)
    expected = tiny_bundle.card.colors[label - 1]
    assert f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}" == expected
    assert alpha == 1
    assert layer.colormap.map(0)[3] == 0


def test_hovering_reads_the_tile_under_the_cursor(viewer: ViewerModel, finished: Finished):
    bridge = bridge_of(viewer)
    finished(bridge)
    maps = bridge.session.state.maps
    mouse_at(viewer, 1.5 * TILE_UM, 10.5 * TILE_UM)
    readout = bridge.session.state.readout
    assert readout == maps.readout(1, 10)
    assert readout.ood == maps.scores[Overlay.OOD][1, 10]
    assert readout.ood_share == 1.0
    assert readout.label == maps.classes[maps.prediction[1, 10] - 1]
    mouse_at(viewer, -5, -5)
    assert bridge.session.state.readout is None


def test_dock_and_eye_icons_agree_on_what_is_visible(viewer: ViewerModel, finished: Finished):
    bridge = bridge_of(viewer)
    finished(bridge)
    found = overlays(viewer)
    bridge.session.set_overlay(Overlay.PREDICTION)
    assert [x.visible for x in found.values()] == [True, False, False, False]
    found[Overlay.PREDICTION].visible = False
    assert bridge.session.state.overlay is None
    found[Overlay.UNCERTAINTY].visible = True
    assert bridge.session.state.overlay is Overlay.UNCERTAINTY
    bridge.session.set_opacity(0.3)
    assert found[Overlay.UNCERTAINTY].opacity == pytest.approx(0.3)
    assert found[Overlay.OOD].opacity == pytest.approx(0.9)


def test_the_current_view_is_the_region_of_the_run(viewer: ViewerModel, tiny_bundle: Bundle):
    bridge = bridge_of(viewer)
    bridge.session.use_bundle(tiny_bundle)
    bridge.session.set_scope(Scope.VIEW)
    viewer.canvas.size = (100, 200)
    viewer.scene.camera.zoom = 1.0
    viewer.scene.camera.center = (80.0, 120.0)
    assert bridge.region_of(Scope.VIEW) == (60, 40, 201, 401)
    assert bridge.run()
    finish(bridge)
    run = open_run(bridge.session.state.maps.path)
    assert run.grid.region == (60, 40, 201, 401)
    viewer.scene.camera.center = (8000.0, 120.0)
    before = len(notification_manager.records)
    assert not bridge.run()
    assert len(messages(before)) == 1


def test_another_run_on_the_slide_takes_over_the_layers(
    viewer: ViewerModel, finished: Finished, tiny_bundle: Bundle
):
    bridge = bridge_of(viewer)
    finished(bridge)
    before = list(viewer.layers)
    first = bridge.session.state.maps
    bridge.session.set_overlay(Overlay.UNCERTAINTY)
    assert bridge.session.start((128, 320, 256, 320))
    finish(bridge)
    second = bridge.session.state.maps
    assert list(viewer.layers) == before
    assert [overlay_of(x) for x in viewer.layers if x.visible] == [None, Overlay.UNCERTAINTY, None]
    assert (first.shape, second.shape) == ((10, 15), (4, 5))
    for overlay, layer in overlays(viewer).items():
        assert maps_of(layer) is second
        assert layer.data is second.array(overlay)
        np.testing.assert_allclose(layer.extent.world[0], (64 + 16 - 0.25, 160 + 16 - 0.25))
        bridge.session.set_overlay(overlay)
        inside = layer.get_value((64 + 16, 160 + 16), world=True)
        np.testing.assert_array_equal(inside, second.array(overlay)[0, 0])


def test_a_drawn_shape_is_the_region_of_the_run(viewer: ViewerModel, tiny_bundle: Bundle):
    bridge = bridge_of(viewer)
    bridge.session.use_bundle(tiny_bundle)
    bridge.session.set_scope(Scope.SHAPE)
    before = len(notification_manager.records)
    assert not bridge.run()
    assert "shape" in messages(before)[0]
    triangle = np.array([[40, 50], [40, 150], [120, 50]]) - 0.25
    viewer.add_shapes([triangle], shape_type="polygon", units=("um", "um"))
    assert bridge.region_of(Scope.SHAPE) == (80, 100, 160, 200)
    assert bridge.run()
    finish(bridge)
    assert open_run(bridge.session.state.maps.path).grid.region == (80, 100, 160, 200)
    assert viewer.layers.selection.active.name == "Shapes", "the selection is left alone"


def test_cancel_keeps_what_is_done_and_run_goes_on(
    viewer: ViewerModel, tiny_bundle: Bundle, held: threading.Event
):
    bridge = bridge_of(viewer)
    session = bridge.session
    session.use_bundle(tiny_bundle)
    assert bridge.run()
    while session.busy and not (session.state.progress and session.state.progress.n_done):
        bridge.tick()
    session.cancel()
    finish(bridge)
    shown = session.state.maps
    stored = open_run(shown.path)
    assert 0 < stored.n_tiles < stored.tissue.sum()
    assert np.isfinite(shown.scores[Overlay.OOD]).sum() == stored.n_tiles
    assert session.state.output.resumes
    assert session.state.phase is Phase.IDLE
    held.set()
    assert bridge.run()
    finish(bridge)
    assert open_run(shown.path).complete
    assert session.state.output.complete
    assert len(overlays(viewer)) == len(ALL), "the old overlays were replaced"


def test_a_stored_run_opens_with_its_slide(viewer: ViewerModel, finished: Finished):
    finished(bridge_of(viewer))
    maps = bridge_of(viewer).session.state.maps
    fresh = ViewerModel()
    bridge = bridge_of(fresh)
    reader = get_reader(str(maps.path))
    assert reader is read_run
    for data in reader(str(maps.path)):
        fresh._add_layer_from_data(*data)
    assert len(fresh.layers) == N_LAYERS
    assert bridge.session.state.slide.path == bridge_of(viewer).session.state.slide.path
    assert bridge.session.state.overlay is Overlay.OOD
    assert bridge.session.state.bundle.name == "tiny"
    for old, new in zip(viewer.layers, fresh.layers, strict=True):
        np.testing.assert_allclose(new.extent.world, old.extent.world)
    shown = bridge.session.state.maps.scores[Overlay.OOD]
    np.testing.assert_array_equal(shown, maps.scores[Overlay.OOD])


def test_a_run_on_an_open_slide_does_not_open_it_again(viewer: ViewerModel, finished: Finished):
    bridge = bridge_of(viewer)
    finished(bridge)
    path, slide = bridge.session.state.maps.path, bridge.session.state.slide
    for data in restore.read(path, bridge.session.state.slides).layer_data():
        viewer._add_layer_from_data(*data)
    assert len(viewer.layers) == N_LAYERS
    assert bridge.session.state.slide is slide
    assert bridge.session.state.maps is maps_of(viewer.layers[-1])


def test_a_run_whose_slide_moved_is_shown_and_can_be_told_where_it_is(
    viewer: ViewerModel, finished: Finished, tmp_path: Path
):
    finished(bridge_of(viewer))
    run_path = bridge_of(viewer).session.state.maps.path
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = Path(shutil.move(tmp_path / "half.tif", elsewhere / "half.tif"))
    other = write_slide(elsewhere / "other.tif", mpp=0.4)
    fresh = ViewerModel()
    bridge = bridge_of(fresh)
    before = len(notification_manager.records)
    for data in read_run(str(run_path)):
        fresh._add_layer_from_data(*data)
    assert len(messages(before)) == 1
    assert "not found" in messages(before)[0]
    assert len(fresh.layers) == N_LAYERS - 1
    bridge.locate(other)
    assert "not the slide" in messages(before)[-1]
    assert len(fresh.layers) == N_LAYERS - 1
    bridge.locate(moved)
    assert len(fresh.layers) == N_LAYERS
    assert bridge.session.state.slide.path == moved
    assert bridge.session.state.maps.path == run_path
    bridge.session.set_overlay(Overlay.PREDICTION)
    assert overlays(fresh)[Overlay.PREDICTION].visible


def test_a_run_without_its_bundle_still_shows_what_logits_can_tell(
    viewer: ViewerModel, tiny_bundle: Bundle, tmp_path: Path
):
    from napari_ood import load_bundle

    copy = load_bundle(Path(shutil.copytree(tiny_bundle.path, tmp_path / "gone")))
    bridge = bridge_of(viewer)
    bridge.session.use_bundle(copy)
    assert bridge.run()
    finish(bridge)
    shutil.rmtree(copy.path)
    before = len(notification_manager.records)
    layers = read_run(str(bridge.session.state.maps.path))
    assert "OOD cannot be shown" in messages(before)[0]
    names = [data[1]["name"].split(" · ")[0] for data in layers[1:]]
    assert names == ["Prediction", "Combined", "Uncertainty", "Flagged"]


def test_what_is_no_slide_is_told_once(tmp_path: Path):
    bad = tmp_path / "bad.svs"
    bad.write_bytes(b"this is not a slide" * 100)
    before = len(notification_manager.records)
    assert read_slide(str(bad)) == [(None,)]
    assert len(messages(before)) == 1
    assert "bad.svs" in messages(before)[0]
    assert "\n" not in messages(before)[0]


def test_the_reader_leaves_to_others_what_is_not_its_own(tmp_path: Path, slide_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").write_text("hello")
    assert get_reader(str(tmp_path / "photos")) is None
    assert get_reader([str(slide_path), str(slide_path)]) is None
    assert get_reader([str(slide_path)]) is read_slide
    dicom = tmp_path / "dicom"
    dicom.mkdir()
    (dicom / "1").write_bytes(bytes(128) + b"DICM")
    assert get_reader(str(dicom)) is read_slide
    (tmp_path / "x.zarr").mkdir()
    assert get_reader(str(tmp_path / "x.zarr")) is read_slide


def test_removing_the_slide_takes_its_overlays_along(viewer: ViewerModel, finished: Finished):
    bridge = bridge_of(viewer)
    finished(bridge)
    viewer.layers.remove(viewer.layers[0])
    assert len(viewer.layers) == 0
    assert bridge.session.state.results == ()


def test_two_slides_keep_their_own_results(viewer: ViewerModel, finished: Finished, tmp_path: Path):
    bridge = bridge_of(viewer)
    finished(bridge)
    first = bridge.session.state.slide
    second = open_slide(write_slide(tmp_path / "second.tif"))
    viewer.add_layer(make_layer(slide_layer_data(second)))
    assert bridge.session.state.slide is second
    assert bridge.session.state.maps is None
    viewer.layers.selection.active = viewer.layers[0]
    assert bridge.session.state.slide is first
    assert bridge.session.state.maps is not None


def test_viewer_session_and_slide_go_together(slide_path: Path):
    viewer = ViewerModel()
    bridge = bridge_of(viewer)
    viewer._add_layer_from_data(*read_slide(str(slide_path))[0])
    gone: list[weakref.ref[Any]] = [
        weakref.ref(x) for x in (viewer, bridge, bridge.session, bridge.session.state.slide)
    ]
    del viewer, bridge
    gc.collect()
    assert [r() for r in gone] == [None] * 4


def test_the_whole_slide_is_covered(viewer: ViewerModel, finished: Finished):
    finished(bridge_of(viewer))
    world = overlays(viewer)[Overlay.OOD].extent.world
    slide_world = viewer.layers[0].extent.world
    assert maps_of(viewer.layers[-1]).shape == (SHAPE[0] // 64, SHAPE[1] // 64)
    assert (world[0] <= slide_world[0] + TILE_UM).all()
    assert (world[1] >= slide_world[1] - TILE_UM).all()
