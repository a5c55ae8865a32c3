"""Training: dataset, augmentation, multi-head losses, loop, fitting the reference.

Names are resolved on first use; importing this package loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
