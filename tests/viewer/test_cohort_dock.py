"""The cohort board in napari: the table by itself, then the real window with mouse and keys."""

from __future__ import annotations

import gc
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from napari import Viewer
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPersistentModelIndex, QPoint, QPointF, Qt
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QApplication

from napari_ood import Bundle, open_slide, run_slide
from napari_ood.board import SlideRow, WorstRegion, drift_of
from napari_ood.viewer.board_memory import remember_cohort, remembered_cohorts
from napari_ood.viewer.board_model import BAR_ROLE, COLUMNS, BoardModel
from napari_ood.viewer.board_opening import _move
from napari_ood.viewer.board_table import BoardTable
from napari_ood.viewer.dock_cohort import BESIDE_PX, CohortDock
from napari_ood.viewer.drift_plot import DriftPlot
from napari_ood.viewer.flight import view_now
from pace import best

from .conftest import MPP, needs_display, write_slide

BY = {column.key: i for i, column in enumerate(COLUMNS)}
UP, DOWN = Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder
QUICK_S = 0.1
"""CPU time that no event of the GUI may take of its thread."""


def row(i: int, ood: float | None = 0.05, **more: Any) -> SlideRow:
    facts: dict[str, Any] = {"n_tiles": 1000, "ood": ood, "date": None, "scanner": "S"} | more
    return SlideRow(f"slide-{i:05}", f"/s/{i}.svs", f"/r/{i}.ood.zarr", "done", **facts)


def names(model: BoardModel) -> list[str]:
    return [model.data(model.index(i, 0)) for i in range(model.rowCount())]


@pytest.fixture
def model() -> BoardModel:
    model = BoardModel()
    shares = [0.2, None, 0.5, 0.2, 0.0]
    scanners = ["B", "A", None, "A", "B"]
    rows = [row(i, s, scanner=c) for i, (s, c) in enumerate(zip(shares, scanners, strict=True))]
    model.take(dict(enumerate(rows)))
    return model


def test_order_by_each_column_leaves_what_is_unknown_last(model: BoardModel) -> None:
    assert names(model) == [f"slide-0000{i}" for i in (2, 0, 3, 4, 1)]
    model.sort(BY["ood"], UP)
    assert names(model) == [f"slide-0000{i}" for i in (4, 0, 3, 2, 1)]
    model.sort(BY["scanner"], DOWN)
    assert names(model) == [f"slide-0000{i}" for i in (0, 4, 1, 3, 2)]
    for i in range(len(COLUMNS)):
        for order in (UP, DOWN):
            model.sort(i, order)
            assert sorted(names(model)) == [f"slide-0000{k}" for k in range(5)]


def test_filter_and_selection_stay_with_the_slide(model: BoardModel) -> None:
    model.set_filter("SLIDE a")
    assert names(model) == ["slide-00003", "slide-00001"]
    model.set_filter("")
    kept = QPersistentModelIndex(model.index(1, 0))  # slide 0
    model.set_filter("slide-00000")
    assert kept.row() == 0
    model.sort(BY["name"], DOWN)
    model.set_filter("")
    assert names(model)[kept.row()] == "slide-00000" and model.place_of(kept.row()) == 0
    model.take({0: row(0, 0.9, scanner="B")})
    assert model.data(kept) == "slide-00000"
    model.set_filter("nothing like it")
    assert not kept.isValid() and model.rowCount() == 0


def test_what_cells_say(model: BoardModel) -> None:
    index = model.index(0, BY["ood"])
    assert (model.data(index), model.data(index, BAR_ROLE)) == ("50.0 %", 0.5)
    unknown = model.index(4, BY["ood"])
    assert (model.data(unknown), model.data(unknown, BAR_ROLE)) == ("–", None)
    assert model.has(BY["scanner"]) and not model.has(BY["group"])
    model.take({1: row(1, None, error="its bundle is gone")})
    tip = model.data(model.index(4, BY["ood"]), Qt.ItemDataRole.ToolTipRole)
    assert tip == "its bundle is gone"


def seconds(do: Callable[[], object]) -> float:
    """CPU time of this thread."""
    began = time.thread_time()
    do()
    return time.thread_time() - began


def test_ten_thousand_slides_are_quick(qtbot: QtBot) -> None:
    model = BoardModel()
    table = BoardTable(model)
    qtbot.addWidget(table)
    table.resize(900, 500)
    table.show()
    rows = {i: row(i, (i * 7919 % 10_000) / 10_000, scanner=f"S{i % 7}") for i in range(10_000)}

    model.take(rows)
    picture = QImage(900, 500, QImage.Format.Format_RGB32)

    def parts() -> dict[str, float]:
        model.sort(BY["ood"], DOWN)
        table.choose(5)
        return {
            "taking 500 rows": seconds(lambda: model.take({i: rows[i] for i in range(500)})),
            "ordering": seconds(lambda: model.sort(BY["scanner"], UP)),
            "filtering": seconds(lambda: model.set_filter("slide-01 s3")),
            "all again": seconds(lambda: model.set_filter("")),
            "drawing": seconds(lambda: table.render(picture)),
            "choosing": seconds(lambda: table.choose(9_999)),
        }

    took = best(parts, QUICK_S)
    assert max(took.values()) < QUICK_S, took
    assert model.rowCount() == 10_000 and table.current == 9_999


@pytest.fixture
def frozen() -> Iterator[None]:
    """The collector passes over what there is, as it does once a dock has opened."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen")
def test_reading_ten_thousand_slides_holds_up_nobody(qtbot: QtBot, tmp_path: Path) -> None:
    """No turn of the GUI takes 100 ms of its thread while rows pour in."""
    records = [
        {"slide": f"/s/{i}.svs", "run": f"/r/{i}.ood.zarr", "outcome": "failed", "n_tiles": 0,
         "n_total": None, "error": {"kind": "SlideError", "message": f"no slide {i}"},
         "listed": {"scanner": f"S{i % 5}", "date": "2026-02-03"}}
        for i in range(10_000)
    ]  # fmt: skip
    (tmp_path / "cohort.json").write_text(json.dumps({"format_version": 1, "slides": records}))

    def longest_turn() -> dict[str, float]:
        dock = CohortDock(ViewerModel())
        qtbot.addWidget(dock)
        dock.resize(1200, 500)
        dock.show()
        dock.read(tmp_path)
        turns: list[float] = []
        poll = dock._poll

        def turn() -> None:
            poll()
            QApplication.processEvents()

        dock._timer.timeout.disconnect()
        dock._timer.timeout.connect(lambda: turns.append(seconds(turn)))
        qtbot.waitUntil(lambda: dock.reading.outcome is not None, timeout=120_000)
        assert dock.model.rowCount() == 10_000
        assert dock.words.text() == "10,000 slides, 10,000 failed"
        dock.teardown()
        return {"a turn": max(turns)}

    took = best(longest_turn, QUICK_S)
    assert max(took.values()) < QUICK_S, took


def test_plot_of_many_slides(qtbot: QtBot) -> None:
    plot = DriftPlot()
    qtbot.addWidget(plot)
    plot.resize(500, 240)
    rows = [row(i, 0.05 + 0.01 * (i % 3), date=f"20{10 + i // 365:02}-01-01") for i in range(5000)]
    (track,) = drift_of(rows).tracks
    plot.set_track(track, rows)
    picture = QImage(500, 240, QImage.Format.Format_RGB32)
    took = best(lambda: {"drawing": seconds(lambda: plot.render(picture))}, 2 * QUICK_S)
    assert took["drawing"] < 2 * QUICK_S
    plot.set_track(None, rows)  # nothing to draw is drawn, too
    plot.render(picture)


def test_dots_are_slides(qtbot: QtBot) -> None:
    plot = DriftPlot()
    qtbot.addWidget(plot)
    plot.resize(400, 200)
    rows = [row(i, 0.02 * i, date=f"2026-01-{i + 1:02}") for i in range(5)]
    (track,) = drift_of(rows[::-1]).tracks
    plot.set_track(track, rows[::-1])
    x, y = plot._points(track.days, track.shares)
    assert [plot.dot_at(QPointF(a, b)) for a, b in zip(x, y, strict=True)] == list(range(5))
    assert plot.dot_at(QPointF(x[0], y[4])) is None
    with qtbot.waitSignal(plot.chosen) as chosen:
        place = QPoint(round(x[4]), round(y[4]))
        qtbot.mouseClick(plot, Qt.MouseButton.LeftButton, pos=place)
    assert chosen.args == [0]  # the last day is the first row


def test_folders_that_moved_together() -> None:
    before, now = Path("/old/lab/slides/2024/a.svs"), Path("/new/disk/slides/2024/a.svs")
    assert _move(before, now) == (Path("/old/lab"), Path("/new/disk"))
    assert _move(Path("/a/x.svs"), Path("/b/x.svs")) == (Path("/a"), Path("/b"))


def test_cohorts_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_ood.viewer.board_memory.config_folder", lambda: tmp_path / "config")
    assert remembered_cohorts() == []
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
        remember_cohort(folder)
    remember_cohort(folders[0])
    folders[1].rmdir()
    assert remembered_cohorts() == [folders[0], folders[2]]


# --- the real window -----------------------------------------------------------------------------


@pytest.fixture
def cohort(tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two slides, half of each under ink, with their runs; no manifest."""
    monkeypatch.setattr("napari_ood.viewer.board_memory.config_folder", lambda: tmp_path / "config")
    for name in ("one", "two"):
        with open_slide(write_slide(tmp_path / "slides" / f"{name}.tif")) as slide:
            run_slide(slide, tiny_bundle, tmp_path / "runs" / f"{name}.ood.zarr", device="cpu",
                      tissue=False)  # fmt: skip
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def _slides_folder(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "slides").mkdir()
    yield


def wait_for(qtbot: QtBot, dock: CohortDock) -> None:
    qtbot.waitUntil(lambda: dock.reading.outcome is not None, timeout=60_000)


@needs_display
def test_a_double_click_opens_the_slide_where_it_is_worst(
    make_napari_viewer: Callable[..., Viewer], qtbot: QtBot, cohort: Path
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 900)
    dock = viewer.window.add_plugin_dock_widget("napari-ood", "OOD cohort")[1]
    qtbot.waitUntil(lambda: dock.width() > BESIDE_PX, timeout=30_000)  # it goes below the canvas
    assert not dock.split.isVisible() and "Choose the folder" in dock.words.text()
    dock.read(cohort)
    wait_for(qtbot, dock)
    assert dock.words.text().startswith("2 slides, 2 to be looked at")
    assert "Not enough dates" in dock.drift.words.text()
    table = dock.table
    at = table.visualRect(dock.model.index(0, 0)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=at)
    qtbot.mouseDClick(table.viewport(), Qt.MouseButton.LeftButton, pos=at)
    state = dock.bridge.session.state
    first = dock.model.rows[dock.model.place_of(0)]
    assert state.slide is not None and state.slide.name == first.name
    assert state.maps is not None and state.maps.path == Path(first.run)
    assert isinstance(first.worst, WorstRegion)
    qtbot.waitUntil(lambda: not dock.opening._timer.isActive(), timeout=30_000)
    y, x, h, w = first.worst.box
    middle = (MPP * (y + h / 2 - 0.5), MPP * (x + w / 2 - 0.5))
    assert view_now(viewer).centre == pytest.approx(middle)
    assert x + w / 2 > 480  # where the ink is
    qtbot.keyClick(table, Qt.Key.Key_Down)
    qtbot.keyClick(table, Qt.Key.Key_Return)
    second = dock.model.rows[dock.model.place_of(1)]
    state = dock.bridge.session.state
    assert state.slide is not None and state.slide.name == second.name
    assert len(state.slides) == 1, "the slide that was opened before is closed"
    dock.bridge.steps.finish()


@needs_display
def test_a_slide_that_moved_is_located(
    make_napari_viewer: Callable[..., Viewer], qtbot: QtBot, cohort: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    viewer = make_napari_viewer(show=True)
    dock = viewer.window.add_plugin_dock_widget("napari-ood", "OOD cohort")[1]
    moved = Path(shutil.move(cohort.parent / "slides", cohort.parent / "moved"))
    dock.read(cohort)
    wait_for(qtbot, dock)
    dock.open_slide(0)
    assert "is not at" in dock.message.text() and dock.locate_button.isVisible()
    path = str(moved / "one.tif")
    choose = "qtpy.QtWidgets.QFileDialog.getOpenFileName"
    monkeypatch.setattr(choose, lambda *a, **k: (path, ""))
    qtbot.mouseClick(dock.locate_button, Qt.MouseButton.LeftButton)
    state = dock.bridge.session.state
    assert state.slide is not None and state.slide.path == moved / "one.tif"
    assert not dock.locate_button.isVisible()
    dock.open_slide(1)  # found where the first one was
    state = dock.bridge.session.state
    assert state.slide is not None and state.slide.path == moved / "two.tif"
    assert not dock.locate_button.isVisible()
    dock.bridge.steps.finish()


@needs_display
def test_a_folder_without_runs_and_a_closed_dock(
    make_napari_viewer: Callable[..., Viewer], qtbot: QtBot, tmp_path: Path
) -> None:
    viewer = make_napari_viewer(show=True)
    frame, dock = viewer.window.add_plugin_dock_widget("napari-ood", "OOD cohort")
    dock.read(tmp_path)
    qtbot.waitUntil(lambda: bool(dock.reading.error), timeout=60_000)
    qtbot.waitUntil(lambda: "neither" in dock.words.text(), timeout=30_000)
    viewer.window.remove_dock_widget(dock)
    with pytest.raises(RuntimeError, match="closed"):
        dock.bridge  # noqa: B018
    assert frame is not None
