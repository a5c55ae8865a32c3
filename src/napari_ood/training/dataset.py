"""Images on disk with labels, splits and groups, read as tiles (no torch)."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.errors import OodError
from napari_ood.training.cutting import Tiles
from napari_ood.training.decode import ReadTiles, decode
from napari_ood.training.listing import SPLIT_NAMES, Listing, list_csv, list_folder
from napari_ood.training.split import check_groups, check_splits, random_split

Strings = NDArray[np.str_]
Rows = NDArray[np.int64]
MAX_CLASSES, MAX_CLASS_NAME = 1000, 100
"""What a bundle's card can hold."""


@dataclass(frozen=True)
class TileDataset:
    """Images with their labels.

    Attributes
    ----------
    source : the folder or CSV
    paths : files, in the order of the CSV or sorted
    labels : [N] int64, index into ``classes``; −1: no label, or one that is not among them
    classes : names; () for unlabelled data
    splits : [N] str: ``train``, ``valid``, ``test``, another name from the CSV, or ""
    groups : [N] str, slide or patient; "" for an image that is a group of its own
    columns : the CSV's other columns, [N] str each
    tile, mpp : what ``read`` brings images to when it is not told: px, µm/px
    """

    source: Path
    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    splits: Strings
    groups: Strings
    columns: Mapping[str, Strings] = field(default_factory=dict)
    tile: int | None = None
    mpp: float | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, rows: ArrayLike) -> TileDataset:
        """Some of the images, by index or by a [N] bool mask, in that order."""
        chosen = np.asarray(rows)
        index = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        return TileDataset(
            self.source,
            tuple(self.paths[i] for i in index),
            self.labels[index],
            self.classes,
            self.splits[index],
            self.groups[index],
            {name: values[index] for name, values in self.columns.items()},
            self.tile,
            self.mpp,
        )

    def split(self, name: str) -> TileDataset:
        """Images of one split, ``val`` and the like included. OodError when there are none."""
        wanted = SPLIT_NAMES.get(name.casefold(), name)
        rows = np.flatnonzero(self.splits == wanted)
        if not len(rows):
            known = ", ".join(sorted({str(s) or "(blank)" for s in self.splits}))
            raise OodError(f"{self.source} has no split {name!r}; it has: {known}")
        return self.subset(rows)

    def column(self, name: str) -> Strings:
        """One column of the CSV, [N] str. OodError when it has no such column."""
        columns = {**self.columns}
        if self.splits.any():
            columns["split"] = self.splits
        if name.casefold() in columns:
            return columns[name.casefold()]
        known = ", ".join(columns) or "none: only a CSV has columns"
        raise OodError(f"{self.source} has no column {name!r}; its columns: {known}")

    def read(self, tile: int | None = None, mpp: float | None = None) -> Tiles:
        """Read all images as tiles, [N, tile, tile, 3] uint8; see ``read_tiles``."""
        return self.read_tiles(tile, mpp).tiles

    def read_tiles(
        self, tile: int | None = None, mpp: float | None = None, recompress: float = 1.0
    ) -> ReadTiles:
        """Read all images as tiles, and tell what was done to each.

        - An image whose mpp is known (column ``mpp``), while ``mpp`` says what is wanted, is
          scaled by an area filter, and the tile is cut around its centre; sides that are too short
          are mirrored. Scales within 5 % are taken as equal.
        - Any other image that has the tile's size is taken as it is.
        - Any other image is resized as a whole by an area filter; if not square, it gets squeezed.

        Tiles that were resampled out of a JPEG are compressed again (quality 75, 4:2:0), or the
        lack of compression would give them away.

        Parameters
        ----------
        tile : side of the tiles in px
        mpp : µm/px that tiles shall have
        recompress : share of the resampled tiles that are compressed again

        Raises
        ------
        OodError
            If an image can't be read, or the column ``mpp`` holds no positive number.
        """
        side = tile if tile is not None else self.tile
        if side is None:
            raise OodError("say how large the tiles shall be, in px")
        scales = self._scales(mpp if mpp is not None else self.mpp)
        return decode(self.paths, side, scales, recompress)

    def summary(self) -> dict[str, Any]:
        """Counts per class and split, number of groups, and the sha256 of the list of files.

        The sha256 is over lines ``path⇥label⇥split`` with paths relative to the dataset.
        """
        names = [self.classes[i] if i >= 0 else "" for i in self.labels]
        counts: dict[str, dict[str, int]] = {}
        digest = hashlib.sha256()
        root = self.source if self.source.is_dir() else self.source.parent
        for path, name, split in zip(self.paths, names, self.splits, strict=True):
            per_class = counts.setdefault(str(split) or "all", {})
            per_class[name or "unlabelled"] = per_class.get(name or "unlabelled", 0) + 1
            relative = Path(os.path.relpath(path, root)).as_posix()
            digest.update(f"{relative}\t{name}\t{split}\n".encode())
        return {
            "n": len(self),
            "counts": counts,
            "n_groups": len(set(self.groups.tolist()) - {""}),
            "files_sha256": digest.hexdigest(),
        }

    def _scales(self, mpp: float | None) -> list[float | None]:
        if mpp is None or "mpp" not in self.columns:
            return [None] * len(self)
        scales: list[float | None] = []
        for path, text in zip(self.paths, self.columns["mpp"], strict=True):
            try:
                own = float(text) if text else None
            except ValueError:
                own = -1.0
            if own is not None and not 0 < own < float("inf"):
                raise OodError(
                    f"{self.source}: mpp of {path.name} is {str(text)!r}, no positive number"
                )
            scales.append(None if own is None else own / mpp)
        return scales


def read_dataset(
    path: str | Path,
    tile: int | None = None,
    mpp: float | None = None,
    classes: Sequence[str] | None = None,
    group: str | None = None,
) -> TileDataset:
    """Find the images of a dataset; none is opened yet.

    Parameters
    ----------
    path : path
        - a folder of class folders; what lies in folders inside a class folder counts, too;
        - a folder with ``train/``, ``valid/``, ``test/`` or some of them, each with class folders;
        - a folder of images: unlabelled;
        - a CSV with the columns ``path`` (relative to it) and optionally ``label`` (without:
          unlabelled), ``split``, ``group``, ``mpp``, and any others.
    tile, mpp : what ``TileDataset.read`` brings images to by default
    classes : sequence of str, optional
        The order of the classes, others get the label −1; sorted names by default.
    group : str, optional
        The CSV's column that names the slide or patient, ``group`` if it has that.

    Raises
    ------
    OodError
        If nothing is there, or what is there contradicts itself.
    """
    source = Path(path)
    if not source.exists():
        raise OodError(f"{source} does not exist")
    listing = list_folder(source) if source.is_dir() else list_csv(source)
    _check_twice(source, listing)
    found = [] if listing.labels is None else listing.labels
    # Unlabelled data has no classes, whatever the caller's are; its labels are all −1.
    names = tuple(classes if classes is not None else sorted(set(found) - {""})) if found else ()
    index = {name: i for i, name in enumerate(names)}
    n = len(listing.paths)
    labels = [index.get(name, -1) for name in found] if found else [-1] * n
    columns = {name: np.array(values, np.str_) for name, values in listing.columns.items()}
    dataset = TileDataset(
        source=source,
        paths=tuple(listing.paths),
        labels=np.array(labels, np.int64),
        classes=names,
        splits=np.array(listing.splits, np.str_),
        groups=np.zeros(n, "<U1"),
        columns=columns,
        tile=tile,
        mpp=mpp,
    )
    if group is None and "group" not in columns:
        return dataset
    return dataclasses.replace(dataset, groups=dataset.column(group or "group"))


def split_dataset(dataset: TileDataset, held_out: float = 0.1, seed: int = 0) -> tuple[Rows, Rows]:
    """Rows to train on and rows to hold out, sorted.

    The dataset's own splits ``train`` and ``valid`` are used where it has both (rows of other
    splits are left out). Else a share of the images, or of its split ``train``, is drawn at
    random: evenly over the classes and without cutting a group.

    Parameters
    ----------
    dataset : TileDataset
    held_out : share to hold out, above 0 and below 1
    seed : of the draw

    Returns
    -------
    (train_rows, held_out_rows) : [n] int64 each

    Raises
    ------
    OodError
        If a group is in two splits, only some images have a split, or a class can't be on both
        sides.
    """
    check_splits(dataset.splits, str(dataset.source))
    check_groups(dataset.groups, dataset.splits, str(dataset.source))
    splits = set(dataset.splits.tolist()) - {""}
    if splits and "train" not in splits:
        raise OodError(f"{dataset.source} has splits but no 'train': {', '.join(sorted(splits))}")
    if {"train", "valid"} <= splits:
        rows = np.flatnonzero(dataset.splits == "train"), np.flatnonzero(dataset.splits == "valid")
        _check_both_sides(dataset, *rows)
        return rows
    pool = np.flatnonzero(dataset.splits == "train") if splits else np.arange(len(dataset))
    names = dataset.classes
    held = random_split(
        dataset.labels[pool], dataset.groups[pool], held_out, seed, lambda c: _name(names, c)
    )
    return pool[~held], pool[held]


def check_trainable(dataset: TileDataset) -> None:
    """Raise OodError, with advice, unless a classifier can be trained on the dataset."""
    source, classes = dataset.source, dataset.classes
    if not classes:
        raise OodError(
            f"{source} has no labels: put images into one folder per class, or use a CSV with the "
            "columns path and label"
        )
    if len(classes) < 2:
        raise OodError(f"{source} has one class only, {classes[0]!r}: training needs two or more")
    if len(classes) > MAX_CLASSES:
        raise OodError(
            f"{source} has {len(classes):,} classes; at most {MAX_CLASSES:,} are possible"
        )
    too_long = [name for name in classes if len(name) > MAX_CLASS_NAME]
    if too_long:
        raise OodError(f"{source}: a class name must be shorter than {too_long[0][:40]!r}…")
    without = int((dataset.labels < 0).sum())
    if without:
        raise OodError(f"{source}: {without:,} rows have no label: label or remove them")
    counts = np.bincount(dataset.labels, minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if count < 2:
            raise OodError(
                f"{source}: class {name!r} has {count} image(s), fewer than the 2 that training "
                "and its check need: add images or remove the class"
            )


def _name(classes: tuple[str, ...], label: int) -> str:
    return classes[label] if label >= 0 else "unlabelled"


def _check_both_sides(dataset: TileDataset, train: Rows, held: Rows) -> None:
    for side, rows in (("train", train), ("valid", held)):
        absent = set(range(len(dataset.classes))) - set(dataset.labels[rows].tolist())
        if absent:
            name = dataset.classes[min(absent)]
            raise OodError(f"{dataset.source}: split {side!r} has no image of class {name!r}")


def _check_twice(source: Path, listing: Listing) -> None:
    """Refuse a file that is listed twice: it could be trained on and tested with."""
    seen: dict[str, int] = {}
    for i, path in enumerate(listing.paths):
        first = seen.setdefault(os.path.normcase(os.path.normpath(path)), i)
        if first != i:
            splits = {listing.splits[first], listing.splits[i]}
            where = f", in the splits {' and '.join(sorted(splits))}" if len(splits) > 1 else ""
            raise OodError(f"{source} lists {path} twice{where}: keep one")
