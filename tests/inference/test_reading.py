"""Stored runs read in pieces: every tile once, whatever the shards, and damage is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from napari_ood import Bundle, Slide, open_run, run_slide
from napari_ood.errors import RunError
from napari_ood.inference import reading
from napari_ood.inference.plan import Plan
from napari_ood.inference.reading import TileArrays
from napari_ood.inference.run import Run
from napari_ood.inference.store import RunWriter, open_group, shards
from napari_ood.slides.grid import TileGrid


@settings(max_examples=25, deadline=None)
@given(
    done=hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))),
    shard=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    tiles_per_piece=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_every_finished_tile_is_read_once(
    done: NDArray[np.bool_],
    shard: tuple[int, int],
    tiles_per_piece: int,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("run") / "r.ood.zarr"
    rows, cols = done.shape
    shard = min(shard[0], rows), min(shard[1], cols)
    plan = Plan(TileGrid.over((rows * 8, cols * 8), 8), done, shard)
    keys = ("identity", "slide", "bundle", "sessions")
    writer = RunWriter.create(path, plan, 2, 3, 5, {key: {} for key in keys})
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, cols, 5)).astype(np.float32)
    for part in shards(done.shape, shard):
        index = np.argwhere(done[part.slices]) + part.origin
        if len(index):
            writer.write(
                part, index, np.zeros((len(index), 2, 3), np.float32), features[tuple(index.T)]
            )
    arrays = TileArrays(path, open_group(path), done, shard)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", tiles_per_piece * 5 * 4)
        np.testing.assert_array_equal(arrays.whole("features"), features[done])
        pieces = list(arrays.pieces("features"))
        positions = [tiles for tiles, _ in pieces]
        assert sorted(np.concatenate([*positions, []]).tolist()) == list(range(done.sum()))
        largest = max(tiles_per_piece, shard[0] * shard[1])
        assert all(0 < len(tiles) <= largest for tiles in positions)
        if done.any():
            some = rng.integers(0, done.sum(), 9)
            np.testing.assert_array_equal(arrays.at("features", some), features[done][some])


@pytest.fixture
def run(
    slide: Slide, tiny_bundle: Bundle, tmp_path: Path, small_shards: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:  # fmt: skip
    """A run that is too large to be kept, in many pieces."""
    run_slide(slide, tiny_bundle, tmp_path / "r.ood.zarr", device="cpu")
    monkeypatch.setattr("napari_ood.inference.run.KEEP_BYTES", 0)
    monkeypatch.setattr(reading, "PIECE_BYTES", 4096)
    return open_run(tmp_path / "r.ood.zarr")


def test_scores_of_a_large_run_are_those_of_a_small_one(run: Run, tiny_bundle: Bundle) -> None:
    names = ("mahalanobis@layer1", "max(mahalanobis@layer1,entropy)", "entropy")
    in_pieces = run.feature_scores(tiny_bundle.require_reference(), names)
    assert "features" not in run.__dict__, "they were not kept"
    reference = tiny_bundle.require_reference()
    assert len(list(run.feature_pieces())) > 3
    for name, values in zip(names, in_pieces, strict=True):
        whole = reference.score(name, run.logits, run.features)
        np.testing.assert_allclose(values, whole, rtol=1e-5)
    some = np.array([3, 1, 3])
    np.testing.assert_array_equal(open_run(run.path).features_of(some), run.features[some])


def test_a_damaged_piece_is_told_and_ends_the_reading(run: Run) -> None:
    chunk = sorted(p for p in (run.path / "features" / "c").rglob("*") if p.is_file())[-1]
    chunk.write_bytes(b"no zstd")
    with pytest.raises(RunError, match=r"is damaged: its features cannot be read"):
        for _ in run.feature_pieces():
            pass
