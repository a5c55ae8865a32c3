"""Cohorts on real worker processes: equal to single runs, whatever dies or fails meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import zarr
from distributed import Client

from napari_ood import Bundle, open_run
from napari_ood.cohort import CohortProgress, read_manifest

Cohort = Callable[..., dict[str, Any]]


def assert_equal_runs(found: Path, expected: Path) -> None:
    """Every array of two runs has the same bits."""
    a, b = zarr.open_group(found, mode="r"), zarr.open_group(expected, mode="r")
    for name in ("logits", "features", "tissue", "done"):
        assert a[name].chunks == b[name].chunks
        assert a[name][...].tobytes() == b[name][...].tobytes(), name


def by_name(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {Path(record["slide"]).stem: record for record in manifest["slides"]}


def stamps(folder: Path) -> dict[Path, int]:
    return {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "cohort.json"
    }


def stop_half_way(marker: Path) -> None:
    """Called in a worker: it stores a shard of the first part that it gets, and goes no further."""
    import time

    from napari_ood.cohort.work import Workplace
    from napari_ood.inference.store import RunWriter

    part, write = Workplace.part, RunWriter.write

    def write_and_stop(*args: Any, **options: Any) -> None:
        write(*args, **options)
        marker.touch()
        time.sleep(600)

    def part_and_stop(self: Workplace, **what: Any) -> Any:
        RunWriter.write = write_and_stop  # type: ignore[method-assign]
        return part(self, **what)

    Workplace.part = part_and_stop  # type: ignore[method-assign, assignment]


def wait_before_parts(marker: Path | None) -> None:
    """Called in a worker: it leaves parts to others until the marker is there; None: no more."""
    import time

    from napari_ood.cohort.work import Workplace

    if marker is None:
        Workplace.part = Workplace.at_once  # type: ignore[attr-defined, method-assign]
        return
    Workplace.at_once = Workplace.part  # type: ignore[attr-defined]

    def wait_and_part(self: Workplace, **what: Any) -> Any:
        until = time.monotonic() + 120
        while not marker.exists() and time.monotonic() < until:
            time.sleep(0.01)
        return Workplace.at_once(self, **what)  # type: ignore[attr-defined]

    Workplace.part = wait_and_part  # type: ignore[method-assign, assignment]


def test_killed_worker_failing_slide_and_second_call(
    slides: list[Path],
    alone: dict[str, Path],
    cohort: Cohort,
    scheduler: str,
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0 and nothing that follows")
    out, marker = tmp_path / "out", tmp_path / "half of a part is stored"
    told, killed, seen = list[str](), list[int](), list[CohortProgress]()
    with Client(scheduler, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        victim, other = client.nthreads()
        pid = client.run(os.getpid, workers=[victim])[victim]
        client.run(stop_half_way, marker, workers=[victim])
        client.run(wait_before_parts, marker, workers=[other])

        def kill_one(progress: CohortProgress) -> None:
            seen.append(progress)
            # Once the small slide is heard of: its worker has nothing else that would be lost.
            if marker.exists() and progress.n_done and not killed:
                killed.append(pid)
                psutil.Process(pid).kill()

        try:
            manifest = cohort(
                [*slides, broken], out=out, on_progress=kill_one, on_notice=told.append, retries=2
            )
        finally:
            client.run(wait_before_parts, None, workers=[other])
        client.wait_for_workers(2, timeout=60)
        assert killed and killed[0] not in client.run(os.getpid).values()
    records = by_name(manifest)
    for name, expected in alone.items():
        assert records[name]["outcome"] == "done", records[name]
        assert_equal_runs(out / f"{name}.ood.zarr", expected)
        run = open_run(out / f"{name}.ood.zarr")
        assert records[name]["n_tiles"] == records[name]["n_new"] == run.n_tiles
        assert records[name]["fingerprint"] == run.provenance["identity"]["slide"]
        assert len(run.provenance["sessions"]) == 1
    assert records["small"]["tasks"] == 1 < records["large"]["tasks"]
    assert records["large"]["retries"] >= 1
    assert records["broken"]["outcome"] == "failed"
    assert records["broken"]["error"]["kind"] == "SlideError"
    assert records["broken"]["retries"] == 2
    assert any(line.startswith(str(broken)) for line in told)
    assert manifest == read_manifest(out)
    assert (seen[-1].n_done, seen[-1].n_failed, seen[-1].n_slides) == (2, 1, 3)

    left = stamps(out)
    again = cohort(slides, out=out)
    assert again["counts"] == {
        "slides": 2, "done": 2, "failed": 0, "cancelled": 0, "not begun": 0, "new_tiles": 0,
        "tiles": manifest["counts"]["tiles"],
    }  # fmt: skip
    assert stamps(out) == left
    assert again["earlier"] == [records["broken"]]  # named by the first call alone


def test_worker_that_does_not_see_the_folder_costs_no_slide(
    slides: list[Path],
    alone: dict[str, Path],
    cohort: Cohort,
    scheduler: str,
    tmp_path: Path,
) -> None:
    looked = tmp_path.with_name(f"{tmp_path.name} was looked for")

    def look(where: str | None) -> None:
        """In the right place only after another worker has looked in the wrong one."""
        import time

        from napari_ood.cohort import shared, work

        def elsewhere(token: str) -> None:
            looked.touch()
            shared.check_shared(f"{token}.elsewhere")

        def here(token: str) -> None:
            until = time.monotonic() + 120
            while not looked.exists() and time.monotonic() < until:
                time.sleep(0.01)
            shared.check_shared(token)

        places = {"elsewhere": elsewhere, "here": here, None: shared.check_shared}
        work.check_shared = places[where]  # type: ignore[attr-defined]

    told = list[str]()
    with Client(scheduler, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        unfit, fit = client.nthreads()
        client.run(look, "elsewhere", workers=[unfit])
        client.run(look, "here", workers=[fit])
        try:
            manifest = cohort(slides, out=tmp_path, retries=0, on_notice=told.append)
        finally:
            client.run(look, None)
    assert manifest["counts"]["done"] == 2, manifest["slides"]
    assert sum(record["retries"] for record in manifest["slides"]) >= 1
    assert len([line for line in told if line.startswith(f"{tmp_path} on ")]) == 1
    for name, expected in alone.items():
        assert_equal_runs(tmp_path / f"{name}.ood.zarr", expected)
    assert not list(tmp_path.glob(".cohort-*"))


@pytest.mark.parametrize("task_tiles", [32, 1_000_000], ids=["in parts", "as one task"])
def test_cancelled_cohort_goes_on_where_it_stopped(
    task_tiles: int,
    slides: list[Path],
    alone: dict[str, Path],
    cohort: Cohort,
    resting: Callable[[], Any],
    tmp_path: Path,
) -> None:
    large, out = slides[1:], tmp_path / "large.ood.zarr"
    options = {"out": tmp_path, "task_tiles": task_tiles}
    with resting():
        first = cohort(large, cancel=lambda: any(out.glob("logits/c/*/*")), **options)
    (record,) = first["slides"]
    assert record["outcome"] == "cancelled"
    assert 0 < record["n_tiles"] < record["n_total"]
    # Workers told what they did before they were let go.
    run = open_run(out)
    assert record["n_tiles"] == record["n_new"] == run.n_tiles
    assert sum(session["n_tiles"] for session in run.provenance["sessions"]) == run.n_tiles
    second = cohort(large, **options)
    (record,) = second["slides"]
    assert record["outcome"] == "done"
    assert 0 < record["n_new"] < record["n_total"]
    assert_equal_runs(tmp_path / "large.ood.zarr", alone["large"])


@pytest.mark.slow
def test_command_starts_its_own_workers(
    slides: list[Path], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.svs"
    command = [sys.executable, "-m", "napari_ood", "cohort", *map(str, slides), str(gone)]
    command += ["--model", str(tiny_bundle.path), "--out", str(tmp_path / "out"), "--device", "cpu"]
    done = subprocess.run(
        [*command, "--workers", "2", "--retries", "0", "--json", "-"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert str(gone) in done.stderr
    manifest = json.loads(done.stdout)
    assert manifest["counts"]["done"] == 2 and manifest["counts"]["failed"] == 1
    assert manifest == read_manifest(tmp_path / "out")
    assert open_run(manifest["slides"][0]["run"]).complete
