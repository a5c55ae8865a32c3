"""Training the decoder of an OOD heatmap on a frozen classifier (torch)."""

from __future__ import annotations

import copy
import dataclasses
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_ood.errors import TrainingCancelled, TrainingError
from napari_ood.models import Bundle, resolve_device
from napari_ood.models.heatmap import (
    HeatmapDecoder,
    StoredDecoder,
    magnitude,
    round_to_half,
    tile_scores,
)
from napari_ood.models.spatial import SpatialNet
from napari_ood.training.heatmap_artefacts import plant_artefacts
from napari_ood.training.heatmap_layers import (
    PooledMaps,
    decoder_layers,
    penultimate_network,
    pooled_maps,
    spatial_layers,
)
from napari_ood.training.heatmap_locations import thinned
from napari_ood.training.heatmap_targets import (
    WeightBy,
    closest_of_class,
    difference_targets,
    images,
    weighted_error,
)

Tiles = NDArray[np.uint8]
ROUNDS_OF_WARMUP = 0.1


@dataclass(frozen=True)
class HeatmapConfig:
    """How to train a decoder.

    Attributes
    ----------
    epochs, batch_size, learning_rate : of AdamW, the rate rising for a tenth and falling to 0
    n_tiles : at most so many in-distribution and so many foreign tiles: their maps stay in memory
    width : channels of the decoder
    weight_by : ``heatmap`` or ``image``, see ``weighted_error``
    """

    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 2e-3
    n_tiles: int = 3000
    width: int = 32
    weight_by: WeightBy = "heatmap"
    seed: int = 0
    device: str = "auto"


class ForeignTiles(NamedTuple):
    """Foreign tiles ``[N, t, t, 3]`` uint8 and where they are foreign, ``[N, t, t]`` bool."""

    tiles: Tiles
    masks: NDArray[np.bool_]

    @classmethod
    def whole(cls, tiles: Tiles) -> ForeignTiles:
        """Tiles that are foreign everywhere."""
        return cls(tiles, np.ones(tiles.shape[:3], bool))

    def rows(self, index: NDArray[np.int64]) -> ForeignTiles:
        """Some of the tiles."""
        return ForeignTiles(self.tiles[index], self.masks[index])


@dataclass(frozen=True)
class HeatmapProgress:
    """Where a training is.

    Attributes
    ----------
    stage : ``reading``: the trunk runs over the tiles; ``decoder``: the decoder learns
    done, total : tiles, or batches of the epoch
    loss : mean of the epoch so far; NaN before
    held_out : loss on held-out tiles at the end of an epoch, else None
    """

    stage: str
    done: int
    total: int
    epoch: int = 0
    n_epochs: int = 0
    loss: float = math.nan
    held_out: float | None = None


OnProgress = Callable[[HeatmapProgress], None]


class _Set(NamedTuple):
    """In-distribution and foreign tiles with what the decoder is to answer."""

    seen: PooledMaps
    targets: Tensor
    weights: Tensor | None

    def rows(self, index: Tensor, device: torch.device) -> tuple[Any, ...]:
        maps = {name: x[index].to(device).float() for name, x in self.seen.maps.items()}
        weights = None if self.weights is None else self.weights[index].to(device).float()
        predicted = self.seen.predicted[index].to(device)
        return maps, predicted, self.targets[index].to(device).float(), weights


def train_heatmap(
    bundle: Bundle,
    tiles: Tiles,
    held: Tiles,
    foreign: ForeignTiles | None,
    config: HeatmapConfig | None = None,
    on_progress: OnProgress | None = None,
    cancel: threading.Event | None = None,
) -> StoredDecoder:
    """Train a decoder; the bundle's network stays as it is.

    Parameters
    ----------
    bundle : Bundle
    tiles : [N, t, t, 3] uint8, in-distribution: heat 0, and the bank of prototypes
    held : [V, t, t, 3] uint8, held-out in-distribution tiles: they choose the epoch and give range
        and threshold
    foreign : foreign tiles; a tenth of them is held out. None: artefacts planted into tiles by code
        (``plant_artefacts``)
    config : HeatmapConfig
    on_progress : called after every batch
    cancel : asked before every batch

    Returns
    -------
    StoredDecoder
        Of the epoch with the lowest loss on held-out tiles.

    Raises
    ------
    TrainingError
        If there are too few tiles, or the loss is not finite.
    TrainingCancelled
        If ``cancel`` was set.
    """
    config = config or HeatmapConfig()
    if min(len(tiles), len(held)) < 2 or (foreign is not None and len(foreign.tiles) < 2):
        raise TrainingError("a heatmap needs two tiles of each: in-distribution, held out, foreign")
    tell = on_progress or (lambda progress: None)
    device = resolve_device(config.device)
    layers = decoder_layers(spatial_layers(bundle), bundle.card.tile_size)
    net = SpatialNet(penultimate_network(bundle, device), [m.layer for m in layers])
    torch.manual_seed(config.seed)
    decoder = HeatmapDecoder(layers, bundle.card.n_classes, config.width)
    train, check, n_known = _sets(net, tiles, held, foreign, decoder.size, config, tell, cancel)
    with torch.no_grad():
        decoder.standardise_by({n: x[:n_known][:512] for n, x in train.seen.maps.items()})
    decoder = decoder.to(device)
    best = _learn(decoder, train, check, config, tell, cancel)
    best = round_to_half(best.cpu()).eval().requires_grad_(False)
    places, scores = _held_out(best, net, held, cancel)
    kinds = "synthetic" if foreign is None else "given"
    training = {**dataclasses.asdict(config), "foreign": kinds, "n_id": n_known}
    return StoredDecoder(best, places, scores, training)


def _sets(
    net: SpatialNet,
    tiles: Tiles,
    held: Tiles,
    foreign: ForeignTiles | None,
    size: tuple[int, int],
    config: HeatmapConfig,
    tell: OnProgress,
    cancel: threading.Event | None,
) -> tuple[_Set, _Set, int]:
    """Sets to learn from and to check on; how many tiles of the first are in-distribution."""
    rng = np.random.default_rng(config.seed)
    known = tiles[np.sort(rng.permutation(len(tiles))[: config.n_tiles])]
    n_held = max(2, config.n_tiles // 10)
    checked = held[np.sort(rng.permutation(len(held))[:n_held])]
    if foreign is None:
        hurt = rng.permutation(len(tiles))[: config.n_tiles]
        outside = _planted(tiles[hurt], config.seed)
        outside_checked = _planted(checked, config.seed + 1)
    else:
        order = rng.permutation(len(foreign.tiles))[: config.n_tiles]
        n_held = max(1, len(order) // 10)
        outside_checked, outside = foreign.rows(order[:n_held]), foreign.rows(order[n_held:])
    total = len(known) + len(outside.tiles) + len(checked) + len(outside_checked.tiles)
    done = 0

    def seen(x: Tiles) -> PooledMaps:
        nonlocal done
        found = pooled_maps(
            net, x, lambda n, _: tell(HeatmapProgress("reading", done + n, total)), cancel
        )
        done += len(x)
        return found

    bank = seen(known)
    parts = [(bank, known, outside), (seen(checked), checked, outside_checked)]
    made = [_set(*part, seen, bank, known, size, config.weight_by) for part in parts]
    return made[0], made[1], len(known)


def _planted(tiles: Tiles, seed: int) -> ForeignTiles:
    planted = plant_artefacts(tiles, seed)
    return ForeignTiles(planted.tiles, planted.masks)


def _set(
    inside: PooledMaps,
    inside_tiles: Tiles,
    outside: ForeignTiles,
    seen: Callable[[Tiles], PooledMaps],
    bank: PooledMaps,
    bank_tiles: Tiles,
    size: tuple[int, int],
    weight_by: WeightBy,
) -> _Set:
    far = seen(outside.tiles)
    closest = closest_of_class(
        far.features, far.predicted.numpy(), bank.features, bank.predicted.numpy()
    )
    prototypes = bank_tiles[closest]
    targets = difference_targets(outside.tiles, prototypes, outside.masks, size)
    nothing = torch.zeros((len(inside), *targets.shape[1:]), dtype=targets.dtype)
    weights = None
    if weight_by == "image":
        weights = torch.cat([images(inside_tiles, size), images(prototypes, size)])
    both = PooledMaps(
        {name: torch.cat([x, far.maps[name]]) for name, x in inside.maps.items()},
        torch.cat([inside.predicted, far.predicted]),
        np.concatenate([inside.features, far.features]),
    )
    return _Set(both, torch.cat([nothing, targets]), weights)


def _learn(
    decoder: HeatmapDecoder,
    train: _Set,
    check: _Set,
    config: HeatmapConfig,
    tell: OnProgress,
    cancel: threading.Event | None,
) -> HeatmapDecoder:
    device = decoder.last.weight.device
    generator = torch.Generator().manual_seed(config.seed)
    n_batches = -(-len(train.seen) // config.batch_size)
    optimiser = torch.optim.AdamW(decoder.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        config.learning_rate,
        total_steps=config.epochs * n_batches + 1,
        pct_start=ROUNDS_OF_WARMUP,
    )
    best, best_loss = decoder, math.inf
    for epoch in range(1, config.epochs + 1):
        decoder.train()
        total, n = 0.0, 0
        order = torch.randperm(len(train.seen), generator=generator)
        for step, index in enumerate(torch.split(order, config.batch_size), 1):
            _require_not_cancelled(cancel)
            maps, predicted, targets, weights = train.rows(index, device)
            loss = weighted_error(decoder(maps, predicted), targets, config.weight_by, weights)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total, n = total + loss.item() * len(index), n + len(index)
            tell(HeatmapProgress("decoder", step, n_batches, epoch, config.epochs, total / n))
        held_out = _loss(decoder, check, config)
        if not math.isfinite(held_out):
            raise TrainingError("the loss is not finite: try a lower learning rate")
        if held_out < best_loss:
            best, best_loss = copy.deepcopy(decoder), held_out
        tell(
            HeatmapProgress(
                "decoder", n_batches, n_batches, epoch, config.epochs, total / n, held_out
            )
        )
    return best


def _loss(decoder: HeatmapDecoder, check: _Set, config: HeatmapConfig) -> float:
    decoder.eval()
    device = decoder.last.weight.device
    total = 0.0
    with torch.inference_mode():
        for index in torch.split(torch.arange(len(check.seen)), config.batch_size):
            maps, predicted, targets, weights = check.rows(index, device)
            loss = weighted_error(decoder(maps, predicted), targets, config.weight_by, weights)
            total += loss.item() * len(index)
    return total / len(check.seen)


def _held_out(
    decoder: HeatmapDecoder, net: SpatialNet, held: Tiles, cancel: threading.Event | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Heat at places and scores of all held-out tiles, sorted."""
    places, scores = [], []
    decoder.to(net.device)
    with torch.inference_mode():
        for start in range(0, len(held), 64):
            _require_not_cancelled(cancel)
            seen = net(torch.from_numpy(held[start : start + 64]).to(net.device))
            heat = magnitude(decoder(seen.maps, seen.predicted()))
            places.append(heat.flatten().cpu().numpy())
            scores.append(tile_scores(heat).cpu().numpy())
    return thinned(np.concatenate(places)), np.sort(np.concatenate(scores))


def _require_not_cancelled(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise TrainingCancelled("cancelled: nothing was written")
