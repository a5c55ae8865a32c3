"""Windows of one TIFF page: positioned reads, imagecodecs decoding, a cache of decoded tiles.

tifffile parses the page and builds its decode function (which picks the codec and its colour
handling, so that pixels are tifffile's bit for bit); nothing else of tifffile is on the way from
file to pixels, and no lock is held while decoding.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import tifffile

from napari_ood.errors import SlideError
from napari_ood.slides.backends.base import RGB, Level
from napari_ood.slides.backends.cache import TileCache
from napari_ood.slides.backends.files import PositionedFile
from napari_ood.slides.backends.pixels import Converter, Samples, ycbcr_to_rgb

JPEG_CODES = frozenset({6, 7, 34892, 33007})
APERIO_J2K_YCBCR = 33003
MAX_SEGMENT_BYTES = 512 * 2**20
DIRECT_SEGMENT_BYTES = 8 * 2**20
LARGE_WINDOW_PX = 2 * 1024**2
"""Larger windows are no display's: a run reads the slide through. Of their tiles only those at the
edges are wanted again, by the neighbour; the others would only drive them out of the cache."""
_JPEG_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class TiffPageReader:
    """Reads windows of one page as RGB; coordinates are those of the stored raster."""

    def __init__(
        self,
        page: tifffile.TiffPage,
        file: PositionedFile,
        cache: TileCache,
        convert: Converter,
    ) -> None:
        self.shape = (int(page.imagelength), int(page.imagewidth))
        self.tile = _segment_shape(page)
        self._file = file
        self._cache = cache
        self._convert = convert
        self._decode: Callable[..., Any] = page.decode
        self._offsets = page.dataoffsets
        self._counts = page.databytecounts
        self._compression = int(page.compression)
        self._keywords: dict[str, Any] = {}
        if self._compression in JPEG_CODES:
            self._keywords = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        self._columns = math.ceil(self.shape[1] / self.tile[1])
        rows = math.ceil(self.shape[0] / self.tile[0])
        self._n_segments = rows * self._columns
        self._n_planes = int(page.samplesperpixel) if page.planarconfig == 2 else 1
        itemsize = np.dtype(page.dtype).itemsize
        self._pixel_bytes = itemsize * (1 if page.planarconfig == 2 else int(page.samplesperpixel))
        self._dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
        self._is_raw = (
            self._compression == 1
            and page.predictor == 1
            and page.fillorder == 1
            and page.bitspersample in (8, 16, 32, 64)
        )
        segment_bytes = self.tile[0] * self.tile[1] * self._pixel_bytes
        self._direct = self._is_raw and segment_bytes > DIRECT_SEGMENT_BYTES
        if segment_bytes * self._n_planes > MAX_SEGMENT_BYTES and not self._direct:
            raise SlideError(
                f"it is stored in compressed pieces of {segment_bytes / 2**30:.1f} GiB, which must "
                "be decoded whole; convert it to a tiled pyramid (e.g. with vips or bfconvert)"
            )
        if min(len(self._offsets), len(self._counts)) < self._n_segments * self._n_planes:
            raise SlideError(
                f"it lists {min(len(self._offsets), len(self._counts))} of "
                f"{self._n_segments * self._n_planes} tiles or strips: it is damaged"
            )

    @property
    def level(self) -> Level:
        """Shape and codec tile shape."""
        return Level(self.shape, self.tile)

    def read(self, y: int, x: int, h: int, w: int) -> RGB:
        """Return the (h, w, 3) uint8 window, which must lie inside the page."""
        if self._direct:
            return self._read_direct(y, x, h, w)
        th, tw = self.tile
        out = np.empty((h, w, 3), np.uint8)
        is_large = h * w > LARGE_WINDOW_PX
        for row in range(y // th, (y + h - 1) // th + 1):
            for column in range(x // tw, (x + w - 1) // tw + 1):
                top, left = row * th, column * tw
                y0, y1 = max(y, top), min(y + h, top + th)
                x0, x1 = max(x, left), min(x + w, left + tw)
                target = out[y0 - y : y1 - y, x0 - x : x1 - x]
                keep = not is_large or (y1 - y0, x1 - x0) != self.tile
                tile = self._tile(row * self._columns + column, keep)
                if tile is None:
                    target[:] = 255
                    continue
                piece = tile[y0 - top : y1 - top, x0 - left : x1 - left]
                if piece.shape != target.shape:  # a codec tile cut short by its writer
                    target[:] = 255
                target[: piece.shape[0], : piece.shape[1]] = piece
        return out

    def _tile(self, index: int, keep: bool) -> RGB | None:
        key = (id(self), index)
        tile = self._cache.get(key)
        if tile is None:
            samples = self._samples(index)
            if samples is None:
                return None
            tile = self._convert(samples)
            if keep:
                self._cache.put(key, tile)
        return tile

    def _samples(self, index: int) -> Samples | None:
        """Decode one tile or strip to (h, w, samples); None where the file stores none."""
        planes = []
        for plane in range(self._n_planes):
            segment = index + plane * self._n_segments
            offset, count = self._offsets[segment], self._counts[segment]
            if offset <= 0 or count <= 0:
                return None
            data = self._file.read_at(offset, count)
            self._check_size(data)
            decoded, _, _ = self._decode(data, segment, **self._keywords)
            if self._compression == APERIO_J2K_YCBCR and not is_subsampled_j2k(data):
                decoded = ycbcr_to_rgb(decoded)
            planes.append(decoded[0])
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)

    def _check_size(self, data: bytes) -> None:
        """Refuse a tile whose own header claims a size that its page does not have.

        Codecs allocate what the header says: a damaged byte must not cost gigabytes.
        """
        size = encoded_size(data, self._compression)
        if size is not None and size[0] * size[1] > 4 * max(self.tile[0] * self.tile[1], 4096):
            raise SlideError(f"a tile claims to be {size[1]} x {size[0]} px: it is damaged")

    def value_range(self) -> tuple[float, float]:
        """Return the least and greatest value in (up to 64 evenly spread) tiles or strips."""
        low, high = math.inf, -math.inf
        for index in np.unique(np.linspace(0, self._n_segments - 1, 64).astype(int)):
            if self._direct:
                h, w = min(64, self.shape[0] % self.tile[0] or 64), min(self.tile[1], self.shape[1])
                samples = self._direct_samples(int(index), 0, 0, h, w)
            else:
                samples = self._samples(int(index))
            if samples is not None and np.isfinite(samples).any():
                finite = samples[np.isfinite(samples)]
                low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        return low, high

    def _read_direct(self, y: int, x: int, h: int, w: int) -> RGB:
        """Cut rows out of huge uncompressed strips or tiles without reading the rest of them."""
        th, tw = self.tile
        out = np.full((h, w, 3), 255, np.uint8)
        for row in range(y // th, (y + h - 1) // th + 1):
            for column in range(x // tw, (x + w - 1) // tw + 1):
                top, left = row * th, column * tw
                y0, y1 = max(y, top), min(y + h, top + th)
                x0, x1 = max(x, left), min(x + w, left + tw)
                samples = self._direct_samples(
                    row * self._columns + column, y0 - top, x0 - left, y1 - y0, x1 - x0
                )
                if samples is not None:
                    out[y0 - y : y1 - y, x0 - x : x1 - x] = self._convert(samples)
        return out

    def _direct_samples(self, index: int, y: int, x: int, h: int, w: int) -> Samples | None:
        planes = []
        row_bytes = self.tile[1] * self._pixel_bytes
        for plane in range(self._n_planes):
            segment = index + plane * self._n_segments
            if self._offsets[segment] <= 0 or self._counts[segment] <= 0:
                return None
            start = self._offsets[segment] + y * row_bytes + x * self._pixel_bytes
            rows = [
                self._file.read_at(start + i * row_bytes, w * self._pixel_bytes) for i in range(h)
            ]
            values = np.frombuffer(b"".join(rows), self._dtype).reshape(h, w, -1)
            planes.append(values.astype(self._dtype.newbyteorder("="), copy=False))
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)


def _segment_shape(page: tifffile.TiffPage) -> tuple[int, int]:
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return min(int(page.rowsperstrip), int(page.imagelength)), int(page.imagewidth)


def encoded_size(data: bytes, compression: int) -> tuple[int, int] | None:
    """Return the (h, w) that a JPEG or JPEG 2000 header states; None for other codecs."""
    if compression in JPEG_CODES:
        return _jpeg_size(data)
    if data[:4] == b"\xff\x4f\xff\x51" and len(data) >= 24:
        x1, y1, x0, y0 = struct.unpack(">IIII", data[8:24])
        return y1 - y0, x1 - x0
    return None


def is_subsampled_j2k(data: bytes) -> bool:
    """Tell from its SIZ marker whether a JPEG 2000 codestream has subsampled components.

    OpenJPEG takes those, and only those, for YCbCr and converts them to RGB itself (ISO 15444-1,
    A.5.1: after 38 + 4 bytes come 3 bytes per component, the last two are its subsampling).
    """
    n_components = int.from_bytes(data[40:42], "big")
    return any(max(data[43 + 3 * i : 45 + 3 * i], default=1) > 1 for i in range(n_components))


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Walk the JPEG markers to the frame header (ITU-T T.81, B.2.2)."""
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return height, width
        position += 2
        if marker not in _JPEG_NO_LENGTH and marker != 0xFF:
            position += int.from_bytes(data[position : position + 2], "big")
    return None
