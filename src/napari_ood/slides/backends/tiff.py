"""Tiled and striped TIFF: Aperio SVS, generic pyramids, OME-TIFF. The fast reader."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import tifffile

from napari_ood.errors import SlideError
from napari_ood.slides.backends.base import RGB, LazyImages, Level, SlideInfo
from napari_ood.slides.backends.cache import TileCache
from napari_ood.slides.backends.files import PositionedFile
from napari_ood.slides.backends.pixels import (
    UPRIGHT,
    Converter,
    Turn,
    float_scale,
    to_rgb,
    turn_of,
    turned,
    white_value_note,
)
from napari_ood.slides.backends.tiff_colour import page_converter
from napari_ood.slides.backends.tiff_layout import Layout, Page, tiff_layout
from napari_ood.slides.backends.tiff_meta import (
    aperio_mpp,
    ome_mpp,
    origin_tags,
    parse_aperio,
    resolution_mpp,
    to_float,
)
from napari_ood.slides.backends.tiff_page import TiffPageReader

# tifffile reports oddities of a file through its logger; with no handler at all, Python prints
# them to the user's terminal. They still reach handlers that the application installs.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class TiffBackend:
    """Reads a TIFF through positioned reads and imagecodecs; see ``tiff_page``."""

    def __init__(self, path: Path) -> None:
        self._file = PositionedFile(path)
        self._cache = TileCache()
        try:
            with tifffile.TiffFile(path, _multifile=False) as tif:
                layout = tiff_layout(tif)
                top, notes = self._white_value(layout)
                self._pages = [
                    self._reader(page, page_converter(page, top)) for page in layout.levels
                ]
                loaders = {name: self._loader(p) for name, p in layout.associated.items()}
                self._turn = turn_of(layout.levels[0].tags.valueof(274))
                self.info = _describe(path, layout, self._turn, notes)
        except BaseException:
            self._file.close()
            raise
        self.associated = LazyImages(loaders)

    def _reader(self, page: Page, convert: Converter) -> TiffPageReader:
        return TiffPageReader(page, self._file, self._cache, convert)

    def _loader(self, page: Page) -> Callable[[], RGB]:
        """Return what decodes an associated image. Nothing is decoded before it is called."""
        try:
            reader = TiffPageReader(page, self._file, TileCache(0), page_converter(page))
        except SlideError as error:
            return partial(_raise, error)
        return partial(reader.read, 0, 0, *reader.shape)

    def _white_value(self, layout: Layout) -> tuple[float | None, tuple[str, ...]]:
        """Return the value that means white, None for the page's own bits, and what to tell."""
        base = layout.levels[0]
        if base.dtype is None or base.dtype.itemsize == 1:
            return None, ()
        if base.dtype.kind == "f":
            low, high = self._reader(layout.levels[-1], to_rgb).value_range()
            top = float_scale(low, high)
        elif (stated := to_float(layout.ome.get("SignificantBits"))) and stated <= 16:
            top = 2**stated - 1
        elif isinstance(base.bitspersample, int):
            return None, (white_value_note(base.dtype, 2**base.bitspersample - 1),)
        else:
            return None, ()
        return top, (white_value_note(base.dtype, top),)

    def read(self, level: int, y: int, x: int, h: int, w: int) -> RGB:
        """Return the (h, w, 3) uint8 window of a level."""
        page = self._pages[level]
        transpose, flip_rows, flip_columns = self._turn
        if self._turn == UPRIGHT:
            return page.read(y, x, h, w)
        height, width = page.shape[::-1] if transpose else page.shape
        y0 = height - y - h if flip_rows else y
        x0 = width - x - w if flip_columns else x
        stored = page.read(x0, y0, w, h) if transpose else page.read(y0, x0, h, w)
        return turned(stored, self._turn)

    def close(self) -> None:
        """Close the file and drop the decoded tiles."""
        self._file.close()
        self._cache.clear()


def _raise(error: SlideError) -> RGB:
    raise error


def _describe(path: Path, layout: Layout, turn: Turn, notes: tuple[str, ...]) -> SlideInfo:
    base = layout.levels[0]
    transposed = turn[0]
    description = base.description
    aperio = parse_aperio(description) if description.startswith("Aperio") else {}
    mpp, name, metadata = resolution_mpp(base), "TIFF", dict(aperio)
    if aperio or description.startswith("Aperio"):
        mpp, name = aperio_mpp(aperio), "Aperio SVS"
    elif layout.ome:
        mpp, name = ome_mpp(layout.ome) or mpp, "OME-TIFF"
        metadata = {key: value for key, value in layout.ome.items() if value}
    metadata |= {
        "tiff.compression": getattr(base.compression, "name", str(base.compression)),
        "tiff.photometric": getattr(base.photometric, "name", str(base.photometric)),
        **origin_tags(base),
    }
    if mpp is not None and transposed:
        mpp = (mpp[1], mpp[0])
    return SlideInfo(
        format=name,
        reader="tiff",
        levels=tuple(_level(page, transposed) for page in layout.levels),
        mpp=mpp,
        files=(path,),
        vendor="aperio" if name == "Aperio SVS" else "generic",
        objective=to_float(aperio.get("AppMag")),
        metadata=metadata,
        warnings=notes,
    )


def _level(page: Page, transposed: bool) -> Level:
    shape = (int(page.imagelength), int(page.imagewidth))
    if page.is_tiled:
        tile = (int(page.tilelength), int(page.tilewidth))
    else:
        tile = (min(int(page.rowsperstrip), shape[0]), shape[1])
    return Level(shape[::-1], tile[::-1]) if transposed else Level(shape, tile)


def open_tiff(path: Path) -> TiffBackend:
    """Open a TIFF with the fast reader; SlideError says why it cannot."""
    try:
        return TiffBackend(path)
    except SlideError:
        raise
    except Exception as error:
        raise SlideError(f"its TIFF structure is damaged ({error})") from error
