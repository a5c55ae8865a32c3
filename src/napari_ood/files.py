"""Where the program keeps what it may lose, and files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_cache_dir

CACHE_ENVIRONMENT = "NAPARI_OOD_CACHE"
"""Environment variable that names another cache folder."""


def user_cache() -> Path:
    """The user's cache folder; it need not exist yet."""
    return Path(os.environ.get(CACHE_ENVIRONMENT) or user_cache_dir("napari-ood", appauthor=False))


@contextmanager
def replacing(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Give a path to write to; what lies there takes the place of ``path`` when all went well.

    Parameters
    ----------
    path : its folder is created if missing
    partial : what to write to, beside ``path``; by default a hidden name that nobody else uses

    Raises
    ------
    OSError
        If the disk is full or not writable. ``path`` is then as it was.
    """
    partial = partial or path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
