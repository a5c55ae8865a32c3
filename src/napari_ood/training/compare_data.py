"""The tiles of a comparison: to learn from, to choose with, to test on, and foreign ones."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import OodError
from napari_ood.training.dataset import (
    TileDataset,
    check_trainable,
    read_dataset,
    split_dataset,
)
from napari_ood.training.split import check_groups, check_splits

Tiles = NDArray[np.uint8]
Labels = NDArray[np.int64]
TEST_SHARE, HELD_OUT_SHARE = 1 / 3, 0.1
SPLIT_SEED = 0
"""The tiles are split alike for all seeds of a comparison, or no difference could be paired."""


@dataclass(frozen=True)
class ComparisonData:
    """Tiles ``[N, t, t, 3]`` uint8 and labels ``[N]`` int64.

    Attributes
    ----------
    train_… : to learn from
    held_… : to choose epoch and temperature with
    test_… : in-distribution test tiles, that nothing is chosen with
    test_from : where those come from, in words
    ood : name → foreign tiles
    summary : of the dataset, as ``TileDataset.summary`` gives it
    notes : what the user should know
    """

    train_images: Tiles
    train_labels: Labels
    held_images: Tiles
    held_labels: Labels
    test_images: Tiles
    test_labels: Labels
    test_from: str
    ood: Mapping[str, Tiles]
    classes: tuple[str, ...]
    summary: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready counts."""
        return {
            "classes": list(self.classes),
            "n_train": len(self.train_images),
            "n_held_out": len(self.held_images),
            "n_test": len(self.test_images),
            "test_from": self.test_from,
            "ood": {name: len(tiles) for name, tiles in self.ood.items()},
            "dataset": dict(self.summary),
        }


def read_comparison_data(
    data: Path, ood: Mapping[str, Path], tile: int, mpp: float | None, group: str | None
) -> ComparisonData:
    """Read all tiles of a comparison.

    Raises
    ------
    OodError
        If a dataset can't be read or split, or foreign images are among the labelled ones.
    """
    dataset = read_dataset(data, tile, mpp, group=group)
    check_trainable(dataset)
    train, held, test, origin = split_three_ways(dataset)
    known = {os.path.realpath(path) for path in dataset.paths}
    foreign = {}
    for name, path in ood.items():
        found = read_dataset(path, tile, mpp)
        n_shared = sum(os.path.realpath(path) in known for path in found.paths)
        if n_shared:
            raise OodError(f"{n_shared:,} images of {name!r} are in {data}, too: no foreign tiles")
        foreign[name] = found.read()
    parts = [dataset.subset(rows) for rows in (train, held, test)]
    images = [part.read() for part in parts]
    labels = [part.labels for part in parts]
    return ComparisonData(
        *(images[0], labels[0], images[1], labels[1], images[2], labels[2]),
        test_from=origin,
        ood=foreign,
        classes=dataset.classes,
        summary=dataset.summary(),
        notes=(f"tests in distribution on {len(test):,} images: {origin}",),
    )


def split_three_ways(dataset: TileDataset) -> tuple[Labels, Labels, Labels, str]:
    """Rows to train on, to choose with, to test on, and in words where the last come from.

    Tests are the split ``test``, else ``valid``, else a third of all; what chooses the epoch is
    ``valid`` unless that is the test, else a tenth of what is left. No group is cut.
    """
    check_splits(dataset.splits, str(dataset.source))
    check_groups(dataset.groups, dataset.splits, str(dataset.source))
    splits = set(dataset.splits.tolist()) - {""}
    for name in ("test", "valid"):
        if "train" in splits and name in splits:
            test = np.flatnonzero(dataset.splits == name)
            kept = ("train", "valid") if name == "test" else ("train",)
            rest = np.flatnonzero(np.isin(dataset.splits, kept))
            origin = f"split {name}"
            break
    else:
        if splits - {"train"}:
            raise OodError(
                f"{dataset.source} has the splits {', '.join(sorted(splits))}: a comparison needs "
                "train with test or valid, or none at all"
            )
        rest, test = split_dataset(_unsplit(dataset), TEST_SHARE, SPLIT_SEED)
        origin = "a third, held out at random"
    train, held = split_dataset(dataset.subset(rest), HELD_OUT_SHARE, SPLIT_SEED)
    _check_classes(dataset, test)
    return rest[train], rest[held], test, origin


def _unsplit(dataset: TileDataset) -> TileDataset:
    return dataclasses.replace(dataset, splits=np.full(len(dataset), "", "<U1"))


def _check_classes(dataset: TileDataset, test: Labels) -> None:
    absent = set(range(len(dataset.classes))) - set(dataset.labels[test].tolist())
    if absent:
        name = dataset.classes[min(absent)]
        raise OodError(f"{dataset.source}: no image of class {name!r} to test on")
