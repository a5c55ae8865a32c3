"""A run's threads let the window come first."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from napari_ood import Bundle, Slide
from napari_ood.inference.engine import run_slide
from napari_ood.viewer.job import Job, Request
from napari_ood.viewer.priority import LEAST, STEPS, give_way

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities on Linux")


def niceness(thread: threading.Thread | None = None) -> int:
    thread = thread or threading.current_thread()
    assert thread.native_id is not None
    return os.getpriority(os.PRIO_PROCESS, thread.native_id)


def test_all_threads_of_a_run_give_way_and_no_others(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, own = set(threading.enumerate()), niceness()
    seen: dict[str, int] = {}

    def watched(*args: object, on_progress: object, **rest: object) -> object:
        def progress(news: object) -> None:
            seen.update((t.name, niceness(t)) for t in threading.enumerate() if t not in before)
            on_progress(news)  # type: ignore[operator]

        return run_slide(*args, on_progress=progress, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr("napari_ood.inference.run_slide", watched)
    job = Job(Request(slide, tiny_bundle, tmp_path / "run.ood.zarr"))
    job.start()
    assert job.wait(60) and job.error is None
    assert {"napari-ood run", "napari-ood scores"} < set(seen)
    assert len(seen) >= 4, "readers and a writer too"
    assert set(seen.values()) == {own + STEPS}
    assert niceness() == own


def test_who_gives_way_already_gives_way_more_but_not_beyond_the_least() -> None:
    found: list[int] = []

    def twice() -> None:
        for _ in range(2 * LEAST):
            give_way()
            found.append(niceness())

    thread = threading.Thread(target=twice)
    thread.start()
    thread.join()
    assert found[0] == niceness() + STEPS and found[1] == niceness() + 2 * STEPS
    assert found[-1] == LEAST


def test_where_it_is_forbidden_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: int) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(os, "setpriority", refused)
    before = niceness()
    give_way()
    assert niceness() == before
