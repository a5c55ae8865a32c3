"""A run without features in a real window: every dock opens, none fails, and it is said why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtWidgets import QWidget

from napari_ood import Bundle, open_slide, run_slide
from napari_ood.viewer.maps import Overlay

from .conftest import needs_display

pytestmark = needs_display

MakeViewer = Callable[..., Any]
WAIT_MS = 30_000


@pytest.fixture
def run(slide_path: Path, tiny_bundle: Bundle, tmp_path: Path) -> Path:
    out = tmp_path / "half.ood.zarr"
    with open_slide(slide_path) as slide:
        run_slide(slide, tiny_bundle, out, device="cpu", features="none")
    return out


def test_every_dock_shows_a_run_without_features(
    make_napari_viewer: MakeViewer, run: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch,
    tiny_bundle: Bundle,
) -> None:  # fmt: skip
    monkeypatch.setenv("NAPARI_OOD_BUNDLES", str(tiny_bundle.path.parent))
    viewer = make_napari_viewer(show=True, strict_qt="raise")

    def dock(name: str) -> Any:
        return viewer.window.add_plugin_dock_widget("napari-ood", name)[1]

    main = dock("OOD")
    viewer.open(run, plugin="napari-ood")
    session = main.bridge.session
    qtbot.waitUntil(lambda: session.state.maps is not None, timeout=WAIT_MS)
    qtbot.waitUntil(main.results.isVisible, timeout=WAIT_MS)
    maps = session.state.maps
    assert maps.overlays == (Overlay.PREDICTION, Overlay.COMBINED, Overlay.UNCERTAINTY)
    assert not main.results.overlay.button(Overlay.OOD).isEnabled()
    assert main.results.missing.isVisible()
    assert "run was made for its prediction only" in main.results.missing.text()

    thresholds = dock("OOD thresholds")
    qtbot.waitUntil(lambda: bool(session.state.figures), timeout=WAIT_MS)
    assert set(session.state.figures) == {Overlay.UNCERTAINTY}
    qtbot.waitUntil(lambda: "prediction only" in thresholds.note.text(), timeout=WAIT_MS)

    inspector = dock("OOD inspector")
    inspector.inspector.select((3, 12))
    qtbot.waitUntil(lambda: not inspector.inspector.working, timeout=WAIT_MS)
    look = inspector.inspector.state.look
    assert look.heads.value is not None and look.cause.value is not None
    assert look.prototypes.value is None
    assert "holds no features" in look.prototypes.words

    for name in ("OOD review", "OOD slide passport", "OOD compare runs", "OOD export"):
        shown = dock(name)  # an exception in one of its slots fails the test
        qtbot.wait(1000)
        assert shown.findChildren(QWidget)
    assert {role.value for role in session.state.thresholds} == {"uncertainty"}
