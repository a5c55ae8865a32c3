"""Cohorts on real worker processes: equal to single runs, whatever dies or fails meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
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


def test_killed_worker_failing_slide_and_second_call(
    slides: list[Path],
    alone: dict[str, Path],
    cohort: Cohort,
    scheduler: str,
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0 and nothing that follows")
    out, told, killed = tmp_path / "out", list[str](), list[int]()
    seen: list[CohortProgress] = []
    with Client(scheduler, set_as_default=False) as client:
        before = client.run(os.getpid)

        def kill_one(progress: CohortProgress) -> None:
            seen.append(progress)
            if progress.n_tiles and not killed:
                kill_busy()

        def kill_busy() -> None:
            for address, pid in before.items():
                worker = psutil.Process(pid)
                worker.suspend()
                time.sleep(0.3)  # what it has sent arrives; what it works on stays unfinished
                if client.processing().get(address):
                    killed.append(pid)
                    worker.kill()
                    return
                worker.resume()

        manifest = cohort(
            [*slides, broken], out=out, on_progress=kill_one, on_notice=told.append, retries=2
        )
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
    assert records["large"]["retries"] + records["small"]["retries"] >= 1
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
    def look_elsewhere(on: bool) -> None:
        from napari_ood.cohort import shared, work

        work.check_shared = (  # type: ignore[attr-defined]
            (lambda token: shared.check_shared(f"{token}.elsewhere")) if on else shared.check_shared
        )

    told = list[str]()
    with Client(scheduler, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        unfit = next(iter(client.nthreads()))
        client.run(look_elsewhere, True, workers=[unfit])
        try:
            manifest = cohort(slides, out=tmp_path, retries=0, on_notice=told.append)
        finally:
            client.run(look_elsewhere, False, workers=[unfit])
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
    scheduler: str,
    tmp_path: Path,
) -> None:
    large, out = slides[1:], tmp_path / "large.ood.zarr"
    options = {"out": tmp_path, "task_tiles": task_tiles}
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
