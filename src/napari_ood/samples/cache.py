"""The user's cache folder, and files that appear in it whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_ood.errors import OodError
from napari_ood.files import CACHE_ENVIRONMENT, replacing, user_cache


def cache_folder() -> Path:
    """Folder for drawn and downloaded sample slides; created if missing.

    Raises
    ------
    OodError
        If it cannot be created.
    """
    folder = user_cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error
    return folder


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that becomes ``path`` when the block succeeds.

    Raises
    ------
    OodError
        If the file cannot be written, e.g. on a full disk.
    """
    # not tempfile: its files are the user's alone, and a cache can be shared
    temporary = path.with_name(f".writing-{secrets.token_hex(6)}-{path.name}")
    try:
        with replacing(path, temporary):
            yield temporary
    except OSError as error:
        raise _not_writable(path, error) from error


def _not_writable(path: Path, error: OSError) -> OodError:
    return OodError(
        f"cannot write {path} ({error.strerror or error}): free some space, "
        f"or set {CACHE_ENVIRONMENT} to a folder that can be written"
    )
