"""What is said of a run that has ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_ood import Bundle, Slide, run_slide
from napari_ood.viewer.job import Job, Request
from napari_ood.viewer.session import _outcome


def test_seconds_are_told_of_the_tiles_that_they_were_spent_on(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on did not compute all of its tiles in the time since."""
    monkeypatch.setattr("napari_ood.inference.plan.BLOCK_PX", 128)
    monkeypatch.setattr("napari_ood.inference.plan.SHARD_TILES", (2, 32))
    seen: list[object] = []
    out = tmp_path / "part.ood.zarr"
    part = run_slide(
        slide, tiny_bundle, out, device="cpu", on_progress=seen.append, cancel=lambda: bool(seen)
    )
    told = {}
    for path in (out, tmp_path / "new.ood.zarr"):
        job = Job(Request(slide, tiny_bundle, path, device="cpu"))
        job.start()
        assert job.wait(60) and job.error is None and job.run is not None
        told[path], n = _outcome(job), job.run.n_tiles
    assert 0 < part.n_tiles < n
    assert told.pop(out).startswith(f"Done: {n:,} tiles, {n - part.n_tiles:,} of them now in ")
    assert told.popitem()[1].startswith(f"Done: {n:,} tiles in ")
