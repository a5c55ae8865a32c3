"""Thresholds, scores, temperatures and masks on a bare ViewerModel: no Qt, no network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_ood import Bundle, Slide, open_run, open_slide
from napari_ood.analysis import ScoredRun
from napari_ood.inference.plan import Plan
from napari_ood.inference.store import RunWriter, shards
from napari_ood.scores.thresholds import Meaning, coverage_threshold, value_threshold
from napari_ood.slides import TileGrid
from napari_ood.viewer.bridge import Bridge, bridge_of
from napari_ood.viewer.combined import ALPHA, combine, fade_table
from napari_ood.viewer.figure import make_figure
from napari_ood.viewer.flags import cells_per_tile
from napari_ood.viewer.geometry import map_placement
from napari_ood.viewer.layers import (
    is_flags,
    make_layer,
    maps_of,
    overlay_layer_data,
    slide_layer_data,
)
from napari_ood.viewer.maps import FLAGGED, Maps, Overlay
from napari_ood.viewer.sets import SetsAsked
from napari_ood.viewer.study import Study

from .conftest import write_slide
from .test_bridge import overlays

Finished = Callable[[Bridge], None]
OOD, UNCERTAINTY = Overlay.OOD, Overlay.UNCERTAINTY


@pytest.fixture
def done(slide: Slide, finished: Finished, monkeypatch: pytest.MonkeyPatch) -> ViewerModel:
    """A viewer with a finished run; from here on the network must not be run."""
    model = ViewerModel()
    bridge_of(model)
    model.add_layer(make_layer(slide_layer_data(slide)))
    finished(bridge_of(model))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(Bundle, "network", refuse)
    monkeypatch.setattr("napari_ood.inference.run_slide", refuse)
    return model


def settle(bridge: Bridge) -> None:
    """Let what is worked out in threads come to its end."""
    while bridge.session.follow():
        pass


def flags(viewer: ViewerModel) -> Layer:
    return next(layer for layer in viewer.layers if is_flags(layer))


def flagged_tiles(layer):
    """Which tiles the outline goes around, whose cells agree; the layer lies where the tiles do."""
    maps = maps_of(layer)
    (rows, cols), place = maps.shape, map_placement(maps.grid, maps.mpp)
    n = layer.data.shape[0] // rows
    np.testing.assert_allclose(np.array(layer.scale) * n, place.scale)
    first = np.array(layer.translate) + np.array(layer.scale) * (n - 1) / 2
    np.testing.assert_allclose(first, place.translate, err_msg="the middle of the first tile")
    cells = layer.data.reshape(rows, n, cols, n)
    assert (cells == cells[:, :1, :, :1]).all()
    return cells[:, 0, :, 0] == FLAGGED


def store(folder: Path, bundle: Bundle, logits: np.ndarray) -> Path:
    """A stored run of one row of tiles with these logits [N, M, C]; features of a held-out tile."""
    n = len(logits)
    grid = TileGrid.over((64, 64 * max(n, 1)), 32, (2.0, 2.0))
    tissue = np.ones((1, max(n, 1)), bool) if n else np.zeros((1, 1), bool)
    record = {
        "identity": {},
        "slide": {"name": "strip", "path": "strip.tif", "mpp": [0.5, 0.5], "fingerprint": "0"},
        "bundle": {
            "name": bundle.name,
            "path": str(bundle.path),
            "hashes": dict(bundle.hashes),
            "card": bundle.card.to_config(),
        },
        "sessions": [],
    }
    known = bundle.require_reference().validation_features
    path = folder / f"strip-{n}.ood.zarr"
    plan = Plan(grid, tissue, (1, 32))
    heads, classes = bundle.card.n_heads, len(bundle.card.classes)
    writer = RunWriter.create(path, plan, heads, classes, known.shape[1], record)
    for shard in shards(tissue.shape, (1, 32)):
        columns = np.arange(shard.left, min(shard.right, n))
        if len(columns):
            index = np.stack([np.zeros_like(columns), columns], axis=1)
            writer.write(shard, index, logits[columns], known[np.zeros(len(columns), int)])
    return path


def shown(path: Path, bundle: Bundle) -> ViewerModel:
    """A viewer with the overlays of a stored run."""
    viewer = ViewerModel()
    bridge_of(viewer)
    maps = Maps.of_run(open_run(path), bundle)
    for data in overlay_layer_data(maps, None, "strip"):
        viewer.add_layer(make_layer(data))
    return viewer


def test_a_threshold_keeps_95_percent_until_it_is_moved(done: ViewerModel, tiny_bundle: Bundle):
    session = bridge_of(done).session
    threshold = session.state.thresholds[OOD]
    assert (threshold.meaning, threshold.parameter) == (Meaning.KEEP, 0.95)
    familiar = tiny_bundle.require_reference().validation_scores(threshold.score)
    assert np.mean(familiar <= threshold.value32) >= 0.95
    assert np.mean(familiar < threshold.value32) < 0.95
    scores = session.state.maps.scores[OOD]
    layer = flags(done)
    assert layer.visible
    np.testing.assert_array_equal(flagged_tiles(layer), scores > threshold.value32)
    value = float(np.nanmedian(scores))
    session.set_threshold(OOD, value_threshold(threshold.score, value))
    np.testing.assert_array_equal(flagged_tiles(layer), scores > np.float32(value))
    assert (flagged_tiles(layer)).any() and not flagged_tiles(layer).all()
    session.reset_threshold(OOD)
    assert session.state.thresholds[OOD] == threshold


def test_each_overlay_has_its_own_threshold_and_combined_has_that_of_ood(done: ViewerModel):
    session, layer = bridge_of(done).session, flags(done)
    maps = session.state.maps
    session.set_threshold(OOD, value_threshold(maps.scales[OOD].score, -1.0))
    assert (flagged_tiles(layer)).all(), "every tile of this slide has tissue"
    session.set_overlay(UNCERTAINTY)
    limit = session.state.thresholds[UNCERTAINTY].value32
    np.testing.assert_array_equal(flagged_tiles(layer), maps.scores[UNCERTAINTY] > limit)
    session.set_overlay(Overlay.COMBINED)
    assert (flagged_tiles(layer)).all() and layer.visible
    for overlay in (Overlay.PREDICTION, None):
        session.set_overlay(overlay)
        assert not layer.visible


def test_the_outline_follows_its_eye_icon_and_its_width_the_zoom(done: ViewerModel):
    session, layer = bridge_of(done).session, flags(done)
    layer.visible = False
    assert not session.state.outlined
    session.set_overlay(UNCERTAINTY)
    assert not layer.visible
    session.set_outlined(True)
    assert layer.visible
    flagged, cells = flagged_tiles(layer), []
    for zoom in (0.05, 0.2, 1.0, 10.0):
        done.scene.camera.zoom = zoom
        width = np.diff(layer.contrast_limits).item() / FLAGGED
        cell = layer.scale[0] * zoom
        assert np.mean(layer.contrast_limits) == pytest.approx(FLAGGED / 2)
        assert width > 0.9 if cell < 3 else width * cell == pytest.approx(3, rel=0.2), "pixels"
        np.testing.assert_array_equal(flagged_tiles(layer), flagged)
        cells.append(round(32 / layer.scale[0]))
    assert cells == [1, 2, 8, 8], "corners are sharp where a tile is large"


def test_the_outline_is_as_fine_as_screen_and_memory_allow() -> None:
    assert [cells_per_tile(px, (43, 43)) for px in (2, 6, 12, 23, 24, 500)] == [1, 2, 4, 4, 8, 8]
    assert [cells_per_tile(500, (n, n)) for n in (256, 500, 1000, 2000)] == [8, 4, 2, 1]
    assert cells_per_tile(500, (2, 3000)) == 2


def test_tiles_that_are_not_flagged_can_be_hidden(done: ViewerModel):
    session, layer = bridge_of(done).session, overlays(done)[OOD]
    scores, own = session.state.maps.scores[OOD], layer.data
    session.set_flagged_only(True)
    for value in np.nanquantile(scores, [0.3, 0.8]):
        session.set_threshold(OOD, value_threshold(session.state.scales[OOD].score, float(value)))
        hidden = ~(scores > np.float32(value))
        np.testing.assert_array_equal(np.isnan(layer.data), hidden)
        np.testing.assert_array_equal(layer.data[~hidden], scores[~hidden])
    session.set_overlay(UNCERTAINTY)
    assert layer.data is own, "what is not seen is whole again"
    session.set_flagged_only(False)
    assert overlays(done)[UNCERTAINTY].data is session.state.maps.scores[UNCERTAINTY]


def test_another_score_comes_from_stored_arrays_and_keeps_the_meaning(done: ViewerModel):
    bridge = bridge_of(done)
    session = bridge.session
    maps, path = session.state.maps, session.state.maps.path
    expected = open_run(path)
    scored = session.scored(maps)
    session.set_threshold(UNCERTAINTY, scored.threshold("entropy", Meaning.COVERAGE, 0.7))
    session.set_score(UNCERTAINTY, "disagreement")
    assert session.state.studying
    settle(bridge)
    assert maps.scales[UNCERTAINTY].score == "disagreement"
    np.testing.assert_array_equal(maps.scores[UNCERTAINTY], expected.map("disagreement"))
    layer = overlays(done)[UNCERTAINTY]
    scale = session.state.scales[UNCERTAINTY]
    assert tuple(layer.contrast_limits) == pytest.approx((scale.low, scale.high))
    threshold = session.state.thresholds[UNCERTAINTY]
    assert (threshold.score, threshold.meaning) == ("disagreement", Meaning.COVERAGE)
    assert np.mean(expected.score("disagreement") <= threshold.value32) >= 0.7
    fade = scale.share_of_bar(maps.scores[UNCERTAINTY])
    table = fade_table(maps.colors)
    np.testing.assert_array_equal(maps.combined, combine(maps.prediction, fade, table))


def test_a_temperature_changes_logit_scores_and_none_other(done: ViewerModel):
    bridge = bridge_of(done)
    session, maps = bridge.session, bridge.session.state.maps
    before = {o: maps.scores[o].copy() for o in (OOD, UNCERTAINTY)}
    own = session.scored(maps).temperature
    session.set_temperature(4 * own)
    settle(bridge)
    assert session.state.temperature == 4 * own == session.scored(maps).temperature
    assert np.nanmin(maps.scores[UNCERTAINTY] - before[UNCERTAINTY]) > 0, "more cautious"
    np.testing.assert_array_equal(maps.scores[OOD], before[OOD])
    familiar = session.scored(maps).familiar("entropy")
    assert np.mean(familiar <= session.state.thresholds[UNCERTAINTY].value32) >= 0.95
    assert session.state.figures[UNCERTAINTY].temperature == 4 * own
    session.set_temperature(None)
    settle(bridge)
    assert session.state.temperature is None
    np.testing.assert_allclose(maps.scores[UNCERTAINTY], before[UNCERTAINTY], rtol=1e-5)


def test_the_latest_wish_counts_and_a_threshold_moved_meanwhile_stays(
    done: ViewerModel, monkeypatch: pytest.MonkeyPatch
):
    bridge = bridge_of(done)
    session, maps = bridge.session, bridge.session.state.maps
    # Every study is held back until it is looked at for the second time.
    looks: dict[int, int] = {}
    alive = Study.alive.fget

    def slow(study: Study) -> bool:
        looks[id(study)] = looks.get(id(study), 0) + 1
        return looks[id(study)] < 2 or alive(study)

    monkeypatch.setattr(Study, "alive", property(slow))
    session.set_score(UNCERTAINTY, "msp")
    session.follow()
    session.set_score(UNCERTAINTY, "disagreement")
    session.set_temperature(2.0)
    moved = value_threshold(maps.scales[OOD].score, 1.25)
    session.set_threshold(OOD, moved)
    settle(bridge)
    assert maps.scales[UNCERTAINTY].score == "disagreement"
    assert session.state.temperature == 2.0
    assert session.state.thresholds[OOD].value == 1.25
    assert not session.state.studying


def test_a_wrong_temperature_is_one_message_and_changes_nothing(done: ViewerModel):
    session = bridge_of(done).session
    told: list[str] = []
    session.failed.disconnect()
    session.failed.connect(told.append)
    session.set_temperature(-1.0)
    assert len(told) == 1 and "temperature" in told[0]
    assert session.state.temperature is None and not session.state.studying


def test_slides_of_one_bundle_share_thresholds_but_not_coverages(done: ViewerModel, tmp_path: Path):
    session = bridge_of(done).session
    first, name = session.state.slide, session.state.scales[OOD].score
    session.set_threshold(OOD, value_threshold(name, 3.5))
    covered = coverage_threshold("entropy", np.arange(10.0), 0.5)
    session.set_threshold(UNCERTAINTY, covered)
    done.add_layer(make_layer(slide_layer_data(open_slide(write_slide(tmp_path / "b.tif")))))
    assert session.state.thresholds == {}, "nothing was run on it"
    second = session.state.slide
    maps = Maps.of_run(open_run(session.state.results[0].maps.path), session.state.bundle)
    session.show(second, maps)
    assert session.state.thresholds[OOD].value == 3.5
    assert session.state.thresholds[UNCERTAINTY].meaning is Meaning.KEEP
    session.set_threshold(OOD, value_threshold(name, 4.5))
    session.choose_slide(first)
    assert session.state.thresholds[OOD].value == 4.5
    assert session.state.thresholds[UNCERTAINTY] == covered


def test_prediction_sets_outline_tiles_that_are_not_one_class(done: ViewerModel):
    bridge = bridge_of(done)
    session, maps = bridge.session, bridge.session.state.maps
    session.set_sets(SetsAsked(0.3, "aps"))
    settle(bridge)
    scored = session.scored(maps)
    sizes = scored.conformal(0.3, "aps").sets(scored.probabilities()).sum(axis=1)
    sets = session.state.sets
    assert sets.counts == ((sizes == 0).sum(), (sizes == 1).sum(), (sizes > 1).sum())
    session.set_sets_outlined(True)
    np.testing.assert_array_equal(flagged_tiles(flags(done)), scored.on_grid(sizes != 1, False))
    session.set_sets(SetsAsked(0.001, "lac"))
    settle(bridge)
    assert "held-out tiles" in session.state.sets.words(), "too few of them for such a promise"
    assert not (flagged_tiles(flags(done))).any()


def test_a_run_that_goes_on_is_not_offered_and_a_deleted_one_neither(
    done: ViewerModel, tiny_bundle: Bundle
):
    session = bridge_of(done).session
    maps = session.state.maps
    assert isinstance(session.scored(maps), ScoredRun)
    assert session.scored(maps) is session.scored(maps)
    assert session.scored(None) is None
    other = Maps(maps.grid, maps.mpp, tiny_bundle.card, tiny_bundle, maps.path.with_name("gone"))
    assert session.scored(other) is None


@pytest.mark.parametrize("kind", ["none", "one", "nan", "constant"])
def test_few_missing_and_constant_scores(kind: str, tmp_path: Path, tiny_bundle: Bundle):
    shape = (tiny_bundle.card.n_heads, len(tiny_bundle.card.classes))
    n = {"none": 0, "one": 1, "nan": 40, "constant": 40}[kind]
    logits = np.zeros((n, *shape), np.float32)
    if kind == "nan":
        logits[::2] = np.random.default_rng(0).normal(size=(20, *shape))
        logits[1::2] = np.nan
    viewer = shown(store(tmp_path, tiny_bundle, logits), tiny_bundle)
    bridge = bridge_of(viewer)
    session = bridge.session
    session.study()
    settle(bridge)
    figure = session.state.figures[UNCERTAINTY]
    assert figure.low < figure.high and np.isfinite(figure.edges).all()
    assert figure.counts.sum() == pytest.approx(1.0 if n else 0.0)
    assert figure.familiar.sum() == pytest.approx(1.0)
    session.set_overlay(UNCERTAINTY)
    session.set_threshold(UNCERTAINTY, value_threshold("entropy", -1.0))
    flagged = flagged_tiles(flags(viewer))
    assert flagged.sum() == (20 if kind == "nan" else n), "a tile without a score is never flagged"
    combined = session.state.maps.combined
    assert (combined[..., 3] > 0).sum() == (20 if kind == "nan" else n), "nor has it a class"


def test_a_bundle_without_reference_has_no_threshold_until_one_is_set(
    tmp_path: Path, tiny_bundle: Bundle
):
    from dataclasses import replace

    shape = (30, tiny_bundle.card.n_heads, len(tiny_bundle.card.classes))
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    path = store(tmp_path, tiny_bundle, logits)
    bare = Bundle(tiny_bundle.path, tiny_bundle.card, tiny_bundle.hashes)
    bare.card = replace(
        bare.card, files={k: v for k, v in bare.card.files.items() if "ref" not in k}
    )
    viewer = shown(path, bare)
    bridge = bridge_of(viewer)
    session = bridge.session
    assert session.state.maps.overlays[-1] is UNCERTAINTY and not session.state.thresholds
    session.set_overlay(UNCERTAINTY)
    assert not flags(viewer).visible
    session.study()
    settle(bridge)
    figure = session.state.figures[UNCERTAINTY]
    assert figure.familiar is None and figure.curve is None
    session.set_score(UNCERTAINTY, "energy")
    settle(bridge)
    scale = session.state.scales[UNCERTAINTY]
    assert not scale.fixed and scale.low < scale.high, "only the slide says what is usual"
    threshold = session.scored(session.state.maps).threshold("energy", Meaning.COVERAGE, 0.5)
    session.set_threshold(UNCERTAINTY, threshold)
    assert (flagged_tiles(flags(viewer))).sum() == 15


def test_the_figure_counts_every_tile_once(done: ViewerModel):
    session = bridge_of(done).session
    maps = session.state.maps
    scored = session.scored(maps)
    for overlay in (OOD, UNCERTAINTY):
        figure = make_figure(maps.scales[overlay], scored)
        values = scored.score(figure.score)
        counts, _ = np.histogram(np.clip(values, figure.low, figure.high), figure.edges)
        np.testing.assert_allclose(figure.counts * len(values), counts, atol=1)
        assert figure.counts.sum() == pytest.approx(1)


def test_hue_is_the_class_and_pale_is_unsure():
    table = fade_table(("#ff0000", "#0000ff"))
    labels = np.array([0, 1, 1, 2, 2], np.uint16)
    fade = np.array([np.nan, 0.0, 1.0, 0.5, np.nan], np.float32)
    alpha = round(255 * ALPHA)
    expected: list[Any] = [
        (0, 0, 0, 0),
        (255, 0, 0, alpha),
        (255, 255, 255, alpha),
        (128, 128, 255, alpha),
        (255, 255, 255, alpha),
    ]
    np.testing.assert_allclose(combine(labels, fade, table).astype(int), expected, atol=3)
