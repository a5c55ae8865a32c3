"""Training: dataset, augmentation, multi-head losses, loop, fitting the reference.

Names are resolved on first use; importing this package loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.training.config import EpochRecord, TrainConfig
    from napari_ood.training.fit import fit_reference, round_to_half
    from napari_ood.training.loop import Trained, run_network, train
    from napari_ood.training.tiles import TileTable, read_table, read_tiles

_HOME = {
    "EpochRecord": "config",
    "TrainConfig": "config",
    "fit_reference": "fit",
    "round_to_half": "fit",
    "Trained": "loop",
    "run_network": "loop",
    "train": "loop",
    "TileTable": "tiles",
    "read_table": "tiles",
    "read_tiles": "tiles",
}

__all__ = [
    "EpochRecord",
    "TileTable",
    "TrainConfig",
    "Trained",
    "fit_reference",
    "read_table",
    "read_tiles",
    "round_to_half",
    "run_network",
    "train",
]


__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
