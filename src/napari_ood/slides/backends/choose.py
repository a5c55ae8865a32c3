"""Which reader opens a file: decided by its content, not by its name."""

from __future__ import annotations

from pathlib import Path

from napari_ood.errors import SlideError
from napari_ood.slides.backends.base import Backend
from napari_ood.slides.backends.tiff import open_tiff

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_backend(path: Path) -> Backend:
    """Open ``path`` with the first reader that fits its content.

    Raises
    ------
    SlideError
        Naming the file and why no reader takes it.
    """
    try:
        return _open(path)
    except SlideError as error:
        raise SlideError(f"cannot open {path.name}: {error}") from error
    except OSError as error:
        raise SlideError(f"cannot open {path}: {error.strerror or error}") from error


def _open(path: Path) -> Backend:
    with path.open("rb") as file:
        magic = file.read(16)
    if not magic:
        raise SlideError("it is empty (0 bytes); copy it again")
    if magic.startswith(_TIFF_MAGIC):
        return open_tiff(path)
    raise SlideError("it is no slide format that napari-ood knows")
