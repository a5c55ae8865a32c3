"""Training: dataset, augmentation, multi-head losses, loop, fitting the reference.

Names are resolved on first use; importing this package loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.training.config import EpochRecord, TrainConfig
    from napari_ood.training.dataset import (
        TileDataset,
        check_trainable,
        read_dataset,
        split_dataset,
    )
    from napari_ood.training.fit import fit_reference, round_to_half
    from napari_ood.training.loop import Trained, run_network, train

_HOME = {
    "EpochRecord": "config",
    "TrainConfig": "config",
    "fit_reference": "fit",
    "round_to_half": "fit",
    "Trained": "loop",
    "run_network": "loop",
    "train": "loop",
    "TileDataset": "dataset",
    "check_trainable": "dataset",
    "read_dataset": "dataset",
    "split_dataset": "dataset",
}

__all__ = [
    "EpochRecord",
    "TileDataset",
    "TrainConfig",
    "Trained",
    "check_trainable",
    "fit_reference",
    "read_dataset",
    "round_to_half",
    "run_network",
    "split_dataset",
    "train",
]


__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
