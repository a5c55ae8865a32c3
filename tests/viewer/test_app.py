"""Samples, preference, waiting, and the window that the command line opens."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.settings import get_settings

from napari_ood import Bundle, open_slide, run_slide
from napari_ood.errors import DownloadError, RunError
from napari_ood.samples import load_truth, write_synthetic_slide
from napari_ood.viewer.bridge import bridge_of
from napari_ood.viewer.plugin import sample_synthetic_he
from napari_ood.viewer.preference import SLIDE_PATTERNS, opens_slides, set_opens_slides

from .conftest import needs_display


@pytest.fixture(scope="module")
def procedural(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_slide(tmp_path_factory.mktemp("sample") / "small.ome.tif", size=1024)


def test_the_sample_slide_comes_with_its_truth(
    procedural: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "napari_ood.samples.slide_file.synthetic_slide", lambda on_progress=None: procedural
    )
    viewer = ViewerModel()
    bridge_of(viewer)
    for data in sample_synthetic_he():
        viewer._add_layer_from_data(*data)
    slide, truth = viewer.layers
    assert bridge_of(viewer).session.state.slide.name == "small"
    assert not truth.visible
    assert not truth.editable
    assert truth.contour > 0
    half_pixel = truth.scale / 2
    np.testing.assert_allclose(truth.extent.world[1] + half_pixel, slide.extent.world[1], atol=0.5)
    for label, kind in load_truth(procedural).kinds.items():
        assert truth.features["planted"][label] == kind


def test_the_preference_is_set_and_taken_back_without_touching_others() -> None:
    plugins = get_settings().plugins
    before = plugins.extension2reader
    try:
        plugins.extension2reader = {"*.png": "someone", "*.svs": "someone"}
        assert not opens_slides()
        set_opens_slides(True)
        assert opens_slides()
        assert plugins.extension2reader["*.png"] == "someone"
        set_opens_slides(False)
        assert plugins.extension2reader == {"*.png": "someone"}
    finally:
        plugins.extension2reader = before
    assert not any(p in ("*.png", "*.tif", "*.zarr") for p in SLIDE_PATTERNS)


@needs_display
def test_waiting_keeps_the_window_alive_and_passes_errors_on(qtbot: Any) -> None:
    from qtpy.QtCore import QTimer

    from napari_ood.viewer.waiting import SOON_S, with_progress

    beats: list[None] = []
    timer = QTimer()
    timer.timeout.connect(lambda: beats.append(None))
    timer.start(10)

    def work(tell: Callable[[float], None]) -> str:
        for share in (0.5, 1.0):  # first without a dialog, then behind one
            before, until = len(beats), time.monotonic() + 60
            while len(beats) < before + 5:
                assert time.monotonic() < until, "the window stands still"
                time.sleep(0.01)
            tell(share)
            time.sleep(1.5 * SOON_S)
        return "done"

    assert with_progress("Working…", work) == "done"

    def fail(tell: Callable[[float], None]) -> str:
        raise DownloadError("no connection: connect to the internet")

    with pytest.raises(DownloadError, match="no connection"):
        with_progress("Working…", fail)
    timer.stop()


@needs_display
def test_the_demo_window_is_photographed(
    make_napari_viewer: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    procedural: Path,
    tiny_bundle: Bundle,
    tmp_path: Path,
) -> None:
    from PIL import Image

    from napari_ood.viewer import app

    monkeypatch.setattr("napari.Viewer", make_napari_viewer)
    monkeypatch.setattr(app, "WINDOW_PX", (1200, 780))
    with pytest.raises(RunError, match="no run to show"):
        app.demo_window(tmp_path, show=False)
    with open_slide(procedural) as slide:
        run_slide(slide, tiny_bundle, tmp_path / "small.ood.zarr", device="cpu")
    picture = app.demo_window(tmp_path, show=False)
    assert picture == tmp_path / "screenshot.png"
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert pixels.shape[1] >= 1000
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1000, "a slide was drawn"
