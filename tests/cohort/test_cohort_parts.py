"""Cohorts without workers: what is refused before anything begins, and what is written down."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_ood import Bundle, OodError, RunError, SlideError, open_run
from napari_ood.cli import main
from napari_ood.cohort import read_manifest, run_cohort
from napari_ood.cohort.client import environment_kept
from napari_ood.cohort.manifest import differing_versions, merged_session
from napari_ood.cohort.plan import Job, Settings, plan_jobs
from napari_ood.cohort.shared import UnfitError
from napari_ood.cohort.work import Workplace


def test_largest_slides_come_first_and_each_once(tmp_path: Path) -> None:
    for name, size in {"a.svs": 10, "b.svs": 30, "c.mrxs": 1}.items():
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / "c").mkdir()  # where a MIRAX slide has its pixels
    (tmp_path / "c" / "Data0000.dat").write_bytes(bytes(100))
    slides = [tmp_path / name for name in ("a.svs", "b.svs", "c.mrxs", "a.svs", "gone.svs")]
    jobs = plan_jobs(slides, tmp_path / "out")
    assert [Path(job.slide).stem for job in jobs] == ["c", "b", "a", "gone"]
    assert jobs[0].out == str(tmp_path / "out" / "c.ood.zarr")


def test_scheduler_that_is_not_there(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_ood.cohort.client.CONNECT_S", 1)
    with pytest.raises(RunError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"):
        run_cohort(["s.svs"], tiny_bundle, tmp_path, scheduler="tcp://127.0.0.1:9")


@pytest.mark.parametrize("address", ["head", "tcp://head.invalid:8786", "http://127.0.0.1:8787"])
def test_address_that_no_scheduler_can_have(
    address: str, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its client fails too, but takes half a minute to be closed, and prints a traceback.
    monkeypatch.setattr("distributed.Client", lambda *_, **__: pytest.fail("dask was asked"))
    with pytest.raises(RunError, match=f"no scheduler answers at {address} "):
        run_cohort(["s.svs"], tiny_bundle, tmp_path, scheduler=address)


def test_command_says_what_to_install(
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("napari_ood.cohort.client.find_spec", lambda name: None)
    code = main(["cohort", "s.svs", "--model", str(tiny_bundle.path), "--out", str(tmp_path)])
    assert code == 2
    assert 'pip install "napari-ood[cohort]"' in capsys.readouterr().err


def test_worker_refuses_another_bundle(tiny_bundle: Bundle, slides: list[Path]) -> None:
    place = Workplace(Settings(str(tiny_bundle.path), {"model.safetensors": "another"}))
    with pytest.raises(OodError, match="another bundle than the cohort's"):
        place.begin(Job(str(slides[0]), "out.ood.zarr", 1))


def test_shard_that_a_dead_worker_left_half_done(
    tiny_bundle: Bundle,
    slides: list[Path],
    alone: dict[str, Path],
    cohort_options: dict[str, Any],
    tmp_path: Path,
) -> None:
    run = Path(shutil.copytree(alone["large"], tmp_path / "large.ood.zarr"))
    group = zarr.open_group(run)
    done, shard = np.asarray(group["done"][...]), group["done"].chunks
    top, left = (start // size * size for start, size in zip((12, 32), shard, strict=True))
    tiles = [(y, x) for y in range(top, top + shard[0]) for x in range(left, left + shard[1])]
    assert len(tiles) == 16 and all(done[cell] for cell in tiles)
    for cell in tiles[-3:]:
        done[cell] = False
    group["done"][...] = done
    settings = Settings(
        str(tiny_bundle.path), dict(tiny_bundle.hashes), device="cpu", batch_size=8,
        stride=cohort_options["stride"], task_tiles=1_000_000,
    )  # fmt: skip
    place = Workplace(settings)
    begun = place.begin(Job(str(slides[1]), str(run), 1))
    place.close()
    assert begun.work is not None and begun.n_before == begun.n_total - 3
    assert begun.work.n_tiles == 3 and open_run(run).complete
    assert begun.work.session["n_tiles"] <= 8  # the batch that they are in, not the shard


def test_slide_that_only_this_worker_does_not_see(tiny_bundle: Bundle, tmp_path: Path) -> None:
    place = Workplace(Settings(str(tiny_bundle.path), dict(tiny_bundle.hashes), device="cpu"))
    gone, out = str(tmp_path / "gone.svs"), str(tmp_path / "gone.ood.zarr")
    with pytest.raises(UnfitError, match="mount the shared folder there"):
        place.begin(Job(gone, out, 100))  # the cohort's machine saw its 100 bytes
    with pytest.raises(SlideError):
        place.begin(Job(gone, out, 0))


def test_sessions_of_parts_become_one() -> None:
    one = {
        "started": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T10:00:10+00:00",
        "device": "cpu", "batch_size": 32, "n_tiles": 50, "seconds": 9.5, "tiles_per_s": 5.2,
        "stage_seconds": {"read": 1.0, "forward": 8.0, "write": 0.5}, "machine": "A",
    }  # fmt: skip
    two = one | {
        "started": "2026-01-01T10:00:05+00:00", "ended": "2026-01-01T10:00:20+00:00",
        "machine": "B", "seconds": 15.0,
    }  # fmt: skip
    merged = merged_session([two, one])
    assert (merged["seconds"], merged["n_tiles"], merged["tiles_per_s"]) == (20.0, 100, 5.0)
    assert merged["stage_seconds"]["forward"] == 16.0
    assert (merged["machine"], merged["device"], merged["tasks"]) == ("A, B", "cpu", 2)


def test_differing_versions_are_named() -> None:
    workers = {
        "tcp://a": {"versions": {"torch": "2.15", "zarr": "3.1"}},
        "tcp://b": {"versions": {"torch": "2.14", "zarr": "3.1"}},
    }
    assert differing_versions(workers) == ["torch"]


def test_a_file_that_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "cohort.json").write_text("{}")
    with pytest.raises(RunError, match="no manifest"):
        read_manifest(tmp_path)


def test_what_workers_need_does_not_stay_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    with environment_kept():
        os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["MKL_NUM_THREADS"] == "3"
