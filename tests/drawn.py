"""A scored run that a test draws: scores on a grid, without files, network or bundle."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.slides.grid import TileGrid


@dataclass
class DrawnRun:
    """What regions and reviews ask of a ScoredRun; cells that are not ``done`` have no tile."""

    scores: ArrayLike
    done: ArrayLike | None = None
    classes: tuple[str, ...] = ("stroma", "tumour")
    predicted: ArrayLike | None = None
    features: NDArray[np.float32] | None = None
    mm2_per_tile: float | None = 0.25
    roles: dict[str, str] = field(default_factory=lambda: {"ood": "mahalanobis@early"})

    def __post_init__(self) -> None:
        grid = np.asarray(self.scores, np.float32)
        self.mask = np.ones(grid.shape, bool) if self.done is None else np.asarray(self.done)
        self.values = grid[self.mask]
        rows, cols = grid.shape
        self.grid = TileGrid.over((rows * 10, cols * 20), 10, (1.0, 2.0))

    @cached_property
    def index(self) -> NDArray[np.int64]:
        return np.argwhere(self.mask)

    @cached_property
    def run(self) -> Any:
        features = self.features
        if features is None:
            features = np.zeros((len(self.values), 0), np.float32)
        return SimpleNamespace(
            path=Path("drawn.ood.zarr"),
            provenance={"slide": {"fingerprint": "0"}, "bundle": {"hashes": {}}},
            grid=self.grid,
            done=self.mask,
            index=self.index,
            boxes=self.grid.boxes(self.index),
            n_tiles=len(self.index),
            features_of=lambda tiles: features[tiles],
        )

    @property
    def card(self) -> Any:
        return SimpleNamespace(n_classes=len(self.classes), n_heads=3)

    def score_name(self, name: str) -> str:
        return self.roles.get(name, name)

    def familiar(self, name: str) -> NDArray[np.float32]:
        """Held-out tiles of a bundle: as many below as above 0, 5 % above 2."""
        return np.linspace(-2.2, 2.2, 101, dtype=np.float32)

    def score(self, name: str) -> NDArray[np.float32]:
        assert name in {*self.roles, *self.roles.values()}
        return self.values

    def prediction(self) -> NDArray[np.int64]:
        if self.predicted is None:
            return np.zeros(len(self.values), np.int64)
        return np.asarray(self.predicted, np.int64)[self.mask]

    def probabilities(self) -> NDArray[np.float32]:
        return np.eye(len(self.classes), dtype=np.float32)[self.prediction()]

    def on_grid(self, values: NDArray[Any], fill: Any) -> NDArray[Any]:
        out = np.full(self.mask.shape, fill, values.dtype)
        out[self.mask] = values
        return out
