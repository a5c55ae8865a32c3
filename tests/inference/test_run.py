"""The run on disk: what it gives back, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_ood import Bundle, Run, RunError, Slide, open_run, run_slide
from napari_ood.inference.store import shards
from napari_ood.scores import entropy, mean_probability

pytestmark = pytest.mark.usefixtures("small_shards")


@pytest.fixture
def run(slide: Slide, tiny_bundle: Bundle, tmp_path: Path) -> Run:
    return run_slide(slide, tiny_bundle, tmp_path / "disc.ood.zarr", device="cpu")


def test_what_was_returned_is_what_is_stored(run: Run) -> None:
    stored = open_run(run.path)
    for name in ("logits", "features", "boxes", "index", "partial"):
        assert np.array_equal(getattr(stored, name), getattr(run, name))
    assert stored.classes == run.classes and stored.grid == run.grid


def test_shapes_and_types(run: Run, tiny_bundle: Bundle) -> None:
    n, card = run.n_tiles, tiny_bundle.card
    assert run.logits.shape == (n, card.n_heads, len(card.classes))
    assert run.features.shape == (n, card.n_features) and run.boxes.shape == (n, 4)
    assert run.logits.dtype == run.features.dtype == np.float32
    assert run.map("ood").dtype == np.float32 and run.map("ood").shape == run.done.shape


def test_scores_maps_and_predictions_agree(run: Run, tiny_bundle: Bundle) -> None:
    expected = entropy(run.logits, tiny_bundle.card.temperature)
    assert np.array_equal(run.score("entropy"), expected)
    assert run.score("uncertainty") is run.score(tiny_bundle.card.scores["uncertainty"])
    reference = tiny_bundle.reference
    assert reference is not None
    ood = reference.score(tiny_bundle.card.scores["ood"], run.logits, run.features)
    assert np.array_equal(run.score("ood"), ood)
    grid = run.map("ood")
    assert np.array_equal(np.isnan(grid), ~run.done)
    assert np.array_equal(grid[tuple(run.index.T)], ood)
    p = mean_probability(run.logits, tiny_bundle.card.temperature)
    assert np.array_equal(run.prediction(), p.argmax(axis=1))
    assert np.array_equal(run.prediction_map() >= 0, run.done)


def test_an_unknown_score_is_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="unknown score"):
        run.score("vibes")


def test_the_card_names_the_scores_of_both_kinds_of_foreign(
    slide: Slide, two_kinds_bundle: Bundle, tmp_path: Path
) -> None:
    run = run_slide(slide, two_kinds_bundle, tmp_path / "two.ood.zarr", device="cpu")
    reference = two_kinds_bundle.require_reference()
    for kind, name in two_kinds_bundle.card.scores.items():
        assert run.score(kind) is run.score(name)
        expected = reference.score(name, run.logits, run.features)
        assert np.array_equal(run.score(kind), expected)
    assert not np.allclose(run.score("appearance"), run.score("tissue"))


def test_a_kind_that_the_card_lacks_is_refused_with_what_it_has(run: Run) -> None:
    with pytest.raises(RunError, match=r"no score 'tissue'.*uncertainty, ood"):
        run.score("tissue")


def test_a_score_is_kept_and_cannot_be_changed_for_the_next_one(run: Run) -> None:
    """SF-Visuals keeps one table that each score overwrites for the others."""
    entropy_before = run.score("entropy").copy()
    for name in ("entropy", "ood", "mahalanobis@layer1"):
        with pytest.raises(ValueError, match="read-only"):
            run.score(name)[0] = 0
    run.map("entropy")[:] = 0
    assert np.array_equal(run.score("entropy"), entropy_before)


def test_provenance_says_where_it_comes_from(run: Run, slide: Slide, tiny_bundle: Bundle) -> None:
    record = open_run(run.path).provenance
    assert record["slide"]["path"] == str(slide.path) and record["slide"]["size"] == [760, 1000]
    assert record["slide"]["fingerprint"] == slide.fingerprint()
    assert record["bundle"]["hashes"] == tiny_bundle.hashes
    assert {"torch", "numpy", "zarr"} <= set(record["versions"])
    assert record["warnings"] == list(slide.warnings)
    (session,) = record["sessions"]
    assert session["device"] == "cpu" and session["n_tiles"] == run.n_tiles


def test_without_the_bundle_head_scores_work_and_distances_say_what_to_do(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    from napari_ood import load_bundle

    elsewhere = tmp_path / "borrowed"
    shutil.copytree(tiny_bundle.path, elsewhere)
    out = tmp_path / "a.ood.zarr"
    run_slide(slide, load_bundle(elsewhere), out, device="cpu")
    shutil.rmtree(elsewhere)
    run = open_run(out)
    assert np.isfinite(run.score("entropy")).all() and run.classes == tiny_bundle.card.classes
    with pytest.raises(RunError, match="not at hand"):
        run.score("ood")


def test_a_shard_without_its_done_flag_counts_for_nothing(
    slide: Slide, tiny_bundle: Bundle, run: Run
) -> None:
    whole = run.logits.copy()
    chunk = sorted((run.path / "done" / "c").rglob("*"))[-1]
    chunk.unlink()  # as if the process had died just before writing it
    damaged = open_run(run.path)
    assert not damaged.complete and damaged.n_tiles < len(whole)
    again = run_slide(slide, tiny_bundle, run.path, device="cpu")
    assert np.array_equal(again.logits, whole)


def test_folders_that_are_no_runs_are_refused(tmp_path: Path, run: Run) -> None:
    with pytest.raises(RunError, match="does not exist"):
        open_run(tmp_path / "nothing.ood.zarr")
    zarr.open_group(tmp_path / "other.zarr", mode="w")
    with pytest.raises(RunError, match="no run of napari-ood"):
        open_run(tmp_path / "other.zarr")
    meta = run.path / "zarr.json"
    content = json.loads(meta.read_text())
    content["attributes"]["napari_ood_run"]["format_version"] = 99
    meta.write_text(json.dumps(content))
    with pytest.raises(RunError, match="format 99"):
        open_run(run.path)
    meta.write_text("{")
    with pytest.raises(RunError, match="no run of napari-ood"):
        open_run(run.path)


def test_a_run_that_lost_an_array_is_refused(run: Run) -> None:
    shutil.rmtree(run.path / "features")
    with pytest.raises(RunError, match="lacks features"):
        open_run(run.path)


def test_shards_partition_the_grid() -> None:
    count = np.zeros((17, 23), int)
    for shard in shards((17, 23), (5, 8)):
        count[shard.slices] += 1
        assert count[shard.slices].shape == shard.shape
    assert (count == 1).all()


@pytest.mark.parametrize("array", ["done", "tissue", "logits", "features"])
def test_a_damaged_file_is_named(run: Run, array: str) -> None:
    chunk = next(p for p in (run.path / array / "c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:5])
    with pytest.raises(RunError, match=f"damaged.* {array} .*run the slide again"):
        getattr(open_run(run.path), "logits" if array == "logits" else "features")


@pytest.mark.parametrize("key", ["grid", "identity", "sessions"])
def test_provenance_that_lacks_something_is_damage(run: Run, key: str) -> None:
    file = run.path / "zarr.json"
    content = json.loads(file.read_text())
    del content["attributes"]["napari_ood_run"][key]
    file.write_text(json.dumps(content))
    with pytest.raises(RunError, match=f"damaged: it lacks {key}"):
        open_run(run.path)
