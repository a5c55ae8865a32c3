"""``train``: a multi-head network from tiles in memory (torch)."""

from __future__ import annotations

from pathlib import Path

import torch

from napari_ood.errors import TrainingError
from napari_ood.models import MultiHeadNet
from napari_ood.models.memory import reuse_freed_memory
from napari_ood.training.config import TrainConfig
from napari_ood.training.session import Cancel, OnProgress, Session, new_network
from napari_ood.training.tilecheck import Labels, Tiles, check_tiles
from napari_ood.training.trained import Trained, run_network

__all__ = [
    "Cancel",
    "Labels",
    "OnProgress",
    "Tiles",
    "Trained",
    "new_network",
    "run_network",
    "train",
]


def train(
    images: Tiles,
    labels: Labels,
    val_images: Tiles,
    val_labels: Labels,
    config: TrainConfig,
    on_progress: OnProgress | None = None,
    init: MultiHeadNet | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    cancel: Cancel | None = None,
) -> Trained:
    """Train a multi-head network on tiles in memory.

    Stage 1 trains the heads on a frozen trunk, stage 2 all layers, as ``config`` says. The kept
    weights are the moving average with the lowest NLL of the averaged prediction on the held-out
    tiles. The same settings, seed, threads and hardware give the same network, resumed or not,
    where ``precision`` is "fp32" or "bf16". "auto" asks a stopwatch and may choose the other one
    next time, on the same machine, too; ``Trained.precision`` says what it chose.

    Parameters
    ----------
    images : [N, t, t, 3] uint8, at least 2
    labels : [N] int, 0 … C − 1
    val_images, val_labels : the same, held out: for choosing the epoch and the temperature
    config : TrainConfig
    on_progress : callable, optional
        Called about five times a second, and at the end of every epoch with its record.
    init : MultiHeadNet, optional
        Start from this network's weights; its architecture must be the config's.
    checkpoint : path, optional
        File ``*.safetensors``, or folder for one; replaced after every epoch.
    resume : bool
        Go on from ``checkpoint`` if there is one, else start.
    cancel : callable or threading.Event, optional
        Asked before every batch. Like Ctrl-C it leaves the checkpoint of the last whole epoch.

    Returns
    -------
    Trained

    Raises
    ------
    TrainingError
        If tiles, settings or checkpoint don't fit each other, or the loss is no longer finite.
    TrainingCancelled
        If ``cancel`` says so. Both carry the best epoch so far as ``trained``, if there is one.
    """
    check_tiles(images, labels, val_images, val_labels)
    run = Session(images, labels, val_images, val_labels, config, on_progress, checkpoint, cancel)
    reuse_freed_memory()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        run.prepare(init, resume)
        try:
            run.run()
        except TrainingError as error:
            error.trained = run.outcome()
            raise
        trained = run.outcome()
    if trained is None:
        raise TrainingError("the network's held-out loss was never finite: lower the learning rate")
    return trained
