"""Networks and tiles that maps do not suit, in a window: a clear word, and no wrong picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_ood import Bundle, Slide
from napari_ood.viewer.inspector import NOT_A_NUMBER
from napari_ood.viewer.inspector_state import Tab
from napari_ood.viewer.maps import NO_TILE, Overlay
from napari_ood.viewer.saliency_layer import saliency_layer
from napari_ood.viewer.section_saliency import NO_MAP

from .conftest import needs_display
from .odd_bundles import odd_bundle, overflow
from .test_inspector_window import click_at, inspected, settle
from .test_window import click

pytestmark = needs_display
Open = Callable[[Bundle], tuple[Any, Any]]


@pytest.fixture
def opened(make_napari_viewer: Callable[..., Any], slide: Slide, qtbot: Any) -> Open:
    """Runs a bundle over the slide, and opens the inspector with saliency in front."""

    return lambda bundle: inspected(make_napari_viewer, slide, bundle, qtbot)


def choose_method(dock: Any, title: str, qtbot: Any) -> None:
    """Choose in the list, as a user does."""
    combo = dock.saliency.method
    row = next(i for i in range(combo.count()) if combo.itemText(i).startswith(title))
    combo.setCurrentIndex(row)
    combo.activated.emit(row)
    qtbot.wait(30)


def explained(dock: Any, title: str, qtbot: Any) -> Any:
    """The map that a method gives when it is asked for in the window; None where there is none."""
    choose_method(dock, title, qtbot)
    if not dock.inspector.state.explaining and dock.inspector.state.shown is None:
        click(dock.saliency.explain)
    settle(dock, qtbot)
    return dock.inspector.state.shown


def texts(dock: Any) -> list[str]:
    """The numbers in the inspector's head, and what they are called."""
    return [label.text() for label in dock.tile._labels]


def nothing_is_shown(viewer: Any) -> bool:
    layer = saliency_layer(viewer)
    return layer is None or not layer.visible


def test_a_transformer_has_its_tokens_for_maps(opened: Open, tmp_path: Path, qtbot: Any) -> None:
    viewer, dock = opened(odd_bundle(tmp_path / "vit", "timm:test_vit", 64, "blocks.1"))
    click_at(viewer, (1, 1), qtbot, tile=64)
    settle(dock, qtbot)
    for tab, section in ((Tab.PROTOTYPES, dock.prototypes), (Tab.CAUSE, dock.cause)):
        click(dock.tabs.button(tab))
        qtbot.wait(60)
        assert section.isVisible() and not section.message.isVisible()
    click(dock.tabs.button(Tab.SALIENCY))
    settle(dock, qtbot)
    shown = dock.inspector.state.shown
    assert shown is not None and shown.saliency.layer.startswith("blocks.")
    assert np.ptp(shown.values) > 0 and saliency_layer(viewer).visible
    assert explained(dock, "Guided backprop", qtbot) is None
    text = dock.saliency.message.text()
    assert text.startswith("Guided backprop is defined for ReLUs only") and text.endswith(".")
    assert dock.saliency.message.isVisible() and nothing_is_shown(viewer)
    assert not dock.sanity.randomise.isEnabled(), "there is no map to be tested"


def test_maps_of_one_place_are_no_maps(opened: Open, tmp_path: Path, qtbot: Any) -> None:
    viewer, dock = opened(odd_bundle(tmp_path / "one", "timm:test_vit", 16))
    click_at(viewer, (5, 5), qtbot, tile=16)
    click(dock.tabs.button(Tab.SALIENCY))
    settle(dock, qtbot)
    text = dock.saliency.message.text()
    assert "no layer with maps at 16 px" in text and "such as gradient" in text
    assert dock.inspector.state.shown is None and nothing_is_shown(viewer)
    assert explained(dock, "Gradient", qtbot) is not None and not nothing_is_shown(viewer)
    assert not dock.saliency.message.isVisible(), "what was wrong before is over"


@pytest.mark.slow
def test_functional_relus_are_found(opened: Open, tmp_path: Path, qtbot: Any) -> None:
    """Where they were missed, guided backprop would be the gradient."""
    viewer, dock = opened(odd_bundle(tmp_path / "dense", "napari_ood:mheads_densenet", 64))
    click_at(viewer, (1, 1), qtbot, tile=64)
    click(dock.tabs.button(Tab.SALIENCY))
    settle(dock, qtbot)
    plain, guided = (explained(dock, t, qtbot) for t in ("Gradient", "Guided backprop"))
    assert guided is not None and guided.title.startswith("Guided backprop")
    both = [np.abs(m.values) / np.abs(m.values).max() for m in (plain, guided)]
    assert np.corrcoef(both[0].ravel(), both[1].ravel())[0, 1] < 0.9
    assert (
        "not faithful" in dock.saliency.note.text().lower() or "edge" in dock.saliency.note.text()
    )


@pytest.mark.slow
def test_a_constant_tile_is_said_to_have_nothing(
    opened: Open, tiny_bundle: Bundle, qtbot: Any
) -> None:
    viewer, dock = opened(tiny_bundle)
    click_at(viewer, (3, 12), qtbot)
    click(dock.tabs.button(Tab.SALIENCY))
    settle(dock, qtbot)
    for title in ("Integrated gradients", "Occlusion"):
        shown = explained(dock, title, qtbot)
        assert shown is not None and not shown.values.any(), title
        assert dock.saliency.faint.isVisible() and dock.saliency.faint.text() == NO_MAP
    click(dock.sanity.randomise)
    settle(dock, qtbot)
    assert "nothing to compare" in dock.sanity.correlation.label.text()
    click(dock.sanity.curves)
    settle(dock, qtbot)
    assert "cannot tell" in dock.sanity.verdict.label.text()


def test_answers_that_are_no_numbers_name_no_class(
    opened: Open, tmp_path: Path, qtbot: Any
) -> None:
    bundle = odd_bundle(tmp_path / "overflow", "timm:test_resnet", 32, "layer1", overflow)
    viewer, dock = opened(bundle)
    maps = dock.inspector.state.maps
    bad = np.argwhere(np.isnan(maps.probability))
    assert len(bad) > 20 and maps.counts().sum() == (~np.isnan(maps.probability)).sum()
    cell = (int(bad[0][0]), int(bad[0][1]))
    assert maps.prediction[cell] == NO_TILE and maps.combined[cell][3] == 0
    click_at(viewer, cell, qtbot)
    assert dock.inspector.state.cell is None
    assert dock.tile.note.isVisible() and dock.tile.note.text() == NOT_A_NUMBER
    assert not dock.tile.prediction.isVisible() and not dock.tabs.isVisible()
    click(dock.tile.most_foreign)
    settle(dock, qtbot)
    chosen = dock.inspector.state.cell
    assert chosen is not None and np.isfinite(maps.probability[chosen])
    assert "nan" not in dock.tile.prediction.text()


def test_features_that_are_no_numbers_are_nowhere_foreign(
    opened: Open, tiny_bundle: Bundle, qtbot: Any
) -> None:
    import zarr

    viewer, dock = opened(tiny_bundle)
    maps = dock.inspector.state.maps
    stored = zarr.open_group(maps.path, mode="r+")
    stored["features"][3, 3] = np.nan
    maps.scores[Overlay.OOD][3, 3] = np.nan  # as it is when the run is opened again
    click_at(viewer, (3, 3), qtbot)
    settle(dock, qtbot)
    assert "foreign to the model" not in dock.tile.verdict.text()
    assert "OOD" in texts(dock) and "not a number" in texts(dock)
    click(dock.tabs.button(Tab.PROTOTYPES))
    qtbot.wait(60)
    assert "features are not finite" in dock.prototypes.message.text()
    assert not dock.prototypes.pictures
