"""From a dataset to a bundle with vectors of places and a heatmap decoder (torch)."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import BundleError, TrainingError
from napari_ood.models import Bundle, add_to_bundle, open_bundle, resolve_device
from napari_ood.models.card import HEATMAP, LOCATIONS
from napari_ood.training.dataset import TileDataset, read_dataset, split_dataset
from napari_ood.training.heatmap import (
    ForeignTiles,
    HeatmapConfig,
    HeatmapProgress,
    OnProgress,
    train_heatmap,
)
from napari_ood.training.heatmap_locations import sample_locations
from napari_ood.training.make import RECOMPRESSED

SYNTHETIC = "synthetic"
MAX_HELD = 1000
OnNotice = Callable[[str], None]


@dataclass(frozen=True)
class HeatmapRequest:
    """What to add to which bundle.

    Attributes
    ----------
    bundle : Bundle
    id : in-distribution images, as ``read_dataset`` takes them; labels are optional
    ood : foreign images, or ``synthetic``: artefacts planted into the in-distribution tiles
    out : folder of the bundle to write; may be the bundle's own
    config : HeatmapConfig
    held_out : share held out where the data has no splits
    locations_only : no decoder; foreign data is then not needed
    """

    bundle: Bundle
    id: Path
    out: Path
    ood: str | Path = SYNTHETIC
    config: HeatmapConfig = field(default_factory=HeatmapConfig)
    held_out: float = 0.1
    locations_only: bool = False


@dataclass(frozen=True)
class HeatmapMade:
    """The bundle as written, and a JSON-ready summary."""

    bundle: Bundle
    summary: dict[str, Any]


@dataclass(frozen=True)
class _Tiles:
    """In-distribution tiles to learn from, with labels, and held-out ones."""

    train: NDArray[np.uint8]
    labels: NDArray[np.int64]
    held: NDArray[np.uint8]
    paths: frozenset[str]


def add_heatmap(
    request: HeatmapRequest,
    on_progress: OnProgress | None = None,
    on_notice: OnNotice = lambda text: None,
    cancel: threading.Event | None = None,
) -> HeatmapMade:
    """Sample places, train a decoder, and write both into a copy of the bundle.

    Parameters
    ----------
    request : HeatmapRequest
    on_progress : as ``train_heatmap`` takes it
    on_notice : called with one sentence for each thing that the user should know
    cancel : asked before every batch; nothing is written then

    Raises
    ------
    OodError
        If data, bundle or what is at ``out`` don't fit, before anything is trained.
    TrainingCancelled
        If ``cancel`` was set.
    """
    started = time.monotonic()
    device = resolve_device(request.config.device)
    _check_out(request)
    tiles = _read(request, on_notice)
    foreign = None if request.locations_only else _read_foreign(request, tiles, on_notice)
    tell = on_progress or (lambda progress: None)
    history: list[dict[str, float]] = []

    def note(progress: HeatmapProgress) -> None:
        if progress.held_out is not None:
            history.append(
                {"epoch": progress.epoch, "loss": progress.loss, "held_out": progress.held_out}
            )
        tell(progress)

    places = sample_locations(
        request.bundle,
        tiles.train,
        tiles.labels,
        tiles.held,
        seed=request.config.seed,
        device=device,
        on_tiles=lambda done, total: tell(HeatmapProgress("places", done, total)),
        cancel=cancel,
    )
    extras = {LOCATIONS: places.arrays()}
    if not request.locations_only:
        decoder = train_heatmap(
            request.bundle, tiles.train, tiles.held, foreign, request.config, note, cancel
        )
        extras[HEATMAP] = decoder.arrays()
    # Read again: others may have added to this folder while the decoder learned.
    bundle = add_to_bundle(open_bundle(request.bundle.path), extras, request.out)
    best = min((h["held_out"] for h in history), default=math.nan)
    summary = {
        "bundle": str(bundle.path),
        "id": {"train": len(tiles.train), "held_out": len(tiles.held)},
        "ood": None if request.locations_only else str(request.ood),
        "locations": {"layers": list(places.layers), "grid": places.grid, "n": len(places.vectors)},
        "heatmap": None
        if request.locations_only
        else {"held_out_loss": best, "history": history, "epochs": request.config.epochs},
        "bytes": {name: bundle.card.files[name].size for name in extras},
        "device": device,
        "seed": request.config.seed,
        "seconds": round(time.monotonic() - started, 1),
    }
    return HeatmapMade(bundle, summary)


def _check_out(request: HeatmapRequest) -> None:
    """Raise OodError before the work, rather than after it, where ``out`` is something else."""
    out = request.out
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if out.resolve() == request.bundle.path:
        return
    try:
        same = open_bundle(out).hashes == request.bundle.hashes
    except BundleError:
        same = False
    if not same:
        raise TrainingError(f"--out {out} exists and is not this bundle: choose another folder")


def _read(request: HeatmapRequest, notice: OnNotice) -> _Tiles:
    card, config = request.bundle.card, request.config
    dataset = read_dataset(request.id, card.tile_size, card.mpp, classes=card.classes)
    if not len(dataset):
        raise TrainingError(f"{request.id} holds no images")
    unknown = int((dataset.labels < 0).sum())
    if unknown:
        notice(
            f"{unknown:,} of {len(dataset):,} images have no label that is a class of the bundle: "
            "their predicted class stands in for it"
        )
    train_rows, held_rows = split_dataset(dataset, request.held_out, config.seed)
    rng = np.random.default_rng(config.seed)
    # Twice: some are to stay as they are, into others artefacts are planted.
    train_rows = np.sort(rng.permutation(train_rows)[: 2 * config.n_tiles])
    held_rows = np.sort(rng.permutation(held_rows)[:MAX_HELD])
    if min(len(train_rows), len(held_rows)) < 2:
        raise TrainingError(f"{request.id} has {len(dataset)} images: too few to hold some out")
    train, held = dataset.subset(train_rows), dataset.subset(held_rows)
    paths = frozenset(os.path.realpath(path) for path in dataset.paths)
    return _Tiles(_pixels(request, train), train.labels, _pixels(request, held), paths)


def _read_foreign(request: HeatmapRequest, known: _Tiles, notice: OnNotice) -> ForeignTiles | None:
    """Foreign tiles from disk; None: they are to be made."""
    if str(request.ood) == SYNTHETIC:
        return None
    card, config = request.bundle.card, request.config
    dataset = read_dataset(request.ood, card.tile_size, card.mpp)
    if sum(os.path.realpath(path) in known.paths for path in dataset.paths):
        raise TrainingError(
            f"images of --ood {request.ood} are in --id, too: no decoder can tell them apart"
        )
    if len(dataset) < 2:
        raise TrainingError(f"--ood {request.ood} needs at least two images")
    rows = np.random.default_rng(config.seed).permutation(len(dataset))[: config.n_tiles]
    notice(
        f"foreign: {len(rows):,} images of {request.ood}; what the decoder was shown must not be "
        "what it is evaluated on"
    )
    return ForeignTiles.whole(_pixels(request, dataset.subset(np.sort(rows))))


def _pixels(request: HeatmapRequest, dataset: TileDataset) -> NDArray[np.uint8]:
    card = request.bundle.card
    share = RECOMPRESSED if card.whole_image else 1.0
    return dataset.read_tiles(card.tile_size, card.mpp, share).tiles
