"""From a dataset to a bundle: read, split, train, fit the reference, save, report (torch)."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import TrainingCancelled, TrainingError
from napari_ood.explain.thumbnails import pack_tiles
from napari_ood.models import (
    BlockSpec,
    Bundle,
    Card,
    MultiHeadNet,
    Reference,
    add_to_bundle,
    load_bundle,
    resolve_device,
    save_bundle,
)
from napari_ood.models.card import EXTRAS, HALVED, TILES
from napari_ood.training.checkpoint import checkpoint_file
from napari_ood.training.config import BlockSpecs, TrainConfig
from napari_ood.training.cutting import Change
from napari_ood.training.dataset import (
    TileDataset,
    check_trainable,
    read_dataset,
    split_dataset,
)
from napari_ood.training.fit import fit_reference, reference_rows, round_to_half
from napari_ood.training.halved import add_bf16
from napari_ood.training.initial import Initial, initial_network
from napari_ood.training.layers import default_blocks
from napari_ood.training.loop import OnProgress, Trained, run_network, train
from napari_ood.training.report import HELD_OUT_CSV, read_report, write_report
from napari_ood.training.request import Request, check_place, write_identity
from napari_ood.training.summary import describe_data, finite, quality, versions

MIN_TILE, MAX_TILE = 8, 2048
"""What a card can say."""

RECOMPRESSED = 0.5
"""Share of shrunk photographs that are compressed again. The engine shrinks a photograph and leaves
it so; ``evaluate`` compresses it again, as small images in collections are. The bundle must know
both: a reference of recompressed images alone finds every sharp photograph foreign."""

EQUALLY_OFTEN = (
    "Training drew all classes equally often, however many tiles they have: probabilities are "
    "those of equally frequent classes."
)


@dataclass(frozen=True)
class Made:
    """A bundle, and the JSON-ready summary that its report holds, too."""

    bundle: Bundle
    summary: dict[str, Any]


@dataclass(frozen=True)
class _Tiles:
    """Both sides of the data, in memory; ``field`` as the card has it."""

    train: TileDataset
    held: TileDataset
    train_images: NDArray[np.uint8]
    held_images: NDArray[np.uint8]
    field: str

    @property
    def arrays(
        self,
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
        return self.train_images, self.train.labels, self.held_images, self.held.labels


def make_bundle(
    request: Request,
    on_progress: OnProgress | None = None,
    on_notice: Callable[[str], None] = lambda text: None,
    cancel: threading.Event | None = None,
    resume: bool = False,
) -> Made:
    """Train a bundle on a dataset.

    Parameters
    ----------
    request : Request
    on_progress : as ``train`` takes it
    on_notice : called with one sentence for each thing that the user should know
    cancel : asked before every batch; the checkpoint of the last whole epoch stays
    resume : go on from the checkpoint of the same request; a finished one is returned as it is

    Returns
    -------
    Made

    Raises
    ------
    OodError
        If data, request or what is at ``out`` don't fit, before anything is trained.
    TrainingCancelled
        If ``cancel`` was set.
    """
    name = request.bundle_name()
    resolve_device(request.config.device)
    dataset = read_dataset(request.data, request.tile, request.mpp)
    check_trainable(dataset)
    notices: list[str] = []

    def notice(text: str) -> None:
        notices.append(text)
        on_notice(text)

    request = dataclasses.replace(request, config=_with_blocks(request))
    identity = request.identity(name, dataset.classes)
    if check_place(request, identity, resume):
        return Made(load_bundle(request.out), read_report(request.report))
    tiles = _read(request, dataset, notice)
    init = None
    if request.init is not None:
        init = initial_network(request.init, request.config, request.tile, dataset.classes)
        request = _fed_alike(request, init)
    _require_not_cancelled(cancel)
    write_identity(request, identity)
    trained = train(
        *tiles.arrays,
        request.config,
        on_progress=on_progress,
        init=init.net if init else None,
        checkpoint=request.report,
        resume=resume,
        cancel=cancel,
    )
    if trained.usage.warning:
        notice(trained.usage.warning)
    origin = init.origin if init else "random weights"
    made = _save(request, name, tiles, trained, origin, notices)
    checkpoint_file(request.report).unlink(missing_ok=True)
    return made


def refit_bundle(
    request: Request, bundle: Bundle, on_notice: Callable[[str], None] = lambda text: None
) -> Bundle:
    """Fit the reference of a trained bundle anew, with the request's feature blocks.

    The weights stay, and extras that belong to them (heatmap, locations). The request must be that
    of the training, or held-out tiles are others.

    Raises
    ------
    OodError
        If the data can't be read, or the blocks are none of this network.
    """
    dataset = read_dataset(request.data, request.tile, request.mpp)
    tiles = _read(request, dataset, on_notice)
    card, config = bundle.card, request.config
    net = bundle.trained_network([BlockSpec(*block) for block in config.blocks])
    reference = _fit(net, card, tiles, config)
    # They belong to the weights; thumbnails and held-out tiles in bf16 belong to the reference.
    extras = {name: bundle.arrays(name) or {} for name in EXTRAS if name in card.files}
    for name in (TILES, HALVED):
        extras.pop(name, None)
    fitted = add_to_bundle(save_bundle(bundle.path, net, card, reference), extras)
    fitted = with_thumbnails(fitted, tiles.train_images, tiles.train.labels, request)
    return _with_bf16(fitted, tiles, request)


def with_thumbnails(
    bundle: Bundle, images: NDArray[np.uint8], labels: NDArray[np.int64], request: Request
) -> Bundle:
    """Add thumbnails of the reference's tiles, if the request asks for them; in place.

    Parameters
    ----------
    images : [N, t, t, 3] uint8, the training tiles
    labels : [N] int, of the same
    """
    if not request.thumbnails:
        return bundle
    kept = images[reference_rows(labels, seed=request.config.seed)]
    return add_to_bundle(bundle, {TILES: pack_tiles(kept)})


def _with_bf16(bundle: Bundle, tiles: _Tiles, request: Request) -> Bundle:
    if not request.bf16:
        return bundle
    return add_bf16(bundle, tiles.held_images, device=resolve_device(request.config.device))


def default_scores(blocks: BlockSpecs, augment: str = "he") -> dict[str, str]:
    """Scores of a bundle that nobody has chosen scores for; blocks from early to late.

    ``appearance`` reads the first block. ``tissue`` disregards what a changed appearance moves; it
    reads the first two blocks for slides, the last one for photographs, where what is foreign is a
    lesion rather than a texture (docs/results.md). ``ood`` is whichever of the two is farther
    beyond its threshold.
    """
    names = [name for name, _, _ in blocks]
    appearance = f"mahalanobis@{names[0]}"
    tissue = f"invariant_knn@{'+'.join(names[:2])}"
    if augment == "photo":
        tissue = f"invariant_nn@{names[-1]}"
    return {
        "uncertainty": "entropy",
        "ood": f"max({appearance},{tissue})",
        "appearance": appearance,
        "tissue": tissue,
    }


def _with_blocks(request: Request) -> TrainConfig:
    """Check tile and architecture, choose the feature blocks."""
    if not MIN_TILE <= request.tile <= MAX_TILE:
        raise TrainingError(f"tiles must have {MIN_TILE} to {MAX_TILE} px, not {request.tile}")
    config = request.config
    if config.blocks != TrainConfig().blocks:
        return config
    blocks = default_blocks(config.architecture, request.tile, config.head_blocks)
    return dataclasses.replace(config, blocks=blocks)


def _fed_alike(request: Request, init: Initial) -> Request:
    """Feed tiles with the mean and spread that the initial trunk learned with, unless told."""
    if request.config.mean_std is not None:
        return request
    config = dataclasses.replace(request.config, mean_std=init.mean_std)
    return dataclasses.replace(request, config=config)


def _read(request: Request, dataset: TileDataset, notice: Callable[[str], None]) -> _Tiles:
    train_rows, held_rows = split_dataset(dataset, request.held_out, request.config.seed)
    sides = dataset.subset(train_rows), dataset.subset(held_rows)
    share = RECOMPRESSED if _judges_photographs(request) else 1.0
    read = [side.read_tiles(recompress=share) for side in sides]
    for side, result in zip(("training", "held-out"), read, strict=True):
        if text := result.summary():
            notice(f"{side}: {text}")
    resized = read[0].count(Change.RESIZED) > len(sides[0]) / 2
    field = "image" if _judges_photographs(request) and resized else "tile"
    if field == "image":
        notice("photographs, resized as a whole: the bundle judges whole images, one tile each")
    elif request.mpp is None:
        notice(
            "no --mpp, so the bundle has no physical scale and runs on every slide's own pixels; "
            "give the tiles' µm per pixel for slides"
        )
    elif resized:
        notice(f"--mpp {request.mpp:g} is taken as the scale of the tiles after resizing")
    if not (dataset.groups != "").any() and "valid" not in dataset.splits:
        notice(
            "held-out tiles were drawn at random and nobody said which come from one slide or "
            "patient (column group): held-out results may be too good, and thresholds too narrow"
        )
    return _Tiles(*sides, read[0].tiles, read[1].tiles, field)


def _judges_photographs(request: Request) -> bool:
    """Whether an image is one whole view, such as a lesion, and no piece of a slide."""
    return request.mpp is None and request.config.augment_kind == "photo"


def _require_not_cancelled(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise TrainingCancelled("cancelled before the training began")


def _fit(
    net: MultiHeadNet, learnt: Card | Trained, tiles: _Tiles, config: TrainConfig
) -> Reference:
    return fit_reference(
        net,
        learnt.mean,
        learnt.std,
        *tiles.arrays,
        temperature=learnt.temperature,
        augment=config.augment_kind,
        seed=config.seed,
        device=config.device,
    )


def _save(
    request: Request,
    name: str,
    tiles: _Tiles,
    trained: Trained,
    origin: str,
    notices: list[str],
) -> Made:
    config = request.config
    net = round_to_half(trained.net)
    reference = _fit(net, trained, tiles, config)
    device = resolve_device(config.device)
    logits, _ = run_network(net, trained.mean, trained.std, tiles.held_images, device)
    summary = {
        "name": name,
        "classes": list(tiles.train.classes),
        "n_train": len(tiles.train),
        "n_val": len(tiles.held),
        "held_out": quality(logits, tiles.held.labels, trained.temperature),
        "temperature": trained.temperature,
        "usage": trained.usage.as_dict(),
        "history": [finite(dataclasses.asdict(record)) for record in trained.history],
        "lr_range": trained.lr_range.as_dict() if trained.lr_range else None,
        "learning_rate": trained.learning_rate,
        "precision": trained.precision,
        "seconds": trained.history[-1].seconds,
        "device": device,
        "init": origin,
        "tile": request.tile,
        "mpp": request.mpp,
        "config": config.as_dict(),
        "data": describe_data(tiles.train, tiles.held),
        "versions": versions(),
        "warnings": notices,
    }
    card = dataclasses.replace(_card(request, name, trained, summary), field=tiles.field)
    bundle = save_bundle(request.out, net, card, reference)
    bundle = with_thumbnails(bundle, tiles.train_images, tiles.train.labels, request)
    bundle = _with_bf16(bundle, tiles, request)
    drawn = "valid" not in tiles.held.splits
    summary = {
        "bundle": str(bundle.path),
        "report": str(request.report),
        "held_out_list": str(request.report / HELD_OUT_CSV) if drawn else None,
        **summary,
    }
    write_report(request.report, summary, trained, tiles.held if drawn else None)
    return Made(bundle, summary)


def _card(request: Request, name: str, trained: Trained, summary: dict[str, Any]) -> Card:
    config, classes = request.config, tuple(summary["classes"])
    kept = {k: v for k, v in summary.items() if k not in ("history", "lr_range", "warnings")}
    n, v = summary["n_train"], summary["n_val"]
    return Card(
        name=name,
        description=f"{len(classes)} classes, {config.n_heads} heads on {config.architecture}.",
        classes=classes,
        architecture=config.architecture,
        tile_size=request.tile,
        mpp=request.mpp,
        mean=trained.mean,
        std=trained.std,
        n_heads=config.n_heads,
        blocks=trained.net.blocks,
        scores=default_scores(config.blocks, config.augment_kind),
        temperature=trained.temperature,
        training_data=f"{request.data.resolve().name}: {n:,} tiles to train on, {v:,} held out.",
        intended_use="Research. Not a medical device; not for diagnosis.",
        limitations=(
            "Held-out tiles chose the epoch, the temperature and the thresholds.",
            *([EQUALLY_OFTEN] if config.balance == "dynamic" else []),
            *summary["warnings"],
        ),
        results={"held_out": summary["held_out"]},
        training={"made_by": "napari-ood train", **kept},
    )
