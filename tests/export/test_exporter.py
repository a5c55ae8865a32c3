"""Exporting as a whole: what is written, and what is left when it fails."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_ood.cli.arguments import EXPORT_FORMATS
from napari_ood.errors import ExportCancelled, ExportError, ReviewError
from napari_ood.export import FORMATS, ExportProgress, export_run
from napari_ood.export.files import new_file, new_folder
from napari_ood.review import Kind, ReviewStore, Verdict, review_folder, run_identity

MakeRun = Callable[..., Any]
FAST = ("geojson", "csv", "ome-zarr", "ome-tiff")


def test_the_command_line_knows_the_formats() -> None:
    assert EXPORT_FORMATS == FORMATS


def test_files_and_provenance(
    make_run: MakeRun, scattered: NDArray[np.bool_], tmp_path: Path
) -> None:
    scored = make_run(scattered)
    store = ReviewStore(review_folder(scored.run.path), run_identity(scored.run), "A")
    from napari_ood.analysis.regions import find_regions

    threshold = scored.threshold("ood")
    region = find_regions(scored, scored.flagged(threshold), "ood")[0]
    store.add(Verdict.of(region, Kind.UNKNOWN_TISSUE, reviewer="A"))
    before = sorted(p.name for p in store.path.iterdir())
    seen: list[ExportProgress] = []
    written = export_run(scored.run.path, tmp_path / "o", FAST, on_progress=seen.append)
    assert [path.name for path in written] == [
        "drawn.prediction.geojson",
        "drawn.regions.geojson",
        "drawn.review.geojson",
        "drawn.tiles.csv",
        "drawn.maps.ome.zarr",
        "drawn.maps.ome.tif",
        "drawn.export.json",
    ]
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == sorted(p.name for p in written)
    assert sorted(p.name for p in store.path.iterdir()) == before, "reading a review adds nothing"
    about = json.loads(written[-1].read_text("utf-8"))
    assert about["files"] == [path.name for path in written[:-1]]
    assert about["thresholds"]["ood"]["value"] == threshold.value
    assert about["reviewers"] == {"A": 1}
    assert about["bundle"]["hashes"] == scored.run.provenance["bundle"]["hashes"]
    assert dict.fromkeys(p.format for p in seen) == dict.fromkeys(FAST)
    assert all(0 <= p.done <= p.total for p in seen)


def test_without_its_bundle_a_run_still_leaves(make_run: MakeRun, tmp_path: Path) -> None:
    scored = make_run(np.ones((4, 4), bool), with_bundle=False)
    assert dict(scored.roles) == {"uncertainty": "entropy"}
    written = export_run(scored, tmp_path / "o", FAST)
    assert "drawn.regions.geojson" not in {path.name for path in written}, "no threshold, no region"
    header = (tmp_path / "o" / "drawn.tiles.csv").read_text("utf-8").splitlines()[0]
    assert "score_uncertainty" in header and "ood" not in header


@pytest.mark.parametrize("fail_at", range(6))
def test_cancelled_at_any_point_nothing_is_half_written(
    fail_at: int, make_run: MakeRun, tmp_path: Path
) -> None:
    scored = make_run(np.ones((5, 5), bool))
    asked = []

    def cancel() -> bool:
        asked.append(True)
        return len(asked) > fail_at

    with pytest.raises(ExportCancelled):
        export_run(scored, tmp_path / "o", FAST, cancel=cancel)
    left = [p.name for p in (tmp_path / "o").iterdir()] if (tmp_path / "o").exists() else []
    assert not [name for name in left if name.startswith(".") or name.endswith(".export.json")]
    assert len(left) <= fail_at


@pytest.mark.parametrize("name", [*FAST, "parquet"])
def test_a_full_disk_is_told_and_leaves_what_was_there(
    name: str, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow")
    scored = make_run(np.ones((5, 5), bool))
    out = tmp_path / "o"
    first = export_run(scored, out, [name])
    contents = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if name == "ome-zarr":
        monkeypatch.setattr(Path, "rename", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ExportError, match=r"the disk is full.*free space") as caught:
        export_run(scored, out, [name])
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == contents
    assert len(first) >= 2


def test_a_write_that_breaks_midway_leaves_no_trace(tmp_path: Path) -> None:
    with (
        pytest.raises(ExportError, match="disk is full"),
        new_file(tmp_path / "a.csv") as partial,
        partial.open("w") as file,
    ):
        file.write("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(KeyboardInterrupt),
        new_folder(tmp_path / "b.zarr", ours=lambda path: True) as partial,
    ):
        partial.mkdir()
        (partial / "0").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_cannot_be_made(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExportError, match="choose another output folder"):
        export_run(make_run(np.ones((2, 2), bool)), tmp_path / "file" / "o", ["csv"])


def test_unknown_formats_reviews_and_slides_are_refused(
    make_run: MakeRun, tmp_path: Path, procedural_slide: Path
) -> None:
    from napari_ood import open_slide

    scored = make_run(np.ones((2, 2), bool))
    with pytest.raises(ExportError, match=r"no format 'xlsx'.*geojson, csv"):
        export_run(scored, tmp_path / "o", ["csv", "xlsx"])
    with pytest.raises(ExportError, match="no review folder"):
        export_run(scored, tmp_path / "o", ["csv"], review=tmp_path / "nothing")
    with open_slide(procedural_slide) as slide, pytest.raises(ExportError, match="not the slide"):
        export_run(scored, tmp_path / "o", ["csv"], slide=slide)
    other = make_run(np.ones((3, 3), bool), name="other")
    folder = review_folder(other.run.path)
    store = ReviewStore(folder, run_identity(other.run), "A")
    store.add(Verdict("0-0", (0, 0, 64, 64), ((0, 0),), Kind.SKIP, reviewer="A"))
    with pytest.raises(ReviewError, match="another run"):
        export_run(scored, tmp_path / "o", ["csv"], review=folder)
    assert not (tmp_path / "o").exists()
