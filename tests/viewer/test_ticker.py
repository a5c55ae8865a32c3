"""While a run goes on: one frame for all that a redraw changes, none in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication

from napari_ood import Bundle
from napari_ood.inference import Progress
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.state import Phase
from napari_ood.viewer.steps import Steps
from napari_ood.viewer.ticker import MOST_BETWEEN_S, Ticker, main_window

from .conftest import needs_display
from .test_window import open_dock, run_to_the_end

pytestmark = needs_display

N_TOTAL = 54_321


class Frames(QObject):
    """Counts how often a window is composed anew."""

    def __init__(self, window: QObject) -> None:
        super().__init__()
        self.n = 0
        self._window: QObject | None = window
        QApplication.instance().installEventFilter(self)

    def end(self) -> None:
        QApplication.instance().removeEventFilter(self)
        self._window = None

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        self.n += event.type() == QEvent.Type.UpdateRequest and watched is self._window
        return False


def settle(qtbot: Any, frames: Frames) -> None:
    """Wait until nothing has been composed for a while, however long that takes."""
    until = time.monotonic() + 60
    before = -1
    while frames.n != before:
        assert time.monotonic() < until, "the window is never at rest"
        before = frames.n
        qtbot.wait(500)


@pytest.fixture
def ticking(
    make_napari_viewer: Callable[..., Any], slide_path: Any, tiny_bundle: Bundle, qtbot: Any
) -> Iterator[tuple[Any, Ticker, Any, Frames]]:
    """A dock, a ticker that only the test sets going, a run that only it moves on, and frames."""
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window.resize(1280, 800)
    dock = open_dock(viewer)
    viewer.open(slide_path, plugin="napari-ood")
    session = dock.bridge.session
    session.use_bundle(tiny_bundle)
    run_to_the_end(qtbot, dock)
    run = SimpleNamespace(
        alive=True, maps=session.state.maps, progress=None, view=None, error=None, run=None,
        request=SimpleNamespace(slide=session.state.slide, region=None),
        cancel=lambda: None, wait=lambda timeout=None: True,
    )  # fmt: skip
    session._job = run
    session._update(phase=Phase.RUNNING)
    ticker = Ticker(dock.bridge, dock)
    ticker.stop()
    qtbot.wait(500)
    frames = Frames(main_window(dock))
    settle(qtbot, frames)
    yield dock, ticker, run, frames
    frames.end()
    session._job = None
    ticker._tick()
    qtbot.wait(50)


def test_a_redraw_is_one_frame(ticking: tuple[Any, Ticker, Any, Frames], qtbot: Any) -> None:
    dock, ticker, run, frames = ticking
    for n_done in (7, 12_345, 54_320):
        run.progress = progress(n_done)
        run.maps.scores[Overlay.OOD][::2] = n_done
        run.maps._dirty = True
        frames.n, run.view = 0, None
        ticker._draw_at = float("inf")
        ticker._tick()
        qtbot.wait(200)
        assert frames.n == 0, "not before the next redraw is due"
        assert run.view is not None, "the engine is told what is on screen all the same"
        ticker._draw_at = 0.0
        ticker._tick()
        qtbot.waitUntil(lambda: frames.n > 0 and ticker._draw_at > 0, timeout=30_000)
        settle(qtbot, frames)
        assert frames.n == 1
        assert dock.run.bar.value() == n_done
        assert f"{n_done:,} of" in dock.run.speed.text()
        assert ticker._draw_at < time.perf_counter() + MOST_BETWEEN_S, "and the next one follows"


class Canvas:
    """Notes when it may be painted again."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    def hold(self) -> None:
        pass

    def release(self) -> None:
        self._seen.append("frame")


@pytest.mark.parametrize(
    ("every", "second"),
    [(0.0, "make insert frame more frame"), (60.0, "make insert more frame")],
)
def test_a_step_goes_on_before_a_frame_and_quick_ones_share_it(
    every: float, second: str, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_ood.viewer.steps.PAINT_EVERY_S", every)
    seen: list[str] = []
    steps = Steps(in_window=True)
    steps.canvas = Canvas(seen)

    def make() -> None:
        seen.append("make")
        steps.add_next(lambda: seen.append("insert"))

    for expected in ("make insert frame more frame", second):
        seen.clear()
        steps.add(make)
        steps.add(lambda: seen.append("more"))
        qtbot.waitUntil(lambda: not steps.pending, timeout=30_000)
        assert " ".join(seen) == expected


def progress(n_done: int) -> Progress:
    none = np.zeros((0, 2), np.int64)
    return Progress(
        n_done=n_done, n_total=N_TOTAL, seconds=1.0, tiles_per_s=123.0 + n_done,
        seconds_left=3.0 * (N_TOTAL - n_done), stage_seconds={}, index=none,
        logits=np.zeros((0, 1, 2), np.float32), features=np.zeros((0, 1), np.float32),
    )  # fmt: skip
