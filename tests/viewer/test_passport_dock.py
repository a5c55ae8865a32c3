"""The passport of the slide on screen, before and after a run, with overrides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel

from napari_ood import Bundle, Slide
from napari_ood.passport import Light, PassportOverrides, make_passport
from napari_ood.viewer import inspection as module
from napari_ood.viewer import layers as ood_layers
from napari_ood.viewer.bridge import Bridge, bridge_of
from napari_ood.viewer.inspection import Inspection, subject_of

from .conftest import needs_display

WAIT_S = 60.0


def look(inspection: Inspection, bridge: Bridge) -> None:
    inspection.look_at(subject_of(bridge.session))
    assert inspection.wait(WAIT_S)
    inspection.poll()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Passports of few tiles; counts how many were made."""
    made: list[Any] = []

    def make(slide: Any, bundle: Any, run: Any, **more: Any) -> Any:
        made.append((slide, bundle, run))
        return make_passport(slide, bundle, run, seconds=0.2, **more)

    monkeypatch.setattr(module, "make_passport", make)
    return made


def test_before_and_after_a_run(
    slide: Slide,
    tiny_bundle: Bundle,
    two_kinds_bundle: Bundle,
    finished: Callable[[Bridge], None],
    quick: list[Any],
) -> None:
    viewer = ViewerModel()
    bridge = bridge_of(viewer)
    inspection = Inspection()
    assert subject_of(bridge.session) is None
    viewer.add_layer(ood_layers.make_layer(ood_layers.slide_layer_data(slide)))
    bridge.session.use_bundle(tiny_bundle)
    look(inspection, bridge)
    before = inspection.findings.passport
    assert before is not None and before.bundle == "tiny" and before.check("run") is None
    inspection.look_at(subject_of(bridge.session))
    assert len(quick) == 1 and not inspection.findings.busy, "nothing changed: not made again"
    finished(bridge)
    look(inspection, bridge)
    after = inspection.findings.passport
    assert after is not None and after.check("run") is not None
    assert inspection.findings.subject is not None
    assert inspection.findings.subject.folder == slide.path.parent / "half.review"
    bridge.session.use_bundle(two_kinds_bundle)
    look(inspection, bridge)
    other = inspection.findings.passport
    assert other is not None and (other.bundle, other.check("run")) == ("tiny-two", None)


def test_an_override_is_kept_with_the_run(
    slide: Slide, finished: Callable[[Bridge], None], quick: list[Any]
) -> None:
    viewer = ViewerModel()
    bridge = bridge_of(viewer)
    viewer.add_layer(ood_layers.make_layer(ood_layers.slide_layer_data(slide)))
    finished(bridge)
    inspection = Inspection()
    look(inspection, bridge)
    passport = inspection.findings.passport
    assert passport is not None
    check = next(c for c in passport.checks if c.light in (Light.YELLOW, Light.RED))
    assert not inspection.override(check.key, "   ", "eve")
    assert "needs a reason" in inspection.findings.error
    assert inspection.override(check.key, "half the slide is ink on purpose", "eve")
    assert inspection.findings.error == ""
    again = Inspection()
    look(again, bridge)
    assert again.findings.overrides[check.key].reviewer == "eve"
    assert again.withdraw(check.key, "eve")
    stored = PassportOverrides(slide.path.parent / "half.review")
    assert stored.latest() == {} and len(stored.history()) == 2


@needs_display
def test_passport_in_a_window(
    make_napari_viewer: Callable[..., Any],
    slide_path: Path,
    tiny_bundle: Bundle,
    quick: list[Any],
    qtbot: Any,
) -> None:
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QLabel

    from .test_window import click

    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1280, 700)
    dock = viewer.window.add_plugin_dock_widget("napari-ood", "OOD slide passport")[1]
    assert dock.title.text().startswith("Open a slide to see its passport")
    assert not dock.again_button.isVisible() and not quick
    viewer.open(slide_path, plugin="napari-ood")
    qtbot.waitUntil(lambda: len(dock.rows) > 0, timeout=60_000)
    assert "no bundle is chosen" in dock.title.text()
    dock.bridge.session.use_bundle(tiny_bundle)
    qtbot.waitUntil(lambda: not dock.inspection.findings.busy, timeout=60_000)
    assert "before a run of tiny" in dock.title.text()
    qtbot.wait(100)
    row = next(r for r in dock.rows if r.button is not None)
    assert dock.rows.index(row) == 0, "what asks for attention comes first"
    click(row.button)
    assert not row.form.save_button.isEnabled(), "an override needs a reason"
    QTest.keyClicks(row.form.reason, "seen by eye")
    dock.bridge.session.set_device("cpu")  # some other change of the session
    assert row.form.reason.text() == "seen by eye"
    click(row.form.save_button)
    qtbot.wait(100)
    changed = next(r for r in dock.rows if r.check.key == row.check.key)
    assert changed.button.text() == "Withdraw the override"
    assert (slide_path.parent / "half.review" / "passport.json").is_file()
    for label in dock.findChildren(QLabel):
        if label.isVisible() and label.wordWrap():
            assert label.height() >= label.heightForWidth(label.width()), label.text()
    session = dock.bridge.session
    viewer.window.remove_dock_widget(dock)
    n = len(quick)
    session.set_mpp(0.25)
    assert len(quick) == n, "a closed dock reads no pixels"
