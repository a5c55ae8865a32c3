"""The cohort dock's line on a cohort that goes on, in a real window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from napari_ood.cohort.manifest import write_manifest
from napari_ood.inference.holding import holding_folder
from napari_ood.viewer import board_state_line
from napari_ood.viewer.dock_cohort import CohortDock

from .conftest import needs_display

PROGRESS: dict[str, Any] = {
    "n_slides": 4, "n_done": 1, "n_failed": 0, "n_tiles": 100, "tiles_per_s": 50.0,
    "seconds_left": 30.0,
}  # fmt: skip


@needs_display
def test_the_dock_follows_a_cohort_that_goes_on(
    make_napari_viewer: Callable[..., Any],
    qtbot: QtBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(board_state_line, "EVERY_MS", 100)

    def write(**changed: Any) -> None:
        facts = {"format_version": 1, "slides": [], "ended": None, "progress": PROGRESS}
        write_manifest(tmp_path, {**facts, **changed})

    viewer = make_napari_viewer(show=True)
    dock = CohortDock(viewer)
    viewer.window.add_dock_widget(dock, name="OOD cohort")
    label = dock.state.label
    with holding_folder(tmp_path):
        write()
        dock.read(tmp_path)
        qtbot.waitUntil(lambda: "1 of 4 slides done, 100 tiles" in label.text(), timeout=20_000)
        assert label.isVisible()
        write(progress={**PROGRESS, "n_tiles": 150})
        qtbot.waitUntil(lambda: "150 tiles" in label.text(), timeout=20_000)
    write(ended="2026-11-21T22:00:00+00:00", progress=None)
    qtbot.waitUntil(lambda: not dock.state.isVisible(), timeout=20_000)
    dock.teardown()
    assert not dock.state._timer.isActive()
