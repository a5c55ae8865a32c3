"""Image files to RGB tiles, in threads (no torch)."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from napari_ood.errors import OodError
from napari_ood.training.cutting import Change, Tiles, to_tile

HARMLESS_MODES = ("RGB", "L", "1", "P", "LA", "PA", "RGBA", "RGBX", "YCbCr")
"""Modes that become 8-bit RGB without a choice that the user should make."""

CHUNK = 64
"""Files per task: so few that threads end together, so many that tasks cost nothing."""


@dataclass(frozen=True)
class ReadTiles:
    """Tiles and what was done to make them.

    Attributes
    ----------
    tiles : [N, t, t, 3] uint8
    changes : [N] uint8, values of ``Change``
    """

    tiles: Tiles
    changes: NDArray[np.uint8]

    def count(self, change: Change) -> int:
        """How many tiles went through this change."""
        return int((self.changes == change).sum())

    def summary(self) -> str:
        """Say in a few words what was done to how many tiles; "" when nothing was."""
        said = {
            Change.CUT: "cut around their centre",
            Change.SCALED: "scaled by their mpp and cut around their centre",
            Change.RESIZED: "resized as a whole, as their size differs and their mpp is unknown",
        }
        n = len(self.tiles)
        counts = {text: self.count(change) for change, text in said.items()}
        return "; ".join(f"{k:,} of {n:,} images {text}" for text, k in counts.items() if k)


def decode(
    paths: Sequence[Path],
    tile: int,
    scales: Sequence[float | None] | None = None,
    recompress: float = 1.0,
) -> ReadTiles:
    """Read images as tiles.

    Parameters
    ----------
    paths : image files
    tile : side of the tiles in px
    scales : per file its mpp over the wanted mpp, None where unknown
    recompress : share of the tiles resampled out of a JPEG that are compressed again; taken evenly
        over the files, and the same ones each time

    Raises
    ------
    OodError
        Names the first file that is no image, is damaged, or whose pixels would need a choice to
        become 8-bit RGB.
    """
    Image.preinit()  # once, not in every thread
    if scales is None:
        scales = [None] * len(paths)
    tiles = np.empty((len(paths), tile, tile, 3), np.uint8)
    changes = np.zeros(len(paths), np.uint8)

    def read(start: int) -> None:
        for i in range(start, min(start + CHUNK, len(paths))):
            image, compressed = open_rgb(paths[i])
            again = compressed and math.floor((i + 1) * recompress) > math.floor(i * recompress)
            tiles[i], changes[i] = to_tile(image, tile, scales[i], recompress=again)

    with ThreadPoolExecutor(min(8, max(2, os.cpu_count() or 2))) as pool:
        try:
            list(pool.map(read, range(0, len(paths), CHUNK)))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # one bad file: don't read the other thousands
            raise
    return ReadTiles(tiles, changes)


def open_rgb(path: Path) -> tuple[Image.Image, bool]:
    """Read an image file as 8-bit RGB; also tell whether it is a JPEG.

    Grey becomes RGB, a palette is looked up, what is transparent becomes white as glass is.

    Raises
    ------
    OodError
        If the file is missing, empty, damaged, no image, a stack, CMYK, or not of 8 bits.
    """
    try:
        with Image.open(path) as image:
            reason = _refusal(image)
            rgb = None if reason else _to_rgb(image)
            compressed = image.format in ("JPEG", "MPO")
    except Image.DecompressionBombError:
        raise OodError(f"{path} is far too large for a tile: cut it into tiles first") from None
    except Exception as error:  # Pillow raises all sorts on damaged files
        raise OodError(f"{path} {_why(path, error)}") from error
    if rgb is None:
        raise OodError(f"{path} {reason}")
    return rgb, compressed


def _refusal(image: Image.Image) -> str:
    """Why an opened image can't become a tile without a choice; "" if it can."""
    if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        return "has several pages: a slide or a stack is no tile, so cut it into tiles first"
    # Pillow says RGB of a 16-bit RGB file, too, and would keep the upper 8 bits.
    stored = str([entry[3] for entry in getattr(image, "tile", [])])
    if image.mode in ("I", "F") or ";16" in image.mode + stored:
        return "has more than 8 bits per channel: convert it to 8-bit RGB, all images alike"
    if image.mode not in HARMLESS_MODES:
        return f"has colour mode {image.mode}: convert it to 8-bit RGB"
    return ""


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if path.is_file() and path.stat().st_size == 0:
        return "is an empty file: remove it or fetch it again"
    if isinstance(error, UnidentifiedImageError):
        return "is no image that can be read: PNG, JPEG, TIFF and BMP of 8-bit RGB can"
    return f"cannot be read as an image, is it damaged? ({error})"
