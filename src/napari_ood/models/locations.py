"""How foreign the single places of a tile are: Mahalanobis++ on the trunk's maps (needs torch).

No foreign data is involved. The vectors of in-distribution places are stored, never a fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate, normalize

from napari_ood.errors import BundleError
from napari_ood.models.packed import CONFIG_ARRAY, Arrays, pack_config, unpack_config
from napari_ood.models.spatial import Seen
from napari_ood.scores.distance import Mahalanobis

Floats = NDArray[np.float32]
VERSION = 1
GRID = 18
"""Places side by side at most. Twice as many blur nothing less: single vectors of early layers are
noisier than means of a few (pixel AUROC 0.710 against 0.738 on planted training kinds)."""

TILE_QUANTILE = 0.9
"""A tile is as foreign as the most foreign tenth of it: an artefact in a corner counts, one odd
nucleus does not. Chosen on planted training kinds (AUROC 0.79; mean 0.76, maximum 0.75)."""

VECTORS, LABELS = "sample.vectors", "sample.labels"
HELD_PLACES, HELD_TILES = "held_out.places", "held_out.tiles"


@dataclass(frozen=True)
class LocationSample:
    """Vectors at single places of in-distribution tiles.

    Attributes
    ----------
    layers : of the trunk
    grid : places side by side
    vectors : [N, D] float, as ``place_vectors`` gives them
    labels : [N] int, class of the tile that each is from
    held_places : sorted distances at places of held-out tiles, for the range of colours
    held_tiles : sorted scores of held-out tiles, for the threshold
    """

    layers: tuple[str, ...]
    grid: int
    vectors: Floats
    labels: NDArray[np.int64]
    held_places: Floats
    held_tiles: Floats

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """As ``locations.safetensors`` stores them (vectors in half precision)."""
        config = {"version": VERSION, "layers": list(self.layers), "grid": self.grid}
        return {
            CONFIG_ARRAY: pack_config(config),
            VECTORS: self.vectors.astype(np.float16),
            LABELS: self.labels.astype(np.int16),
            HELD_PLACES: self.held_places,
            HELD_TILES: self.held_tiles,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays, source: str) -> Self:
        """Inverse of ``arrays``; BundleError when something is missing or does not fit."""
        config = unpack_config(arrays, source, VERSION)
        names = (VECTORS, LABELS, HELD_PLACES, HELD_TILES)
        missing = [name for name in names if name not in arrays]
        if missing:
            raise BundleError(f"{source} lacks {missing[0]!r}: make it anew")
        vectors, labels, places, tiles = (np.asarray(arrays[name]) for name in names)
        good = vectors.ndim == 2 and labels.shape == vectors.shape[:1] and len(vectors) >= 2
        if not good or not len(places) or not len(tiles):
            raise BundleError(f"{source}: vectors {vectors.shape} and labels {labels.shape}")
        values = [np.asarray(a, np.float32) for a in (vectors, places, tiles)]
        if not all(np.isfinite(a).all() for a in values):
            raise BundleError(f"{source} holds values that are not finite: make it anew")
        layers, grid = _checked(config, source)
        return cls(layers, grid, values[0], labels.astype(np.int64), values[1], values[2])


class LocationDistance:
    """Distance of each place of a tile to the places of in-distribution tiles.

    Mahalanobis++ (Müller & Hein, ICML 2025): vectors of unit length, class means, one shrunk
    covariance; min over the classes.
    """

    def __init__(
        self, layers: Sequence[str], grid: int, vectors: ArrayLike, labels: ArrayLike
    ) -> None:
        self.layers, self.grid = tuple(layers), grid
        # place_vectors has brought each layer's part to unit length already
        fit = Mahalanobis.fit(vectors, labels)
        self._whitening = torch.from_numpy(fit.whitening.astype(np.float32))
        self._means = torch.from_numpy(fit.means.astype(np.float32))

    def heat(self, seen: Seen) -> Tensor:
        """Distance in standard deviations; [B, grid, grid] float32."""
        vectors = place_vectors(seen.maps, self.layers, self.grid)
        if vectors.shape[1] != len(self._whitening):
            raise BundleError(
                f"the maps have {vectors.shape[1]} channels, the stored places "
                f"{len(self._whitening)}: the sample is of another network"
            )
        whitening = self._whitening.to(vectors.device)
        white = torch.einsum("bdhw,de->bhwe", vectors, whitening)
        nearest = torch.stack(
            [(white - mean).square().sum(dim=3) for mean in self._means.to(vectors.device)]
        ).amin(dim=0)
        return nearest.sqrt()


def place_vectors(maps: Mapping[str, Tensor], layers: Sequence[str], grid: int) -> Tensor:
    """Vectors of unit length of each layer, side by side, on a common grid: [B, D, grid, grid].

    Finer maps are averaged over the cells of the grid, coarser ones interpolated.
    """
    parts = []
    for name in layers:
        x = normalize(maps[name], dim=1)
        if max(x.shape[2:]) > grid:
            x = adaptive_avg_pool2d(x, grid)
        elif tuple(x.shape[2:]) != (grid, grid):
            x = interpolate(x, size=(grid, grid), mode="bilinear", align_corners=False)
        parts.append(x)
    return torch.cat(parts, dim=1)


def tile_scores(heat: Tensor) -> Tensor:
    """The ``TILE_QUANTILE`` of the places of each tile; [B] of [B, h, w]."""
    return torch.quantile(heat.flatten(1), TILE_QUANTILE, dim=1)


def _checked(config: dict[str, Any], source: str) -> tuple[tuple[str, ...], int]:
    layers, grid = config.get("layers"), config.get("grid")
    names = tuple(n for n in layers if isinstance(n, str)) if isinstance(layers, list) else ()
    if not names or not isinstance(grid, int) or not 2 <= grid <= 512:
        raise BundleError(f"{source} does not say its layers and grid: make it anew")
    return names, grid
