"""Which reader opens a file: decided by its content, not by its name."""

from __future__ import annotations

import zipfile
from pathlib import Path

from napari_ood.errors import SlideError
from napari_ood.slides.backends.base import ZARR_MARKERS, Backend, UnsupportedError
from napari_ood.slides.backends.image import ImageBackend, image_format

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ZIP_MAGIC = b"PK\x03\x04"
_FAST_TIFF_VENDORS = (None, "aperio", "generic-tiff")


def open_backend(path: Path) -> Backend:
    """Open ``path`` with the first reader that fits its content.

    Raises
    ------
    SlideError
        Naming the file and why no reader takes it.
    """
    try:
        return _open_folder(path) if path.is_dir() else _open_file(path)
    except SlideError as error:
        raise SlideError(f"cannot open {path.name}: {error}") from error
    except OSError as error:
        raise SlideError(f"cannot open {path}: {error.strerror or error}") from error


def _open_folder(folder: Path) -> Backend:
    from napari_ood.slides.backends.dicom import dicom_files, open_dicom

    if any((folder / marker).is_file() for marker in ZARR_MARKERS):
        from napari_ood.slides.backends.zarr import open_zarr

        return open_zarr(folder)
    if dicom_files(folder):
        return open_dicom(folder)
    raise SlideError("the folder holds neither an OME-Zarr nor DICOM files; open a slide in it")


def _open_file(path: Path) -> Backend:
    from napari_ood.slides.backends.dicom import is_dicom, open_dicom
    from napari_ood.slides.backends.openslide import OpenSlideBackend, detect_vendor

    with path.open("rb") as file:
        magic = file.read(16)
    if not magic:
        raise SlideError("it is empty (0 bytes); copy it again")
    if is_dicom(path):
        return open_dicom(path)
    if magic.startswith(_ZIP_MAGIC) and (prefix := _zarr_prefix_in_zip(path)) is not None:
        from napari_ood.slides.backends.zarr import open_zarr

        return open_zarr(path, prefix)
    vendor = detect_vendor(path)
    if magic.startswith(_TIFF_MAGIC):
        return _open_tiff(path, vendor)
    if vendor is not None:
        return OpenSlideBackend(path)
    if (name := image_format(magic)) is not None:
        return ImageBackend(path, name)
    raise SlideError("it is no slide or image format that napari-ood knows")


def _zarr_prefix_in_zip(path: Path) -> str | None:
    """Return the folder inside a zip that holds the outermost zarr group; None without one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return None
    roots = [n.rpartition("/")[0] for n in names if n.rpartition("/")[2] in ZARR_MARKERS]
    return min(roots, key=len) if roots else None


def _open_tiff(path: Path, vendor: str | None) -> Backend:
    from napari_ood.slides.backends.openslide import OpenSlideBackend
    from napari_ood.slides.backends.tiff import open_tiff

    if path.suffix.lower() == ".vsi":
        raise SlideError("a .vsi keeps its slide in .ets files beside it; convert it to OME-TIFF")
    if vendor not in _FAST_TIFF_VENDORS:
        return OpenSlideBackend(path)
    try:
        return open_tiff(path)
    except UnsupportedError as error:
        if vendor is None:
            raise
        try:
            return OpenSlideBackend(path)
        except SlideError:
            raise error from None
