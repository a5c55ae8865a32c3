"""Export from the dock, and napari's Save of an overlay."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel

from napari_ood import Bundle, Slide
from napari_ood.errors import ExportError
from napari_ood.export.files import ExportProgress
from napari_ood.viewer import exporting as module
from napari_ood.viewer import layers as ood_layers
from napari_ood.viewer import writer
from napari_ood.viewer.bridge import Bridge, bridge_of
from napari_ood.viewer.exporting import Exporting, default_out, exporting_of, why_not
from napari_ood.viewer.maps import Overlay

from .conftest import needs_display

WAIT_S = 60.0


@pytest.fixture
def shown(slide: Slide, finished: Callable[[Bridge], None]) -> Bridge:
    """A viewer with a finished run."""
    viewer = ViewerModel()
    bridge = bridge_of(viewer)
    viewer.add_layer(ood_layers.make_layer(ood_layers.slide_layer_data(slide)))
    finished(bridge)
    bridge.test_viewer = viewer  # type: ignore[attr-defined]  # a bridge holds its viewer weakly
    return bridge


def export(bridge: Bridge, formats: set[str], folder: Path) -> Exporting:
    exporting = exporting_of(bridge)
    for name in module.TITLES:
        exporting.set_format(name, name in formats)
    exporting.set_folder(folder)
    exporting.start(bridge.session)
    return exporting


def test_the_thresholds_on_screen_decide_what_is_exported(shown: Bridge, tmp_path: Path) -> None:
    from napari_ood.scores.thresholds import Meaning, Threshold

    session = shown.session
    scored = session.scored(session.state.maps)
    assert scored is not None
    scores = scored.score("ood")
    value = float(np.median(scores))
    session.set_threshold(Overlay.OOD, Threshold(scored.roles["ood"], value, Meaning.VALUE))
    exporting = export(shown, {"csv", "geojson"}, tmp_path / "out")
    assert exporting.order.busy
    assert exporting.wait(WAIT_S)
    assert not exporting.poll()
    order = exporting.order
    assert order.error == "" and order.written and all(path.exists() for path in order.written)
    assert {path.parent for path in order.written} == {tmp_path / "out"}
    table = next(path for path in order.written if path.suffix == ".csv")
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    flag = next(name for name in rows[0] if "ood" in name and "flag" in name)
    n_flagged = sum(row[flag] in ("1", "true", "True") for row in rows)
    assert n_flagged == (scores > np.float32(value)).sum()


def test_cancel_keeps_what_is_finished_and_says_so(
    shown: Bridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, cancelled = module.export_run, threading.Event()

    def with_a_rest(*args: Any, on_progress: Any, **more: Any) -> Any:
        def listen(progress: ExportProgress) -> None:
            on_progress(progress)
            assert progress.format != "csv" or cancelled.wait(WAIT_S)

        return real(*args, on_progress=listen, **more)

    monkeypatch.setattr(module, "export_run", with_a_rest)
    exporting = export(shown, {"geojson", "csv"}, tmp_path / "out")
    deadline = time.monotonic() + WAIT_S
    while exporting.order.progress is None or exporting.order.progress.format != "csv":
        exporting.poll()
        assert time.monotonic() < deadline
    exporting.cancel()
    cancelled.set()
    assert exporting.order.cancelling
    assert exporting.wait(WAIT_S)
    assert not exporting.poll()
    assert exporting.order.notes[-1].startswith("Cancelled.")
    assert list((tmp_path / "out").glob("*.geojson"))
    assert not list((tmp_path / "out").glob("*.csv")) and not exporting.order.written


def test_why_nothing_can_be_exported(shown: Bridge) -> None:
    empty = bridge_of(viewer := ViewerModel())
    assert "no result yet" in why_not(empty.session, exporting_of(empty).order)
    exporting = exporting_of(shown)
    for name in module.TITLES:
        exporting.set_format(name, False)
    assert why_not(shown.session, exporting.order) == "Tick what is to be written."
    del viewer


def overlay_data(bridge: Bridge, overlay: Overlay) -> Any:
    maps = bridge.session.state.maps
    layer = next(x for x in bridge._maps.of(maps) if ood_layers.overlay_of(x) is overlay)
    return layer.as_layer_data_tuple()


def test_save_writes_what_the_overlay_means(shown: Bridge, tmp_path: Path) -> None:
    ood = overlay_data(shown, Overlay.OOD)
    prediction = overlay_data(shown, Overlay.PREDICTION)
    (regions,) = writer.write_geojson(str(tmp_path / "r.geojson"), [ood])
    (classes,) = writer.write_geojson(str(tmp_path / "p.geojson"), [prediction])
    found = [json.loads(Path(p).read_text("utf-8"))["features"] for p in (regions, classes)]
    assert len(found[0]) and len(found[1])
    kinds = [{f["properties"]["classification"]["name"] for f in fs} for fs in found]
    assert kinds[1] <= {"red", "green", "blue"}
    assert not kinds[0] & kinds[1]
    (table,) = writer.write_csv(str(tmp_path / "t.csv"), [ood])
    n = shown.session.scored(shown.session.state.maps).run.n_tiles  # type: ignore[union-attr]
    assert len(Path(table).read_text("utf-8").splitlines()) == n + 1
    with pytest.raises(ExportError, match="only overlays"):
        writer.write_csv(str(tmp_path / "x.csv"), [(np.zeros((4, 4)), {"name": "x"}, "image")])
    with pytest.raises(ExportError, match=r"^2 layers are selected.*select one"):
        writer.write_geojson(str(tmp_path / "two.geojson"), [ood, prediction])


def tick(box: Any) -> None:
    """Click a check box on its square: beside its text it takes no clicks."""
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    assert box.isVisible() and box.isEnabled()
    QTest.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))


@needs_display
def test_export_in_a_window(
    make_napari_viewer: Callable[..., Any],
    slide_path: Path,
    tiny_bundle: Bundle,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from qtpy.QtGui import QDesktopServices

    from .test_window import click

    viewer = make_napari_viewer(show=True, strict_qt="raise")
    dock = viewer.window.add_plugin_dock_widget("napari-ood", "OOD export")[1]
    assert "no result yet" in dock.intro.text()
    assert not dock.export_button.isVisible()
    viewer.open(slide_path, plugin="napari-ood")
    session = dock.bridge.session
    session.use_bundle(tiny_bundle)
    assert dock.bridge.run()
    qtbot.waitUntil(lambda: not dock.bridge.tick(), timeout=60_000)
    qtbot.waitUntil(lambda: dock.export_button.isEnabled(), timeout=60_000)
    assert "OOD: keeps 95 %" in dock.threshold_text.text()
    for name in ("csv", "report", "geojson"):
        if dock.boxes[name].isChecked() != (name == "csv"):
            tick(dock.boxes[name])
    assert dock.exporting.order.formats == {"csv"}
    click(dock.export_button)
    assert dock.cancel_button.isEnabled()
    qtbot.waitUntil(lambda: dock.result.isVisible(), timeout=60_000)
    out = default_out(session.state.maps.path)
    assert "half.tiles.csv" in dock.written.text().replace("\u200b", "")
    assert (out / "half.tiles.csv").is_file()
    assert dock.boxes["csv"].isChecked(), "ticks stay for the next export"
    opened: list[Any] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    click(dock.open_button)
    assert Path(opened[0].toLocalFile()) == out
    check_save(dock.bridge, out)


def check_save(bridge: Bridge, folder: Path) -> None:
    """napari offers the formats for an overlay, and saves other images as before."""
    from napari.plugins._npe2 import file_extensions_string_for_layers

    maps = bridge.session.state.maps
    assert maps is not None
    ood = next(x for x in bridge._maps.of(maps) if ood_layers.overlay_of(x) is Overlay.OOD)
    offered, _ = file_extensions_string_for_layers([ood])
    assert offered is not None
    for ending in (".geojson", ".csv", ".parquet", ".ome.tif", ".ome.zarr"):
        assert f"*{ending}" in offered
    assert ood.save(str(folder / "ood.ome.tif")) == [str(folder / "ood.ome.tif")]
    with tifffile.TiffFile(folder / "ood.ome.tif") as tif:
        assert tif.is_ome and tif.series[0].shape[-2:] == maps.shape
    plain = ood_layers.Image(np.arange(12, dtype=np.uint8).reshape(3, 4), name="plain")
    for name in ("plain.ome.tif", "plain"):
        (written,) = plain.save(str(folder / name))
        np.testing.assert_array_equal(tifffile.imread(written), plain.data)
