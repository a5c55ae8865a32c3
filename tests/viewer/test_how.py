"""Precision and kept features: chosen in the dock, kept by a run, said before the click."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_ood import Bundle, Slide, open_run, run_slide
from napari_ood.errors import DeviceError, RunError
from napari_ood.models.precision import BF16, FP32
from napari_ood.viewer.checks import check_run
from napari_ood.viewer.how import FULL, HALF, NONE, How
from napari_ood.viewer.how_row import summary
from napari_ood.viewer.maps import Maps
from napari_ood.viewer.output import choose_output
from napari_ood.viewer.section_run import where_text
from napari_ood.viewer.session import Session
from napari_ood.viewer.state import Phase, Scope

from .conftest import needs_display
from .test_session import HeldJob
from .test_window import choose, click, open_dock, run_to_the_end, settled

REGION = (0, 0, 128, 128)


def no_bf16(device: str) -> None:
    raise DeviceError(f"{device} cannot compute in bf16: choose --precision fp32")


def test_a_run_begun_otherwise_is_passed_over_as_the_engine_would_refuse_it(
    slide: Slide, tiny_bundle: Bundle
) -> None:
    first = choose_output(slide, tiny_bundle, REGION)
    run_slide(slide, tiny_bundle, first.path, REGION, "cpu", precision=FP32, features=NONE)
    assert choose_output(slide, tiny_bundle, REGION).how == How(FP32, NONE)
    for precision, features in ((FP32, None), ("auto", NONE)):
        same = choose_output(slide, tiny_bundle, REGION, None, precision, features)
        assert same.path == first.path and same.passed is None
    for precision, features in ((BF16, None), ("auto", FULL), (BF16, HALF)):
        asked: dict[str, Any] = {"precision": precision, "features": features}
        with pytest.raises(RunError):
            run_slide(slide, tiny_bundle, first.path, REGION, "cpu", **asked)
        other = choose_output(slide, tiny_bundle, REGION, None, precision, features)
        assert other.path != first.path and not other.resumes
        assert other.passed is not None and other.passed.path == first.path
    run_slide(slide, tiny_bundle, other.path, REGION, "cpu", **asked)
    again = choose_output(slide, tiny_bundle, REGION, None, precision, features)
    assert (again.path, again.how, again.complete) == (other.path, How(BF16, HALF), True)
    assert Maps.of_run(open_run(other.path), tiny_bundle).how == How(BF16, HALF)


def test_the_dock_says_before_the_click_what_becomes_of_a_run(
    slide: Slide, tiny_bundle: Bundle
) -> None:
    session = Session(HeldJob)
    session.add_slide(slide)
    session.use_bundle(tiny_bundle)
    assert session.state.output is not None
    path = session.state.output.path
    polls = iter([False])
    run_slide(
        slide, tiny_bundle, path, device="cpu", batch_size=8, cancel=lambda: next(polls, True),
        precision=BF16, features=HALF,
    )  # fmt: skip
    session.set_scope(Scope.VIEW)
    session.set_scope(Scope.SLIDE)
    text = where_text(session.state).replace("\u200b", "")
    assert "continues where it stopped in bf16, with features in half" in text
    session.set_precision(FP32)
    text = where_text(session.state).replace("\u200b", "")
    assert "half-2.ood.zarr" in text
    assert "half.ood.zarr was begun in bf16" in text and "choose Automatic" in text
    assert session.start()
    job = session._job
    assert isinstance(job, HeldJob)
    assert (job.request.out.name, job.request.precision) == ("half-2.ood.zarr", FP32)


def test_what_the_device_cannot_is_found_out_in_a_thread_and_stops_the_run(
    slide: Slide, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(HeldJob)
    session.add_slide(slide)
    session.use_bundle(tiny_bundle)
    session.set_precision(BF16)
    assert not session.hear_bf16(), "nobody has asked"
    session.ask_bf16()
    hear(session)
    assert session.state.no_bf16 == "", "this processor can"
    monkeypatch.setattr("napari_ood.models.precision.require_bf16", no_bf16)
    session.set_device("cpu")
    hear(session)
    state = session.state
    check = check_run(state.slide, state.bundle, state.lacks)
    assert check is not None and check.blocking
    assert check.text.startswith("The processor cannot compute in bf16.")
    assert not session.start()
    session.set_precision(FP32)
    assert session.start()
    assert session.state.no_bf16, "it is still known"
    session.set_device("cuda")
    assert not session.state.no_bf16, "of another device it is not"
    hear(session)


def hear(session: Session) -> None:
    end = time.monotonic() + 60
    while session.hear_bf16():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_folded_row_names_what_was_chosen() -> None:
    assert summary("auto", None) == "More"
    assert summary(BF16, None) == "More: bf16"
    assert summary("auto", NONE) == "More: Prediction and uncertainty only"
    assert summary(FP32, HALF) == "More: fp32, features in half"


# ------------------------------------------------------------------------- in a window


@pytest.fixture
def dock(
    make_napari_viewer: Callable[..., Any],
    slide_path: Path,
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    monkeypatch.setenv("NAPARI_OOD_BUNDLES", str(tiny_bundle.path.parent))
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1280, 800)
    dock = open_dock(viewer)
    viewer.open(slide_path, plugin="napari-ood")
    choose(dock.bundle.combo, "tiny")
    yield dock


def pick(combo: Any, row: int) -> None:
    """Open a list with the mouse and click on one of its lines."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    click(combo)
    view = combo.view()
    for _ in range(4):
        # Until then Qt takes a release for the end of the click that opened the list. Its timer is
        # late where a thread that loads torch has stopped the window: the list stays open.
        QTest.qWait(QApplication.doubleClickInterval() + 50)
        place = view.visualRect(combo.model().index(row, 0)).center()
        QTest.mouseMove(view.viewport(), place)
        QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)
        QTest.qWait(50)
        if not view.isVisible() or not combo.model().item(row).isEnabled():
            break
    combo.hidePopup()


@needs_display
def test_chosen_with_the_mouse_a_run_is_computed_and_kept_so(dock: Any, qtbot: Any) -> None:
    session, row = dock.bridge.session, dock.run.how
    assert not row.precision.isVisible()
    width = dock.run.width()
    click(row.button)
    qtbot.wait(50)
    assert dock.run.width() == width, "the dock is as wide as before"
    pick(row.precision, 2)
    pick(row.keep, 3)
    assert (session.state.precision, session.state.features) == (BF16, NONE)
    run_to_the_end(qtbot, dock)
    maps = session.state.maps
    assert How.of_run(open_run(maps.path)) == maps.how == How(BF16, NONE)
    assert dock.results.how.text() == "Computed in bf16, without features."
    click(row.button)
    assert not row.precision.isVisible()
    assert row.button.text() == "More: bf16, prediction and uncertainty only"
    click(row.button)
    pick(row.precision, 0)
    pick(row.keep, 1)
    assert dock.run.run_button.text() == "Run"
    assert "half-2.ood.zarr" in dock.run.where.text().replace("\u200b", "")
    run_to_the_end(qtbot, dock)
    assert session.state.maps.how.features == FULL
    assert session.state.maps.no_ood == "", "and now there is an OOD map"


@needs_display
@pytest.mark.usefixtures("held")
def test_nothing_of_it_can_be_changed_while_a_run_goes_on(dock: Any, qtbot: Any) -> None:
    row = dock.run.how
    click(row.button)
    click(dock.run.run_button)
    assert dock.bridge.session.state.phase is Phase.RUNNING
    assert not row.precision.isEnabled() and not row.keep.isEnabled()
    click(dock.run.cancel_button)
    settled(qtbot, dock.bridge)
    assert row.precision.isEnabled() and row.keep.isEnabled()


@needs_display
def test_a_device_without_bf16_has_it_greyed_out_with_the_reason(
    dock: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtCore import Qt

    monkeypatch.setattr("napari_ood.models.precision.require_bf16", no_bf16)
    session, row = dock.bridge.session, dock.run.how
    click(row.button)
    qtbot.waitUntil(lambda: session.state.no_bf16 != "", timeout=60_000)
    item = row.precision.model().item(2)
    assert not item.isEnabled()
    assert item.data(Qt.ItemDataRole.ToolTipRole) == "The processor cannot compute in bf16."
    pick(row.precision, 2)
    assert session.state.precision == "auto"
    pick(row.precision, 1)
    assert session.state.precision == FP32
    session.set_precision(BF16)  # as it is when chosen before the device was
    assert not dock.run.run_button.isEnabled()
    assert "cannot compute in bf16" in dock.run.check.text()
