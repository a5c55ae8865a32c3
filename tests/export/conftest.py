"""Runs of any shape, made without a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_ood import Bundle, open_run
from napari_ood.analysis.scored import ScoredRun
from napari_ood.inference.plan import Plan
from napari_ood.inference.store import RunWriter, Shard
from napari_ood.slides.grid import TileGrid

MakeRun = Callable[..., ScoredRun]


def write_run(
    path: Path,
    bundle: Bundle,
    done: NDArray[np.bool_],
    *,
    grid: TileGrid | None = None,
    mpp: tuple[float, float] | None = (0.5, 0.5),
    bounds: tuple[int, int, int, int] | None = None,
    slide: dict[str, Any] | None = None,
    seed: int = 0,
    with_bundle: bool = True,
    logits: NDArray[np.float32] | None = None,
) -> ScoredRun:
    """Store a run whose tiles have random logits and features, and open it."""
    rows, cols = done.shape
    grid = grid or TileGrid.over((rows * 64, cols * 64), 32, (2.0, 2.0))
    assert (grid.rows, grid.cols) == done.shape
    card = bundle.card
    record = {
        "identity": {"slide": "0" * 64, "bundle": dict(bundle.hashes), "grid": grid.to_dict()},
        "slide": {
            "name": "drawn", "path": "nowhere/drawn.tif", "size": list(grid.shape),
            "mpp": list(mpp) if mpp else None, "bounds": list(bounds) if bounds else None,
            "vendor": "generic", "fingerprint": "0" * 64, **(slide or {}),
        },
        "bundle": {
            "name": bundle.name if with_bundle else "gone",
            "path": str(bundle.path) if with_bundle else "nowhere",
            "hashes": dict(bundle.hashes), "card": card.to_config(),
        },
        "warnings": [], "versions": {}, "created": "2026-01-01T00:00:00+00:00", "sessions": [],
    }  # fmt: skip
    plan = Plan(grid, done, done.shape)
    writer = RunWriter.create(path, plan, card.n_heads, card.n_classes, card.n_features, record)
    rng = np.random.default_rng(seed)
    index = np.argwhere(done)
    if logits is None:
        logits = rng.normal(0, 2, (len(index), card.n_heads, card.n_classes)).astype(np.float32)
    features = rng.normal(0, 1, (len(index), card.n_features)).astype(np.float32)
    if len(index):
        writer.write(Shard(0, 0, rows, cols), index, logits, features)
    return ScoredRun(open_run(path))


@pytest.fixture
def make_run(tiny_bundle: Bundle, tmp_path: Path) -> MakeRun:
    def make(done: NDArray[np.bool_], **options: Any) -> ScoredRun:
        name = options.pop("name", "drawn")
        return write_run(tmp_path / f"{name}.ood.zarr", tiny_bundle, done, **options)

    return make


@pytest.fixture
def scattered() -> NDArray[np.bool_]:
    """Cells with holes, islands in holes and corners that touch."""
    return np.random.default_rng(3).random((12, 15)) < 0.55


@pytest.fixture(scope="session")
def run_writer() -> MakeRun:
    """Stores a run anywhere."""
    return write_run
