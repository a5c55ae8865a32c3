"""Bundles that tell foreign appearance from foreign tissue; and those that don't."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_ood import Bundle, Slide, open_run
from napari_ood.viewer.bridge import Bridge, bridge_of
from napari_ood.viewer.layers import make_layer, slide_layer_data
from napari_ood.viewer.maps import KINDS, Maps, Overlay
from napari_ood.viewer.plugin import read_run

from .conftest import finish, needs_display
from .test_bridge import overlays

ALL = list(Overlay)
PLAIN = [overlay for overlay in Overlay if overlay not in KINDS]


@pytest.fixture
def viewer(slide: Slide) -> ViewerModel:
    model = ViewerModel()
    bridge_of(model)
    model.add_layer(make_layer(slide_layer_data(slide)))
    return model


def run(bridge: Bridge, bundle: Bundle) -> Maps:
    bridge.session.use_bundle(bundle)
    assert bridge.run()
    finish(bridge)
    maps = bridge.session.state.maps
    assert maps is not None
    return maps


def test_both_kinds_are_layers_below_ood_with_ranges_of_their_own(
    viewer: ViewerModel, two_kinds_bundle: Bundle
) -> None:
    maps = run(bridge_of(viewer), two_kinds_bundle)
    found = overlays(viewer)
    assert list(found) == ALL
    assert [x.visible for x in found.values()] == [False] * 5 + [True]
    assert found[Overlay.TISSUE].name == "OOD: tissue · half"
    assert maps.path is not None
    stored, reference = open_run(maps.path), two_kinds_bundle.require_reference()
    for kind in (*KINDS, Overlay.OOD):
        np.testing.assert_array_equal(found[kind].data, stored.map(kind.value))
        expected = reference.display_range(two_kinds_bundle.card.scores[kind.value])
        np.testing.assert_allclose(found[kind].contrast_limits, expected)


def test_the_chosen_kind_is_the_visible_layer(
    viewer: ViewerModel, two_kinds_bundle: Bundle
) -> None:
    session = bridge_of(viewer).session
    run(bridge_of(viewer), two_kinds_bundle)
    session.set_overlay(Overlay.TISSUE)
    found = overlays(viewer)
    assert [o for o, layer in found.items() if layer.visible] == [Overlay.TISSUE]
    session.set_opacity(0.4)
    assert found[Overlay.TISSUE].opacity == pytest.approx(0.4)
    assert found[Overlay.OOD].opacity == pytest.approx(0.9)
    found[Overlay.TISSUE].visible = False
    found[Overlay.APPEARANCE].visible = True
    assert session.state.overlay is Overlay.APPEARANCE


def test_the_readout_names_the_kinds_above_their_threshold(
    viewer: ViewerModel, two_kinds_bundle: Bundle
) -> None:
    from napari_ood.viewer.section_results import readout_text

    maps = run(bridge_of(viewer), two_kinds_bundle)
    reference, scores = two_kinds_bundle.require_reference(), two_kinds_bundle.card.scores
    seen = set()
    for row, col in np.argwhere(maps.prediction):
        readout = maps.readout(row, col)
        assert readout is not None
        above = tuple(
            kind
            for kind in KINDS
            if maps.scores[kind][row, col] > reference.quantile(scores[kind.value], 0.95)
        )
        assert readout.foreign == above
        assert readout.value(Overlay.TISSUE) == maps.scores[Overlay.TISSUE][row, col]
        seen.add(above)
        words = " and ".join(above) or "neither"
        assert f"\nForeign: {words} (appearance " in readout_text(readout)
    assert () in seen and any(seen)
    only = replace(readout, foreign=(Overlay.TISSUE,))
    assert re.search(r"^Foreign: tissue \(appearance \S+, tissue \S+\)$", readout_text(only), re.M)


def test_a_stored_run_opens_with_both_kinds(viewer: ViewerModel, two_kinds_bundle: Bundle) -> None:
    maps = run(bridge_of(viewer), two_kinds_bundle)
    fresh = ViewerModel()
    bridge_of(fresh)
    for data in read_run(str(maps.path)):
        fresh._add_layer_from_data(*data)
    found = overlays(fresh)
    assert list(found) == ALL and found[Overlay.OOD].visible
    for kind in KINDS:
        np.testing.assert_array_equal(found[kind].data, maps.scores[kind])


def test_changing_between_bundles_with_and_without_the_two_kinds(
    viewer: ViewerModel, two_kinds_bundle: Bundle, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    bridge = bridge_of(viewer)
    bridge.session.set_folder(tmp_path)
    run(bridge, two_kinds_bundle)
    bridge.session.set_overlay(Overlay.TISSUE)
    plain = run(bridge, tiny_bundle)
    assert list(overlays(viewer)) == PLAIN
    assert bridge.session.state.overlay is Overlay.OOD and overlays(viewer)[Overlay.OOD].visible
    readout = plain.readout(*np.argwhere(plain.prediction)[0])
    assert readout is not None and not readout.kinds and not readout.foreign
    assert readout.value(Overlay.TISSUE) is None
    run(bridge, two_kinds_bundle)
    assert list(overlays(viewer)) == ALL


def test_without_its_reference_only_scores_with_bounds_of_their_own_are_shown(
    viewer: ViewerModel, two_kinds_bundle: Bundle
) -> None:
    """The distance of kNN is bounded, but nothing can compute it without training tiles."""
    maps = run(bridge_of(viewer), two_kinds_bundle)
    scores = {**two_kinds_bundle.card.scores, "ood": "knn@layer1"}
    card = replace(two_kinds_bundle.card, scores=scores)
    bare = Maps(maps.grid, maps.mpp, card, None)
    assert bare.overlays == (Overlay.PREDICTION, Overlay.COMBINED, Overlay.UNCERTAINTY)
    stored = open_run(maps.path)
    bare.fill_from(stored)
    np.testing.assert_array_equal(bare.scores[Overlay.UNCERTAINTY], stored.map("uncertainty"))


@needs_display
def test_the_dock_offers_the_kinds_only_where_there_are_some(
    viewer: ViewerModel, two_kinds_bundle: Bundle, tiny_bundle: Bundle, tmp_path: Path, qtbot
) -> None:
    from napari_ood.viewer.section_results import ResultsSection

    bridge = bridge_of(viewer)
    bridge.session.set_folder(tmp_path)
    section = ResultsSection()
    qtbot.addWidget(section)
    section.show()
    section.overlay_chosen.connect(bridge.session.set_overlay)
    bridge.session.changed.connect(section.show_state)
    run(bridge, two_kinds_bundle)
    assert section.kind.isVisible() and section.kind.button(Overlay.OOD).isChecked()
    section.kind.button(Overlay.TISSUE).click()
    assert bridge.session.state.overlay is Overlay.TISSUE
    assert section.overlay.button(Overlay.OOD).isChecked()
    assert "pathologist" in section.question.text()
    assert section.bar.toolTip() == (
        "Score: distance to training tiles, blind to stain and focus (the last layer; "
        "invariant@penultimate)"
    )
    section.overlay.button(Overlay.UNCERTAINTY).click()
    assert not section.kind.isVisible()
    section.overlay.button(Overlay.OOD).click()
    assert bridge.session.state.overlay is Overlay.OOD and section.kind.isVisible()
    run(bridge, tiny_bundle)
    assert not section.kind.isVisible()
