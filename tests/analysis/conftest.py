"""Runs on disk with logits and features that a test chooses: no network is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_ood.inference import Run, open_run
from napari_ood.inference.plan import Plan
from napari_ood.inference.store import RunWriter, shards
from napari_ood.slides.grid import TileGrid

if TYPE_CHECKING:
    from napari_ood.models import Bundle

StoreRun = Callable[..., Run]


@pytest.fixture
def store_run(tiny_bundle: Bundle, tmp_path: Path) -> StoreRun:
    """Write a run of the tiny bundle: tiles in one row at 0.5 µm/px, pitch 64 px, and open it.

    Takes logits [N, M, C]; features [N, D] (those of a held-out tile, by default); done [N] bool;
    the bundle; mpp (y, x) or None.
    """

    def store(
        logits: np.ndarray,
        features: np.ndarray | None = None,
        done: np.ndarray | None = None,
        bundle: Bundle = tiny_bundle,
        mpp: tuple[float, float] | None = (0.5, 0.5),
    ) -> Run:
        n, n_heads, n_classes = logits.shape
        if features is None:
            held_out = bundle.require_reference().validation_features
            features = held_out[np.arange(n) % len(held_out)]
        finished = np.ones(n, bool) if done is None else done
        grid = TileGrid.over((64, 64 * max(n, 1)), 32, (2.0, 2.0))
        tissue = np.ones((1, max(n, 1)), bool) if n else np.zeros((1, 1), bool)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.ood.zarr"
        provenance = {
            "identity": {},
            "slide": {"name": "strip", "path": "strip.tif", "mpp": mpp, "fingerprint": "0"},
            "bundle": {
                "name": bundle.name,
                "path": str(bundle.path),
                "hashes": dict(bundle.hashes),
                "card": bundle.card.to_config(),
            },
            "sessions": [],
        }
        writer = RunWriter.create(
            path, Plan(grid, tissue, (1, 32)), n_heads, n_classes, features.shape[1], provenance
        )
        for shard in shards(tissue.shape, (1, 32)):
            columns = np.arange(shard.left, min(shard.right, n))
            columns = columns[finished[columns]]
            index = np.stack([np.zeros_like(columns), columns], axis=1)
            if len(columns):
                writer.write(shard, index, logits[columns], features[columns])
        return open_run(path)

    return store
