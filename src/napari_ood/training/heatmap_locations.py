"""Sampling vectors at single places of in-distribution tiles (torch)."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from napari_ood.models import Bundle, resolve_device
from napari_ood.models.locations import (
    GRID,
    LocationDistance,
    LocationSample,
    place_vectors,
    tile_scores,
)
from napari_ood.models.spatial import SpatialNet
from napari_ood.training.heatmap_layers import (
    BATCH,
    OnTiles,
    location_layers,
    pooled_maps,
    spatial_layers,
)

PER_TILE = 8
"""Vectors per tile: neighbours say much the same, more tiles say more."""

MAX_VECTORS, MAX_BYTES = 9000, 1_800_000
N_HELD_PLACES = 4096


def sample_locations(
    bundle: Bundle,
    tiles: NDArray[np.uint8],
    labels: NDArray[np.int64],
    held: NDArray[np.uint8],
    *,
    layers: Sequence[str] | None = None,
    seed: int = 0,
    device: str = "auto",
    on_tiles: OnTiles | None = None,
    cancel: threading.Event | None = None,
) -> LocationSample:
    """Sample vectors at places of in-distribution tiles, and score held-out ones.

    Parameters
    ----------
    bundle : Bundle
    tiles : [N, t, t, 3] uint8; more than are needed are drawn from
    labels : [N] int; −1: unlabelled, the predicted class is taken
    held : [V, t, t, 3] uint8, held-out tiles, for range and threshold
    layers : of the trunk; None: blocks of the card, neither very fine nor very coarse
    seed : of the draw

    Raises
    ------
    BundleError
        If the layers have no places.
    TrainingCancelled
        If ``cancel`` was set.
    """
    chosen = spatial_layers(bundle)
    if layers is None:
        chosen = location_layers(chosen)
    else:
        chosen = tuple(m for m in chosen if m.layer in layers)
    names = tuple(m.layer for m in chosen)
    grid = min(GRID, max(min(m.height, m.width) for m in chosen))
    n_channels = sum(m.channels for m in chosen)
    n_vectors = max(2, min(MAX_VECTORS, MAX_BYTES // (2 * n_channels)))
    rng = np.random.default_rng(seed)
    kept = np.sort(rng.permutation(len(tiles))[: -(-n_vectors // PER_TILE)])
    net = SpatialNet(bundle.network(resolve_device(device)), names)

    seen = pooled_maps(net, tiles[kept], on_tiles, cancel)
    known = np.where(labels[kept] >= 0, labels[kept], seen.predicted.numpy())
    vectors = np.concatenate(
        [
            _drawn(
                place_vectors(
                    {n: x[i : i + BATCH].float() for n, x in seen.maps.items()}, names, grid
                ),
                rng,
            )
            for i in range(0, len(kept), BATCH)
        ]
    )
    rows = rng.permutation(len(vectors))[:n_vectors]
    vectors = vectors[rows].astype(np.float16).astype(np.float32)  # scored as they are stored
    owners = np.repeat(known, PER_TILE)[rows]

    distance = LocationDistance(names, grid, vectors, owners)
    places, scores = [], []
    with torch.inference_mode():
        for start in range(0, len(held), BATCH):
            heat = distance.heat(net(torch.from_numpy(held[start : start + BATCH]).to(net.device)))
            places.append(heat.flatten().cpu().numpy())
            scores.append(tile_scores(heat).cpu().numpy())
    return LocationSample(
        names,
        grid,
        vectors,
        owners,
        thinned(np.concatenate(places)),
        np.sort(np.concatenate(scores)),
    )


def thinned(values: NDArray[np.float32], n: int = N_HELD_PLACES) -> NDArray[np.float32]:
    """At most ``n`` quantiles of many values, evenly spaced, the extremes included; sorted."""
    if len(values) <= n:
        return np.sort(values)
    return np.quantile(values, np.linspace(0, 1, n)).astype(np.float32)


def _drawn(vectors: torch.Tensor, rng: np.random.Generator) -> NDArray[np.float32]:
    """``PER_TILE`` places of each tile; [B · PER_TILE, D] of [B, D, h, w]."""
    flat = vectors.flatten(2).numpy()
    places = rng.integers(0, flat.shape[2], (len(flat), PER_TILE))
    drawn = np.take_along_axis(flat, places[:, None], axis=2)
    return np.asarray(drawn.transpose(0, 2, 1).reshape(-1, flat.shape[1]), np.float32)
