"""Tiles and networks that can be trained, and those that cannot (numpy)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import TrainingError
from napari_ood.training.config import TrainConfig

if TYPE_CHECKING:
    from napari_ood.models import MultiHeadNet

Tiles = NDArray[np.uint8]
Labels = NDArray[np.int64]


def check_tiles(images: Tiles, labels: Labels, val_images: Tiles, val_labels: Labels) -> None:
    """Check that tiles can be trained on and fit each other; raises TrainingError."""
    for what, x, y in (("training", images, labels), ("held-out", val_images, val_labels)):
        if x.ndim != 4 or x.shape[1] != x.shape[2] or x.shape[3] != 3 or x.dtype != np.uint8:
            raise TrainingError(
                f"{what} tiles must be square uint8 RGB, [N, t, t, 3], not {x.dtype} {x.shape}"
            )
        if y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer):
            raise TrainingError(f"{what} labels must be {len(x)} integers, not {y.dtype} {y.shape}")
        if len(y) and y.min() < 0:
            raise TrainingError(f"{int((y < 0).sum())} {what} tiles have no label: leave them out")
    if val_images.shape[1] != images.shape[1]:
        sides = f"{images.shape[1]} and {val_images.shape[1]} px"
        raise TrainingError(f"training and held-out tiles differ in size: {sides}")
    if len(images) < 2 or not len(val_images):
        raise TrainingError("training needs 2 tiles and 1 held out at least")
    if len(np.unique(labels)) < 2:
        raise TrainingError("training needs tiles of two classes at least")
    unknown = np.setdiff1d(val_labels, labels)
    if len(unknown):
        raise TrainingError(f"held-out tiles have classes {unknown.tolist()} that training lacks")


def check_network(net: MultiHeadNet, config: TrainConfig, labels: Labels) -> None:
    """Check that an initial network fits the tiles and the settings; raises TrainingError."""
    if net.n_classes <= labels.max():
        raise TrainingError(
            f"the initial network has {net.n_classes} classes, the tiles {labels.max() + 1}"
        )
    if net.n_heads != config.n_heads:
        raise TrainingError(
            f"the initial network has {net.n_heads} heads: set n_heads, now {config.n_heads}, to it"
        )


def channel_statistics(
    images: Tiles,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation per channel, of RGB in 0…1."""
    counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(3)])
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(axis=1)
    variance = counts @ values**2 / counts.sum(axis=1) - mean**2
    # Images of one colour have no spread; a floor keeps the normalisation finite.
    std = np.sqrt(np.maximum(variance, 1e-6))
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())
