"""Hamamatsu, MIRAX, Leica, Ventana, Philips, Trestle, Zeiss, DICOM ...: OpenSlide reads them."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openslide

from napari_ood.errors import SlideError
from napari_ood.slides.backends.base import RGB, LazyImages, Level, SlideInfo
from napari_ood.slides.backends.cache import DEFAULT_CACHE_BYTES, TileCache
from napari_ood.slides.backends.pixels import over_white
from napari_ood.slides.backends.tiff_meta import MPP, physical, to_float

DEFAULT_TILE_PX = 512  # where OpenSlide does not tell, e.g. for MIRAX, whose tiles overlap
BLOCK_PX = 512
_LONGEST_PROPERTY = 1000
_FORMATS = {
    "aperio": "Aperio SVS", "dicom": "DICOM WSI", "generic-tiff": "TIFF",
    "hamamatsu": "Hamamatsu", "leica": "Leica SCN", "mirax": "MIRAX", "philips": "Philips TIFF",
    "sakura": "Sakura SVSLIDE", "trestle": "Trestle", "ventana": "Ventana", "zeiss": "Zeiss CZI",
}  # fmt: skip


def detect_vendor(path: Path) -> str | None:
    """Return OpenSlide's name of the format, None when it does not know it."""
    try:
        return openslide.OpenSlide.detect_format(str(path))
    except openslide.OpenSlideError:
        return None


class OpenSlideBackend:
    """Reads through one OpenSlide handle, which threads share; through one per thread for DICOM.

    Coordinates are those of OpenSlide's full canvas; ``openslide.bounds-*`` in the metadata tells
    which part of it was scanned. What was not scanned is transparent there and white here.
    """

    def __init__(self, path: Path, files: tuple[Path, ...] = ()) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._tiles = openslide.OpenSlideCache(DEFAULT_CACHE_BYTES)  # one for all handles
        handle = _open_handle(path, self._tiles)
        self._handle: openslide.OpenSlide | None = handle
        # OpenSlide 4.0.1 crashes when threads that share a handle meet a damaged DICOM frame.
        self._exclusive = handle.properties.get(openslide.PROPERTY_NAME_VENDOR) == "dicom"
        self._idle: list[openslide.OpenSlide] = []
        self._downsamples = handle.level_downsamples
        self._cache = TileCache()
        self.info = _describe(path, handle, files)
        names = list(handle.associated_images.keys())
        self.associated = LazyImages({name: partial(self._associated, name) for name in names})

    def read(self, level: int, y: int, x: int, h: int, w: int) -> RGB:
        """Return the (h, w, 3) uint8 window of a level."""
        if self._downsamples[level].is_integer():
            return self._region(level, y, x, h, w)
        return self._read_by_blocks(level, y, x, h, w)

    def _read_by_blocks(self, level: int, y: int, x: int, h: int, w: int) -> RGB:
        """Read by blocks that always lie at the same places.

        OpenSlide takes whole level-0 px as origin, so with a fractional downsample it resamples
        each region by another fraction of a px: the same pixel would depend on the window.
        """
        height, width = self.info.levels[level].shape
        out = np.empty((h, w, 3), np.uint8)
        for top in range(y // BLOCK_PX * BLOCK_PX, y + h, BLOCK_PX):
            for left in range(x // BLOCK_PX * BLOCK_PX, x + w, BLOCK_PX):
                block = self._cache.get((level, top, left))
                if block is None:
                    size = min(BLOCK_PX, height - top), min(BLOCK_PX, width - left)
                    block = self._region(level, top, left, *size)
                    self._cache.put((level, top, left), block)
                y0, y1 = max(y, top), min(y + h, top + BLOCK_PX)
                x0, x1 = max(x, left), min(x + w, left + BLOCK_PX)
                out[y0 - y : y1 - y, x0 - x : x1 - x] = block[
                    y0 - top : y1 - top, x0 - left : x1 - left
                ]
        return out

    def _region(self, level: int, y: int, x: int, h: int, w: int) -> RGB:
        downsample = self._downsamples[level]
        origin = (round(x * downsample), round(y * downsample))
        if self._exclusive:
            return _over_white(np.asarray(self._read_alone(origin, level, (w, h))))
        handle = self._current()
        try:
            image = handle.read_region(origin, level, (w, h))
        except openslide.OpenSlideError:
            self._replace(handle)
            raise
        return _over_white(np.asarray(image))

    def _read_alone(self, origin: tuple[int, int], level: int, size: tuple[int, int]) -> Any:
        """Read through a handle that no other thread uses meanwhile; drop it if that fails."""
        self._current()  # raises once the slide is closed
        with self._lock:
            handle = self._idle.pop() if self._idle else None
        handle = handle or _open_handle(self._path, self._tiles)
        image = handle.read_region(origin, level, size)
        with self._lock:
            if self._handle is not None:
                self._idle.append(handle)
        return image

    def _associated(self, name: str) -> RGB:
        return _over_white(np.asarray(self._current().associated_images[name].convert("RGBA")))

    def _current(self) -> openslide.OpenSlide:
        with self._lock:
            if self._handle is None:
                raise SlideError("the slide was closed; open it again")
            return self._handle

    def _replace(self, failed: openslide.OpenSlide) -> None:
        """Open a new handle: after one damaged tile OpenSlide refuses to read any other."""
        with self._lock:
            if self._handle is failed:
                self._handle = _open_handle(self._path, self._tiles)

    def close(self) -> None:
        """Forget the handle; it is freed once no thread reads from it any more."""
        with self._lock:
            self._handle = None
            self._idle.clear()
        self._cache.clear()


def _open_handle(path: Path, cache: openslide.OpenSlideCache) -> openslide.OpenSlide:
    try:
        handle = openslide.OpenSlide(str(path))
    except openslide.OpenSlideError as error:
        raise SlideError(f"OpenSlide cannot read it ({error})") from error
    handle.set_cache(cache)
    return handle


def _over_white(rgba: RGB) -> RGB:
    return np.ascontiguousarray(over_white(rgba[..., :3], rgba[..., 3]))


def _describe(path: Path, handle: openslide.OpenSlide, files: tuple[Path, ...]) -> SlideInfo:
    properties = handle.properties
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
    name = _FORMATS.get(vendor, vendor)
    if vendor == "hamamatsu":
        name = f"Hamamatsu {path.suffix.lstrip('.').upper()}"
    return SlideInfo(
        format=name,
        reader="openslide",
        levels=tuple(
            Level((h, w), _tile(handle, level, (h, w)))
            for level, (w, h) in enumerate(handle.level_dimensions)
        ),
        mpp=_mpp(handle),
        files=files or _files(path, vendor),
        vendor=vendor,
        objective=to_float(properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)),
        metadata={k: v for k, v in properties.items() if len(v) <= _LONGEST_PROPERTY},
    )


def _mpp(handle: openslide.OpenSlide) -> MPP | None:
    y = to_float(handle.properties.get(openslide.PROPERTY_NAME_MPP_Y))
    x = to_float(handle.properties.get(openslide.PROPERTY_NAME_MPP_X))
    return None if y is None or x is None else physical((y, x))


def _tile(handle: openslide.OpenSlide, level: int, shape: tuple[int, int]) -> tuple[int, int]:
    sides = []
    for name, side in zip(("height", "width"), shape, strict=True):
        stated = handle.properties.get(f"openslide.level[{level}].tile-{name}", "")
        sides.append(min(int(stated) if stated.isdigit() else DEFAULT_TILE_PX, side) or 1)
    return sides[0], sides[1]


def _files(path: Path, vendor: str) -> tuple[Path, ...]:
    """Return the file and, where the pixels lie elsewhere, the files beside it that hold them."""
    folder = path.with_suffix("")
    if vendor == "mirax" and folder.is_dir():
        return (path, *sorted(file for file in folder.iterdir() if file.is_file()))
    if path.suffix.lower() in {".vms", ".vmu"}:
        return (path, *sorted(f for f in path.parent.glob(f"{path.stem}*") if f != path))
    return (path,)
