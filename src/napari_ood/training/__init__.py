"""Training: dataset, augmentation, multi-head losses, loop, fitting the reference.

Names are resolved on first use; importing this package loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.training.config import EpochRecord, TrainConfig, TrainProgress
    from napari_ood.training.dataset import (
        TileDataset,
        check_trainable,
        read_dataset,
        split_dataset,
    )
    from napari_ood.training.fit import fit_reference, reference_rows, round_to_half
    from napari_ood.training.loop import Trained, run_network, train
    from napari_ood.training.lr_range import LrRange
    from napari_ood.training.schedule import sgdr_cycles
    from napari_ood.training.usage import HeadUsage, head_usage

_HOME = {
    "sgdr_cycles": "schedule",
    "head_usage": "usage",
    "TrainProgress": "config",
    "LrRange": "lr_range",
    "HeadUsage": "usage",
    "EpochRecord": "config",
    "TrainConfig": "config",
    "fit_reference": "fit",
    "reference_rows": "fit",
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
    "HeadUsage",
    "LrRange",
    "TileDataset",
    "TrainConfig",
    "TrainProgress",
    "Trained",
    "check_trainable",
    "fit_reference",
    "head_usage",
    "read_dataset",
    "reference_rows",
    "round_to_half",
    "run_network",
    "sgdr_cycles",
    "split_dataset",
    "train",
]


__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
