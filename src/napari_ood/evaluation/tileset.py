"""The tiles of an evaluation: from a dataset on disk, read piece by piece, or from an array."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import OodError
from napari_ood.models import Card
from napari_ood.training import TileDataset, read_dataset
from napari_ood.training.cutting import Change

Tiles = NDArray[np.uint8]
Strings = NDArray[np.str_]
DataLike = str | Path | TileDataset | Tiles
CHUNK = 1024
"""Tiles read at a time: memory does not grow with the set."""

ALL = "all"
TEST_SPLITS = ("test", "valid")
"""Splits to evaluate on, best first. ``valid`` often chose the epoch and set the thresholds."""


@dataclass(frozen=True)
class TileSet:
    """Tiles with what is known about them.

    Attributes
    ----------
    name : of the set
    labels : [N] int64, index into the bundle's classes; −1: none
    groups : [N] str, slide or patient; "" for a tile that is a group of its own
    columns : other columns of the CSV, [N] str each
    notes : what the user should know about how it was put together
    """

    name: str
    labels: NDArray[np.int64]
    groups: Strings
    columns: Mapping[str, Strings] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    dataset: TileDataset | None = None
    tiles: Tiles | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def chunks(self, changes: Counter[Change]) -> Iterator[Tiles]:
        """Read the tiles, ``CHUNK`` at a time; count into ``changes`` how images became tiles."""
        for start in range(0, len(self), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(self)))
            if self.tiles is not None:
                yield self.tiles[rows]
            elif self.dataset is not None:
                read = self.dataset.subset(rows).read_tiles()
                changes.update(Change(value) for value in read.changes.tolist())
                yield read.tiles

    def sample(self, n: int, seed: int) -> TileSet:
        """At most ``n`` of the tiles, drawn at random, read into memory."""
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:n])
        if self.tiles is not None:
            tiles = self.tiles[rows]
        else:
            assert self.dataset is not None
            tiles = self.dataset.subset(rows).read()
        return TileSet(self.name, self.labels[rows], self.groups[rows], tiles=tiles)

    def where(self, index: int) -> str:
        """Name of one tile, for errors."""
        return str(self.dataset.paths[index]) if self.dataset else f"tile {index} of {self.name}"


def tile_set(
    name: str,
    data: DataLike,
    card: Card,
    *,
    group: str | None = None,
    mpp: float | None = None,
    groups: Sequence[str] | None = None,
) -> TileSet:
    """Take a dataset, or ``[N, t, t, 3]`` uint8 tiles, as tiles for a bundle.

    Parameters
    ----------
    name : of the set
    data : path, TileDataset or array
    card : of the bundle; its tile size and mpp are what images are brought to
    group : column of the CSV that names the slide or patient
    mpp : µm/px of the images, for a dataset that has no column ``mpp``
    groups : groups of an array's tiles

    Raises
    ------
    OodError
        If nothing can be read there, or an array has the wrong shape.
    """
    if isinstance(data, np.ndarray):
        return _from_array(name, data, card, groups)
    dataset = data if isinstance(data, TileDataset) else read_dataset(data)
    if not len(dataset):
        raise OodError(f"set {name!r} is empty")
    notes = []
    if group is not None and group.casefold() in dataset.columns:
        dataset = dataclasses.replace(dataset, groups=dataset.column(group))
    elif group is not None:
        dataset = dataclasses.replace(dataset, groups=np.zeros(len(dataset), "<U1"))
        notes.append(f"{name}: no column {group!r}, so intervals resample single images")
    if mpp is not None and "mpp" not in dataset.columns:
        stated = np.full(len(dataset), str(mpp))
        dataset = dataclasses.replace(dataset, columns={**dataset.columns, "mpp": stated})
    dataset = dataclasses.replace(dataset, tile=card.tile_size, mpp=card.mpp)
    return TileSet(
        name,
        np.full(len(dataset), -1),
        dataset.groups,
        dataset.columns,
        tuple(notes),
        dataset,
    )


def id_set(
    name: str,
    data: DataLike,
    card: Card,
    split: str | None,
    *,
    labels: NDArray[np.int64] | None = None,
    group: str | None = None,
    mpp: float | None = None,
    groups: Sequence[str] | None = None,
) -> TileSet:
    """In-distribution tiles with their labels, of the split to evaluate on.

    Parameters
    ----------
    name, data, card, group, mpp, groups : as ``tile_set`` takes them
    split : name of a split, ``all``, or None: ``test``, else ``valid``, else all
    labels : [N] int of an array's tiles

    Raises
    ------
    OodError
        If there is no such split, or a label is no class of the bundle.
    """
    if isinstance(data, np.ndarray):
        tiles = _from_array(name, data, card, groups)
        return tiles if labels is None else dataclasses.replace(tiles, labels=labels)
    dataset = data if isinstance(data, TileDataset) else read_dataset(data)
    dataset, note = _choose_split(dataset, split)
    index = _class_index(dataset, card)
    tiles = tile_set(name, dataset, card, group=group, mpp=mpp)
    labels = np.array([index[i] if i >= 0 else -1 for i in dataset.labels.tolist()], np.int64)
    notes = [note, *tiles.notes]
    without = int((labels < 0).sum())
    if dataset.classes and without:
        notes.append(f"{name}: {without:,} of {len(labels):,} images have no label")
    return dataclasses.replace(tiles, labels=labels, notes=tuple(notes))


def shared_files(inside: TileSet, outside: TileSet) -> str:
    """A warning when the two sets have files in common; else ""."""
    if inside.dataset is None or outside.dataset is None:
        return ""
    known = {os.path.realpath(path) for path in inside.dataset.paths}
    n = sum(os.path.realpath(path) in known for path in outside.dataset.paths)
    if not n:
        return ""
    return (
        f"{n:,} of the {len(outside):,} images of {outside.name!r} are in-distribution images of "
        "this evaluation, too: no score can tell them apart"
    )


def reading_note(name: str, changes: Counter[Change], n: int, card: Card) -> str:
    """How images became tiles, in words; "" when all were tiles already."""
    scale = "" if card.mpp is None else f" to {card.mpp:g} µm/px"
    said = {
        Change.CUT: "cut around the centre",
        Change.SCALED: f"scaled{scale} and cut around the centre",
        Change.RESIZED: "resized as a whole (another size, mpp unknown)",
    }
    parts = [f"{changes[k]:,} {text}" for k, text in said.items() if changes[k]]
    if not parts:
        return ""
    return f"{name}: of {n:,} images, {', '.join(parts)}: {card.tile_size} px tiles"


def _from_array(name: str, tiles: Tiles, card: Card, groups: Sequence[str] | None) -> TileSet:
    side = card.tile_size
    if tiles.dtype != np.uint8 or tiles.shape[1:] != (side, side, 3) or not len(tiles):
        raise OodError(
            f"set {name!r} must be uint8 tiles [N ≥ 1, {side}, {side}, 3], not {tiles.dtype} "
            f"{list(tiles.shape)}"
        )
    own = np.zeros(len(tiles), "<U1") if groups is None else np.asarray(groups, np.str_)
    return TileSet(name, np.full(len(tiles), -1), own, tiles=tiles)


def _choose_split(dataset: TileDataset, split: str | None) -> tuple[TileDataset, str]:
    present = set(dataset.splits.tolist()) - {""}
    source = dataset.source.name
    if split is not None and split != ALL:
        chosen = dataset.split(split)
        return chosen, f"id: {len(chosen):,} images of {source}, split {split}"
    best = next((name for name in TEST_SPLITS if name in present), None)
    if split == ALL or best is None:
        which = ", which has no splits: none of them should have trained the bundle"
        if present:
            which = f", of all splits ({', '.join(sorted(present))})"
        return dataset, f"id: {len(dataset):,} images of {source}{which}"
    chosen = dataset.split(best)
    others = ", ".join(sorted(present - {best}))
    aside = f" (not {others}: --split chooses)" if others else ""
    return chosen, f"id: {len(chosen):,} images of {source}, split {best}{aside}"


def _class_index(dataset: TileDataset, card: Card) -> dict[int, int]:
    """Index of each of the dataset's classes among the bundle's. OodError when one is unknown."""
    used = sorted({dataset.classes[i] for i in dataset.labels.tolist() if i >= 0})
    unknown = [name for name in used if name not in card.classes]
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise OodError(
            f"{dataset.source} has labels that are no classes of bundle {card.name!r}: "
            f"{', '.join(map(repr, unknown[:5]))}{more}; its classes are "
            f"{', '.join(card.classes)}. Rename them, or give the images in one folder without "
            "class folders as unlabelled data"
        )
    return {i: card.classes.index(n) for i, n in enumerate(dataset.classes) if n in card.classes}
