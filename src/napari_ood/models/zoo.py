"""Bundles at hand: those that ship, the user's folder, and folders named in the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from platformdirs import user_data_dir

from napari_ood.errors import BundleError
from napari_ood.models.bundle import Bundle, open_bundle
from napari_ood.models.card import CONFIG, Card, read_card

ENVIRONMENT = "NAPARI_OOD_BUNDLES"
"""Folders of bundles, separated like PATH; searched first."""


@dataclass(frozen=True)
class BundleEntry:
    """A bundle folder that was found: its card, or why it can't be used."""

    name: str
    path: Path
    card: Card | None
    error: str | None


def bundle_folders() -> tuple[Path, ...]:
    """Folders that are searched, in this order; a name found twice means the first."""
    extra = [Path(p) for p in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if p]
    user = Path(user_data_dir("napari-ood", appauthor=False)) / "bundles"
    shipped = Path(str(files("napari_ood"))) / "bundles"
    return (*extra, user, shipped)


def list_bundles() -> tuple[BundleEntry, ...]:
    """Bundles at hand with their cards, sorted by name. Broken ones are listed with the reason.

    Only cards are read; ``load_bundle`` checks the files.
    """
    found: dict[str, BundleEntry] = {}
    for path in _candidates():
        if path.name not in found:
            found[path.name] = _entry(path)
    return tuple(sorted(found.values(), key=lambda entry: entry.name))


def load_bundle(name_or_folder: str | Path) -> Bundle:
    """Open a bundle by name or folder and check all its files (loads no torch).

    A text without path separators that is the name of a bundle at hand means that bundle,
    anything else a folder.

    Raises
    ------
    BundleError
        If there is no such bundle, or it is damaged.
    """
    if isinstance(name_or_folder, str):
        for path in _candidates():
            if path.name == name_or_folder:
                return open_bundle(path)
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return open_bundle(folder)
    known = ", ".join(entry.name for entry in list_bundles() if entry.error is None) or "none"
    raise BundleError(f"no bundle {str(name_or_folder)!r}; at hand: {known}; or give its folder")


def _candidates() -> Iterator[Path]:
    for folder in bundle_folders():
        try:
            paths = sorted(folder.iterdir())
        except OSError:
            continue  # the user's folder is made only when something is put there
        yield from (path for path in paths if (path / CONFIG).is_file())


def _entry(path: Path) -> BundleEntry:
    try:
        card = read_card(path)
    except BundleError as error:
        return BundleEntry(path.name, path, None, str(error))
    return BundleEntry(path.name, path, card, None)
