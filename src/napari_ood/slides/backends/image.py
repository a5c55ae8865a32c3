"""PNG, JPEG, WebP and BMP: decoded whole into memory at first use (dermoscopy, single fields)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

from napari_ood.errors import SlideError
from napari_ood.slides.backends.base import RGB, LazyImages, Level, SlideInfo
from napari_ood.slides.backends.pixels import to_rgb, turn_of, turned
from napari_ood.slides.backends.tiff_meta import plausible

MAX_PIXELS = 400_000_000  # 1.2 GB as RGB
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_MAGIC = {_PNG_MAGIC: "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP"}
_TILE_PX = 512
_ORIENTATION = 0x0112


def image_format(magic: bytes) -> str | None:
    """Return PNG, JPEG, WEBP or BMP from the first 16 bytes of a file, else None."""
    if magic[:4] == b"RIFF" and magic[8:12] == b"WEBP":
        return "WEBP"
    return next((name for start, name in _MAGIC.items() if magic.startswith(start)), None)


class ImageBackend:
    """One image, upright by its EXIF orientation, decoded at the first read and kept."""

    def __init__(self, path: Path, format_name: str) -> None:
        self._path = path
        self._format = format_name
        self._lock = threading.Lock()
        self._pixels: RGB | None = None
        self._is_closed = False
        with _open_image(path, format_name) as image:
            width, height = image.size
            mpp = _mpp(image)
            if turn_of(image.getexif().get(_ORIENTATION))[0]:
                width, height = height, width
                mpp = None if mpp is None else mpp[::-1]
        if width * height > MAX_PIXELS:
            raise SlideError(
                f"it has {width} x {height} px, too many to hold in memory; "
                "convert it to a tiled TIFF"
            )
        self.info = SlideInfo(
            format=format_name,
            reader="pillow",
            levels=(Level((height, width), (min(_TILE_PX, height), min(_TILE_PX, width))),),
            mpp=mpp,
            files=(path,),
            vendor="generic",
        )
        self.associated = LazyImages({})

    def read(self, level: int, y: int, x: int, h: int, w: int) -> RGB:
        """Return the (h, w, 3) uint8 window."""
        with self._lock:
            if self._is_closed:
                raise SlideError("the slide was closed; open it again")
            if self._pixels is None:
                self._pixels = _decode(self._path, self._format)
            pixels = self._pixels
        return pixels[y : y + h, x : x + w].copy()

    def close(self) -> None:
        """Free the pixels."""
        with self._lock:
            self._is_closed = True
            self._pixels = None


def _open_image(path: Path, format_name: str) -> Any:
    """Open lazily. PNG and JPEG go to their plugin: ``Image.open`` refuses large images."""
    from PIL import JpegImagePlugin, PngImagePlugin

    plugins = {"JPEG": JpegImagePlugin.JpegImageFile, "PNG": PngImagePlugin.PngImageFile}
    try:
        if format_name in plugins:
            return plugins[format_name](path)
        return Image.open(path, formats=[format_name])
    except Exception as error:
        raise SlideError(f"its {format_name} header is damaged ({error})") from error


def _decode(path: Path, format_name: str) -> RGB:
    with _open_image(path, format_name) as image:
        turn = turn_of(image.getexif().get(_ORIENTATION))
        if _is_16_bit_png(path):  # Pillow would drop the low bits
            samples = imagecodecs.png_decode(path.read_bytes())
            rgb = to_rgb(samples if samples.ndim == 3 else samples[..., None], 65535)
        else:
            samples = np.asarray(_with_plain_mode(image))
            rgb = to_rgb(samples if samples.ndim == 3 else samples[..., None])
    return turned(rgb, turn)


def _is_16_bit_png(path: Path) -> bool:
    with path.open("rb") as file:
        header = file.read(25)
    return header.startswith(_PNG_MAGIC) and header[24] == 16  # IHDR: bit depth


def _with_plain_mode(image: Any) -> Any:
    """Return the image as L, LA, RGB or RGBA; palettes and transparent colours are resolved."""
    if "transparency" in image.info or image.mode == "PA":
        return image.convert("RGBA")
    return image if image.mode in ("L", "LA", "RGB", "RGBA") else image.convert("RGB")


def _mpp(image: Any) -> tuple[float, float] | None:
    """µm/px from the stored density, when it is one of a microscope and not of a printer."""
    density = image.info.get("dpi")
    if not density or min(density) <= 0:
        return None
    return plausible((25400 / float(density[1]), 25400 / float(density[0])))
