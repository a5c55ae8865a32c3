"""Which layers of a trunk have places, and what they say about many tiles (torch)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_ood.errors import BundleError, TrainingCancelled
from napari_ood.models import Bundle, InferenceNet
from napari_ood.models.heatmap import MapSpec
from napari_ood.models.network import PENULTIMATE_ONLY
from napari_ood.models.spatial import SpatialNet

BATCH = 64
FEWEST_PLACES = 8
"""Side by side, of a layer for the distance of places: coarser maps see past an artefact's edge."""

HALF_LIMIT = 6e4
OnTiles = Callable[[int, int], None]


class PooledMaps(NamedTuple):
    """What a network saw in many tiles, in memory.

    Attributes
    ----------
    maps : layer → [N, C, h, w] float16
    predicted : [N] int64
    features : [N, D] float32, penultimate
    """

    maps: dict[str, Tensor]
    predicted: Tensor
    features: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.predicted)


def penultimate_network(bundle: Bundle, device: str) -> InferenceNet:
    """The bundle's network with the penultimate features, whatever its reference stores."""
    net = bundle.trained_network(PENULTIMATE_ONLY)
    return InferenceNet(net, bundle.card.mean, bundle.card.std).to(device).eval()


def spatial_layers(bundle: Bundle) -> tuple[MapSpec, ...]:
    """Layers of the bundle's feature blocks that have places, in the order of the blocks.

    Raises
    ------
    BundleError
        If none has.
    """
    network = bundle.network("cpu")
    side = bundle.card.tile_size
    tile = torch.full((1, side, side, 3), 200, dtype=torch.uint8)
    found, reasons = [], []
    for layer in dict.fromkeys(b.layer for b in bundle.card.blocks if b.layer != "penultimate"):
        try:
            with torch.inference_mode():
                maps = SpatialNet(network, [layer])(tile).maps[layer]
        except BundleError as error:
            reasons.append(str(error))
            continue
        found.append(MapSpec(layer, *maps.shape[1:]))
    if not found:
        reason = reasons[0] if reasons else "it stores penultimate features only"
        raise BundleError(
            f"bundle {bundle.name!r} has no feature block with places ({reason}): train it with "
            "blocks of earlier layers"
        )
    return tuple(found)


def decoder_layers(layers: Sequence[MapSpec], tile: int) -> tuple[MapSpec, ...]:
    """Those no finer than half the tile (finer ones cost much and say little more); or all."""
    return tuple(m for m in layers if 2 * max(m.height, m.width) <= tile) or tuple(layers)


def location_layers(layers: Sequence[MapSpec]) -> tuple[MapSpec, ...]:
    """Those with at least ``FEWEST_PLACES`` side by side; or all.

    On planted training kinds in held-out lymph node tiles: stem to stage 3 (pixel AUROC 0.738), not
    without the stem (0.717), stages 1, 2, 3 alone (0.69, 0.66, 0.74), nor with stage 5 (0.67).
    """
    return tuple(m for m in layers if min(m.height, m.width) >= FEWEST_PLACES) or tuple(layers)


def pooled_maps(
    net: SpatialNet,
    tiles: NDArray[np.uint8],
    on_tiles: OnTiles | None = None,
    cancel: threading.Event | None = None,
) -> PooledMaps:
    """Run tiles ``[N, t, t, 3]`` and keep all maps in half precision.

    Raises
    ------
    TrainingCancelled
        If ``cancel`` was set.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in net.layers}
    predicted, features = [], []
    with torch.inference_mode():
        for start in range(0, len(tiles), BATCH):
            if cancel is not None and cancel.is_set():
                raise TrainingCancelled("cancelled: nothing was written")
            seen = net(torch.from_numpy(tiles[start : start + BATCH]).to(net.device))
            for name, x in seen.maps.items():
                parts[name].append(x.clamp(-HALF_LIMIT, HALF_LIMIT).half().cpu())
            predicted.append(seen.predicted().cpu())
            features.append(seen.features.cpu().numpy())
            if on_tiles is not None:
                on_tiles(min(start + BATCH, len(tiles)), len(tiles))
    maps = {name: torch.cat(x) for name, x in parts.items()}
    return PooledMaps(maps, torch.cat(predicted), np.concatenate(features))
