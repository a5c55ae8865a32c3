"""What a folder or a CSV says about images: their paths, labels, splits and columns (no torch)."""

from __future__ import annotations

import csv
import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from napari_ood.errors import OodError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
IMAGE_KINDS = "PNG, JPEG, TIFF, BMP"
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}
"""Spellings of splits; others stay as they are."""


@dataclass
class Listing:
    """Rows as they were found; ``labels`` None: unlabelled. ``columns``: all others of a CSV."""

    paths: list[Path] = field(default_factory=list)
    labels: list[str] | None = None
    splits: list[str] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)


def list_folder(folder: Path) -> Listing:
    """List class folders, ``train/`` and ``valid/`` with class folders, or plain images.

    Raises
    ------
    OodError
        If it holds no images, or images both in and beside class folders.
    """
    inside = _visible(folder)
    loose = [path for path in inside if _is_image(path)]
    folders = [path for path in inside if path.is_dir()]
    with_images = {path: _images_under(path) for path in folders}
    empty = [path.name for path, images in with_images.items() if not images]
    if not any(with_images.values()):
        if not loose:
            raise OodError(f"{folder} holds no images ({IMAGE_KINDS}) and no folders of images")
        return Listing(loose, None, [""] * len(loose))
    if loose:
        raise OodError(
            f"{folder} holds class folders and, beside them, images such as {loose[0].name}: "
            "move them into a class folder or away"
        )
    if empty:
        raise OodError(f"{folder / empty[0]} holds no images ({IMAGE_KINDS}): fill or remove it")
    if _are_splits(with_images):
        return _list_splits(folders)
    listing = Listing(labels=[])
    for path, images in with_images.items():
        _extend(listing, images, "", _normal(path.name))
    return listing


def list_csv(table: Path) -> Listing:
    """List the rows of a CSV with ``path`` and optionally ``label``, ``split`` and more columns.

    Paths are relative to the CSV. Commas, semicolons or tabs separate; a byte order mark and paths
    with backslashes are understood.

    Raises
    ------
    OodError
        If it can't be read, lacks the column ``path`` or rows, or names a file that is not there.
    """
    rows = _rows(table)
    listing = Listing(labels=[] if "label" in rows[0] else None)
    names = [name for name in rows[0] if name not in ("path", "label", "split")]
    listing.columns = {name: [] for name in names}
    missing = []
    for number, row in enumerate(rows, start=2):
        if not row["path"]:
            raise OodError(f"{table} line {number} has no path")
        path = _locate(table.parent, row["path"])
        if not path.is_file():
            missing.append(f"line {number}: {row['path']}")
        split = row.get("split", "")
        listing.paths.append(path)
        listing.splits.append(SPLIT_NAMES.get(split.casefold(), split))
        if listing.labels is not None:
            listing.labels.append(_normal(row["label"]))
        for name in names:
            listing.columns[name].append(row[name])
    if missing:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise OodError(f"{table} names files that do not exist, {missing[0]}{more}")
    return listing


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise OodError(f"{table} is not UTF-8 text: save it as CSV UTF-8") from None
    except OSError as error:
        raise OodError(f"{table} cannot be read: {error}") from error
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    try:
        # the csv module wants a file's lines with their ends, for line breaks inside quotes
        parsed = list(csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True))
    except csv.Error as error:
        raise OodError(f"{table} is no CSV: {error}") from error
    names = [name.strip().casefold() for name in parsed[0]] if parsed else []
    if "path" not in names or len(set(names)) != len(names):
        raise OodError(
            f"{table} needs a first line that names its columns, each once: path, usually label, "
            "optionally split, group, mpp"
        )
    rows = []
    for number, cells in enumerate(parsed[1:], start=2):
        if any(cell.strip() for cell in cells):
            if len(cells) != len(names):
                raise OodError(f"{table} line {number} has {len(cells)} cells, not {len(names)}")
            rows.append(dict(zip(names, (cell.strip() for cell in cells), strict=True)))
    if not rows:
        raise OodError(f"{table} has no rows")
    return rows


def _locate(folder: Path, text: str) -> Path:
    """Path of an image; backslashes separate folders unless a file is really called so."""
    path = folder / text
    if "\\" in text and not path.is_file():
        path = folder / text.replace("\\", "/")
    return path


def _list_splits(folders: list[Path]) -> Listing:
    parts = {folder: list_folder(folder) for folder in folders}
    labelled = {part.labels is not None for part in parts.values()}
    if len(labelled) > 1:
        without = next(folder for folder, part in parts.items() if part.labels is None)
        raise OodError(f"{without} holds no class folders, the other splits do")
    listing = Listing(labels=[] if labelled.pop() else None)
    for folder, part in parts.items():
        listing.paths += part.paths
        listing.splits += [SPLIT_NAMES[folder.name.casefold()]] * len(part.paths)
        if listing.labels is not None and part.labels is not None:
            listing.labels += part.labels
    return listing


def _are_splits(folders: dict[Path, list[Path]]) -> bool:
    """Whether folders are splits, by their names and what they hold.

    One of them is ``train``, or all hold nothing but folders: ``valid`` and ``test`` that hold
    images may be two classes.
    """
    names = [SPLIT_NAMES.get(folder.name.casefold()) for folder in folders]
    if None in names or len(set(names)) < len(names):
        return False
    of_classes = all(f != image.parent for f, images in folders.items() for image in images)
    return "train" in names or of_classes


def _extend(listing: Listing, images: list[Path], split: str, label: str) -> None:
    listing.paths += images
    listing.splits += [split] * len(images)
    if listing.labels is not None:
        listing.labels += [label] * len(images)


def _images_under(folder: Path) -> list[Path]:
    """Images in a folder and all folders below it, links followed, sorted."""
    found, seen = [], set()
    for path, names, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:  # a link that leads back up
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(name for name in names if not _hidden(name))
        found += [Path(path, name) for name in sorted(files) if _is_image_name(name)]
    return found


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not _hidden(path.name))
    except OSError as error:
        raise OodError(f"{folder} cannot be read: {error}") from error


def _is_image(path: Path) -> bool:
    return _is_image_name(path.name) and path.is_file()


def _is_image_name(name: str) -> bool:
    return not _hidden(name) and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _normal(name: str) -> str:
    """One spelling of accents, or a class would have two names on two file systems."""
    return unicodedata.normalize("NFC", name)
