"""What the manifest says of slides that no worker came to, or that are not through yet."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from napari_ood.cohort import CohortProgress, read_manifest, supervise
from napari_ood.cohort.earlier import all_records

Cohort = Callable[..., dict[str, Any]]


@pytest.fixture
def many(medium: Path, tmp_path: Path) -> list[Path]:
    """Eight slides: two workers come to few of them before the cohort is cancelled."""
    return [Path(shutil.copy(medium, tmp_path / f"slide{i}.tif")) for i in range(8)]


def test_slides_that_no_worker_came_to(
    many: list[Path],
    cohort: Cohort,
    resting: Callable[[], Any],
    occupied: Callable[[], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "runs"
    with resting():
        first = cohort(
            many, out=out, task_tiles=1_000_000,  # a slide is one task, which a worker rests in
            cancel=lambda: any(out.glob("*.ood.zarr/logits/c/*/*")),
        )  # fmt: skip
    assert first["cancelled"]
    idle = [record for record in first["slides"] if record["outcome"] == "not begun"]
    assert len(idle) >= 4
    assert first["counts"]["not begun"] == len(idle)
    for record in idle:
        assert (record["n_tiles"], record["n_total"], record["error"]) == (0, None, None)
        assert not Path(record["run"]).exists()
    for record in first["slides"]:
        if record not in idle:
            assert record["outcome"] in ("done", "cancelled") and record["n_total"]
    assert any(record["n_tiles"] for record in first["slides"])

    monkeypatch.setattr(supervise, "MANIFEST_S", 0.0)
    monkeypatch.setattr(supervise, "MANIFEST_SHARE", 1.0)
    lost: list[set[str]] = []

    def look(progress: CohortProgress) -> None:
        so_far = read_manifest(out)
        named = [record["slide"] for record in all_records(so_far)]
        lost.append(set(map(str, many)) - set(named))
        assert len(named) == len(set(named))
        assert so_far["ended"] is None or so_far["started"] == first["started"]

    second = cohort(many, out=out, on_progress=look)
    assert not second["cancelled"] and second["counts"]["done"] == len(many)
    assert lost and not any(lost)  # killed at any moment, it would have forgotten no slide
    assert "progress" not in second

    # Cancelled before it came to anything: what is done is done.
    third = cohort(many, out=out, cancel=lambda: True)
    assert third["cancelled"] and third["counts"]["done"] == len(many)
    for before, now in zip(second["slides"], third["slides"], strict=True):
        assert now["n_tiles"] == before["n_tiles"] > 0 == now["n_new"]
        assert now["fingerprint"] == before["fingerprint"]
    shutil.rmtree(third["slides"][0]["run"])
    with occupied():
        fourth = cohort(many, out=out, cancel=lambda: True)
    assert [record["outcome"] for record in fourth["slides"]] == ["not begun"] + ["done"] * 7
