"""What a training gives, and what its network says about tiles (torch)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_ood.models import InferenceNet, MultiHeadNet, resolve_device
from napari_ood.training.config import EpochRecord
from napari_ood.training.lr_range import LrRange
from napari_ood.training.stepper import EVALUATION_BATCH
from napari_ood.training.tilecheck import Tiles
from napari_ood.training.usage import HeadUsage


@dataclass(frozen=True)
class Trained:
    """The outcome of ``train``: the network with the best averaged weights, and how it got there.

    Attributes
    ----------
    net : in evaluation mode, on the CPU
    mean, std : of RGB in 0…1, with which tiles are fed
    temperature : fitted on the held-out tiles
    history : one record per epoch
    usage : what the heads do on the held-out tiles
    lr_range : of the learning rate range test, where the rate was "auto"
    precision, learning_rate : those used, chosen or given
    """

    net: MultiHeadNet
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    temperature: float
    history: tuple[EpochRecord, ...]
    usage: HeadUsage
    lr_range: LrRange | None = None
    precision: str = "fp32"
    learning_rate: float = math.nan


def run_network(
    net: MultiHeadNet,
    mean: Sequence[float],
    std: Sequence[float],
    images: Tiles,
    device: str = "cpu",
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits ``[N, M, C]`` and features ``[N, D]`` of tiles, as the engine computes them."""
    target = resolve_device(device)
    ready = InferenceNet(net, mean, std).to(target)
    logits, features = [], []
    with torch.inference_mode():
        for tiles in torch.split(torch.from_numpy(images), EVALUATION_BATCH):
            z, f = ready(tiles.to(target))
            logits.append(z.cpu().numpy())
            features.append(f.cpu().numpy())
    return np.concatenate(logits), np.concatenate(features)
