"""Rows of real runs: shares, worst region, what is remembered, what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_ood import Bundle, RunError, open_run, open_slide, run_slide
from napari_ood.analysis import ScoredRun
from napari_ood.board import SlideRow, read_board
from napari_ood.board import reading as module
from napari_ood.board.cache import CACHE, RowCache
from napari_ood.board.measure import light_of

from .conftest import PX, write_slide


@pytest.fixture
def copied(cohort: Path, tmp_path: Path) -> Path:
    """The cohort's folder elsewhere, without what was measured before."""
    return Path(shutil.copytree(cohort, tmp_path / "copy", ignore=shutil.ignore_patterns(CACHE)))


def by_name(folder: Path) -> dict[str, SlideRow]:
    return {row.name: row for row in read_board(folder).rows}


def test_shares_are_those_of_the_scored_run(copied: Path, two_kinds_bundle: Bundle) -> None:
    rows = by_name(copied)
    assert list(rows) == ["clean", "half", "ink", "bad", "later"]
    scored = ScoredRun(open_run(copied / "half.ood.zarr"), two_kinds_bundle)
    for role in ("ood", "appearance", "tissue"):
        limit = two_kinds_bundle.require_reference().quantile(scored.score_name(role), 0.95)
        assert getattr(rows["half"], role) == pytest.approx((scored.score(role) > limit).mean())
    assert rows["clean"].ood is not None and rows["ink"].ood is not None
    assert rows["clean"].ood < rows["half"].ood < rows["ink"].ood == 1.0
    entropy = scored.score("uncertainty")
    assert rows["half"].uncertainty == pytest.approx(entropy.mean(), rel=1e-5)
    assert rows["half"].uncertainty_95 == pytest.approx(np.quantile(entropy, 0.95), rel=1e-5)
    assert sum(share for _, share in rows["half"].classes) == pytest.approx(1)
    assert rows["half"].mm2 == pytest.approx(25 * (32 * 1e-3) ** 2)


def test_the_worst_region_is_where_the_ink_is(copied: Path) -> None:
    worst = by_name(copied)["half"].worst
    assert worst is not None
    y, x, h, w = worst.box
    middle = x + w / 2
    assert middle > PX / 2 and h == PX and worst.n_tiles >= 10
    top, left, side, _ = worst.peak_box
    assert y <= top and left + side <= x + w and side == 64


def test_what_a_list_says_counts_over_the_file(copied: Path) -> None:
    rows = by_name(copied)
    half, clean = rows["half"], rows["clean"]
    assert (half.scanner, half.date, half.group) == ("Lab B", "2026-05-06", "biopsy")
    assert half.date_source == "the list of slides"
    assert (clean.date, clean.date_source) == ("2026-03-04T05:06:07", "tiff.DateTime")
    assert clean.group is None


def test_slides_that_only_earlier_calls_named_keep_their_rows(copied: Path) -> None:
    before = by_name(copied)
    manifest = json.loads((copied / "cohort.json").read_text())
    manifest["earlier"], manifest["slides"] = manifest["slides"], manifest["slides"][:1]
    del manifest["earlier"][0]
    (copied / "cohort.json").write_text(json.dumps(manifest))
    assert by_name(copied) == before  # with what the list said of them


def test_slides_without_result_stay_with_their_error(copied: Path) -> None:
    rows = by_name(copied)
    assert (rows["bad"].outcome, rows["bad"].error) == ("failed", "it is <b>no</b> slide")
    assert rows["later"].outcome == "missing" and "run the cohort again" in str(rows["later"].error)
    shutil.rmtree(copied / "ink.ood.zarr" / "logits")
    (copied / CACHE).unlink()  # else the row is known from before
    shutil.rmtree(copied / "clean.ood.zarr")
    # Without its own run the manifest's is looked for, at the place of then: take that away, too.
    manifest = json.loads((copied / "cohort.json").read_text())
    for record in manifest["slides"]:
        record["run"] = str(Path("/gone") / Path(record["run"]).name)
    (copied / "cohort.json").write_text(json.dumps(manifest))
    rows = by_name(copied)
    assert rows["clean"].outcome == "missing" and "is not at /gone" in str(rows["clean"].error)
    assert rows["ink"].outcome == "failed" and rows["ink"].error
    assert rows["half"].ood is not None


def test_a_second_reading_opens_no_run(
    copied: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = read_board(copied)
    measured: list[Path] = []
    monkeypatch.setattr(module._Reader, "_measure", lambda self, entry: measured.append(entry.run))
    assert read_board(copied).rows == first.rows and not measured
    # A moved folder knows its rows, at their new places.
    moved = Path(shutil.move(copied, tmp_path / "moved"))
    again = read_board(moved)
    assert not measured and again.rows[0].run == str(moved / "clean.ood.zarr")
    assert [r.ood for r in again.rows] == [r.ood for r in first.rows]


def test_a_run_that_has_changed_is_measured_again(
    copied: Path, two_kinds_bundle: Bundle, tmp_path: Path
) -> None:
    before = by_name(copied)["clean"]
    shutil.rmtree(copied / "clean.ood.zarr")
    with open_slide(write_slide(tmp_path / "clean.tif", 0.8, 9)) as slide:
        run_slide(slide, two_kinds_bundle, copied / "clean.ood.zarr", tissue=False, device="cpu")
    after = by_name(copied)["clean"]
    assert before.ood is not None and after.ood is not None and after.ood > before.ood + 0.3


def test_a_run_without_features_says_why_it_has_no_share(
    tmp_path: Path, two_kinds_bundle: Bundle
) -> None:
    path = write_slide(tmp_path / "s.tif", 0.5, 1)
    options = {"tissue": False, "device": "cpu", "features": "none"}
    with open_slide(path) as slide:
        run_slide(slide, two_kinds_bundle, tmp_path / "s.ood.zarr", **options)
    row = by_name(tmp_path)["s"]
    assert (row.outcome, row.ood, row.light) == ("done", None, "grey")
    assert row.error == "no OOD share: it was run without features"
    assert row.uncertainty is not None and by_name(tmp_path)["s"] == row


def test_unfinished_runs_and_runs_without_manifest(
    copied: Path, two_kinds_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copied / "cohort.json").unlink()
    monkeypatch.setattr("napari_ood.inference.plan.BLOCK_PX", 64)
    monkeypatch.setattr("napari_ood.inference.plan.SHARD_TILES", (1, 1))
    slide_path = write_slide(copied / "part.tif", 0.5, 3)
    seen: list[int] = []
    with open_slide(slide_path) as slide:
        run_slide(slide, two_kinds_bundle, copied / "part.ood.zarr", tissue=False, device="cpu",
                  on_progress=lambda p: seen.append(p.n_done),
                  cancel=lambda: bool(seen), batch_size=1)  # fmt: skip
        rows = by_name(copied)
        assert list(rows) == ["clean", "half", "ink", "part"]
        assert rows["part"].outcome == "unfinished"
        assert 0 < rows["part"].n_tiles < (rows["part"].n_total or 0) == 25
        run_slide(slide, two_kinds_bundle, copied / "part.ood.zarr", tissue=False, device="cpu")
    assert by_name(copied)["part"].outcome == "done"


def test_without_the_bundle_shares_are_unknown_and_come_with_it(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    bundle_folder = Path(shutil.copytree(tiny_bundle.path, tmp_path / "bundles" / "own"))
    from napari_ood import load_bundle

    with open_slide(write_slide(tmp_path / "a.tif", 0.5, 1)) as slide:
        run_slide(slide, load_bundle(bundle_folder), tmp_path / "out" / "a.ood.zarr",
                  tissue=False, device="cpu")  # fmt: skip
    hidden = bundle_folder.with_name("hidden")
    bundle_folder.rename(hidden)
    (row,) = read_board(tmp_path / "out").rows
    assert row.ood is None and row.light == "grey" and "is not at hand" in str(row.error)
    assert row.uncertainty is not None and row.classes
    hidden.rename(bundle_folder)
    (row,) = read_board(tmp_path / "out").rows
    assert row.ood is not None and row.error is None


def test_damaged_cache_and_a_folder_that_cannot_be_written(copied: Path) -> None:
    first = read_board(copied).rows
    lines = (copied / CACHE).read_bytes().splitlines(keepends=True)
    (copied / CACHE).write_bytes(b"\xff{ no JSON\n" + b"".join(lines)[:-40])
    assert read_board(copied).rows == first
    assert len(RowCache(copied)) == 3
    (copied / CACHE).unlink()
    (copied / CACHE).mkdir()  # nothing can be written there
    assert read_board(copied).rows == first


def test_outdated_lines_are_cleared_away(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read_board(copied).rows
    monkeypatch.setattr("napari_ood.board.cache.STALE_LINES", 5)
    cache = RowCache(copied)
    for i in range(20):
        cache.put(f"{i:032}", rows[0])
    assert read_board(copied).rows == rows
    assert len((copied / CACHE).read_text().splitlines()) == 3


def test_cancelled_and_nothing_there(copied: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    board = read_board(copied, on_row=lambda i, row: seen.append(i), cancel=lambda: True)
    assert not board.complete and len(board.rows) == 5 and seen == [0, 1, 2, 3, 4]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"neither cohort\.json nor runs"):
        read_board(tmp_path / "empty")


def test_lights() -> None:
    assert light_of({}) == "grey"
    assert light_of({"ood": 0.14}) == "green" and light_of({"ood": 0.15}) == "yellow"
    # Where both kinds are known, each is held against the limits.
    assert light_of({"ood": 0.5, "appearance": 0.1, "tissue": 0.2}) == "yellow"
    assert light_of({"ood": 0.3, "appearance": 0.0, "tissue": 0.4}) == "red"
