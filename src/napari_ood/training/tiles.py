"""Labelled tiles on disk, read into one array (no torch)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from napari_ood.errors import OodError

READ_THREADS = 4


@dataclass(frozen=True)
class TileTable:
    """Tile files with their labels.

    Attributes
    ----------
    paths : files, in the order of the table
    labels : [N] int64, index into ``classes``; −1 for a label that is not among them
    splits : the column ``split`` of the table, "" where there is none
    classes : names
    """

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    splits: tuple[str, ...]
    classes: tuple[str, ...]

    def split(self, name: str) -> TileTable:
        """Rows of one split. Raises OodError when there are none."""
        rows = [i for i, split in enumerate(self.splits) if split == name]
        if not rows:
            raise OodError(f"the table has no split {name!r}, only {sorted(set(self.splits))}")
        paths = tuple(self.paths[i] for i in rows)
        return TileTable(paths, self.labels[rows], (name,) * len(rows), self.classes)


def read_table(path: str | Path, classes: Sequence[str] | None = None) -> TileTable:
    """Read a CSV with columns ``path`` (relative to it), ``label`` and optionally ``split``.

    Parameters
    ----------
    path : path of the CSV
    classes : sequence of str, optional
        The order of the classes; sorted names by default.

    Raises
    ------
    OodError
        If the file can't be read or lacks a column.
    """
    table = Path(path)
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise OodError(f"{table} cannot be read: {error}") from error
    if not rows or not {"path", "label"} <= rows[0].keys():
        raise OodError(f"{table} needs a header with the columns path and label, and rows")
    names = tuple(classes) if classes is not None else tuple(sorted({r["label"] for r in rows}))
    index = {name: i for i, name in enumerate(names)}
    return TileTable(
        paths=tuple(table.parent / row["path"] for row in rows),
        labels=np.array([index.get(row["label"], -1) for row in rows], np.int64),
        splits=tuple(row.get("split") or "" for row in rows),
        classes=names,
    )


def read_tiles(paths: Sequence[Path], size: int) -> NDArray[np.uint8]:
    """Decode tiles that are ``size`` px wide and high into ``[N, size, size, 3]`` uint8.

    Raises
    ------
    OodError
        If a file is no image or has another size: nothing is resized in silence.
    """

    def read(path: Path) -> NDArray[np.uint8]:
        try:
            with Image.open(path) as image:
                tile = np.asarray(image.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise OodError(f"{path} cannot be read as an image: {error}") from error
        if tile.shape != (size, size, 3):
            raise OodError(f"{path} is {tile.shape[1]} × {tile.shape[0]} px, not {size} × {size}")
        return tile

    out = np.empty((len(paths), size, size, 3), np.uint8)
    with ThreadPoolExecutor(READ_THREADS) as pool:
        for i, tile in enumerate(pool.map(read, paths)):
            out[i] = tile
    return out
