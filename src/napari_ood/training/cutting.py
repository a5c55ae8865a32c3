"""Images brought to tiles of one size and scale: cut, scaled by area, compressed again (no torch).

Compression is an easy cue for a detector. So a tile that had to be resampled out of a JPEG is
compressed again as most tile collections are (quality 75, 4:2:0), and a tile that is cut out of a
larger JPEG is cut on its 16 px block grid and left alone.
"""

from __future__ import annotations

import io
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Tiles = NDArray[np.uint8]
JPEG_QUALITY, MCU = 75, 16
TILES_PER_SIDE = 2
"""Four tiles per image: more would let a few large photographs speak for a whole set."""

SAME_SCALE = 0.05
"""Scales that differ by less are one scale: nothing is resampled for it."""


class Change(IntEnum):
    """What happened to an image on its way to a tile."""

    NONE = 0
    CUT = 1
    SCALED = 2
    RESIZED = 3


def cut(
    image: Image.Image,
    tile: int,
    scale: float = 1.0,
    per_side: int = TILES_PER_SIDE,
    recompress: bool = True,
) -> Tiles:
    """Cut tiles from around the centre of an RGB image, after scaling it.

    Parameters
    ----------
    image : PIL image in mode RGB
    tile : side of the tiles in px
    scale : the image's mpp over the wanted mpp
        Below 1 the image shrinks (area filter), within 5 % of 1 it is left alone.
    per_side : at most so many tiles side by side, and above one another
    recompress : compress tiles again that were scaled or padded

    Returns
    -------
    [n, tile, tile, 3] uint8
        At least one tile: sides shorter than a tile are mirrored.
    """
    changed = abs(scale - 1) > SAME_SCALE
    if changed:
        size = [max(1, round(side * scale)) for side in image.size]
        image = image.resize((size[0], size[1]), area_filter(scale))
    pixels = np.asarray(image)
    if min(pixels.shape[:2]) < tile:
        changed = True
        wanted = [max(0, tile - side) for side in pixels.shape[:2]]
        padding = [(w // 2, w - w // 2) for w in wanted]
        pixels = np.pad(pixels, [*padding, (0, 0)], mode="symmetric")
    step = 1 if changed else MCU
    rows, columns = (_starts(side, tile, step, per_side) for side in pixels.shape[:2])
    tiles = np.stack([pixels[y : y + tile, x : x + tile] for y in rows for x in columns])
    return jpeg(tiles) if changed and recompress else tiles


def resize(images: Tiles, tile: int) -> Tiles:
    """Resize square images as a whole (area filter) and compress them; for sets without an mpp."""
    return jpeg(np.stack([resize_whole(Image.fromarray(image), tile) for image in images]))


def resize_whole(image: Image.Image, tile: int) -> NDArray[np.uint8]:
    """Resize an RGB image to ``[tile, tile, 3]`` uint8; one that is not square gets squeezed."""
    scale = tile / min(image.size)
    return np.asarray(image.resize((tile, tile), area_filter(scale)))


def area_filter(scale: float) -> Image.Resampling:
    """Area filter to shrink; to magnify, where areas would show as squares, a cubic one."""
    return Image.Resampling.BOX if scale <= 1 else Image.Resampling.BICUBIC


def jpeg(tiles: Tiles, quality: int = JPEG_QUALITY) -> Tiles:
    """Compress and decompress each tile, 4:2:0."""
    out = np.empty_like(tiles)
    for i, tile in enumerate(tiles):
        buffer = io.BytesIO()
        Image.fromarray(tile).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
        out[i] = np.asarray(Image.open(buffer))
    return out


def to_tile(
    image: Image.Image, tile: int, scale: float | None, recompress: bool
) -> tuple[NDArray[np.uint8], Change]:
    """Bring an RGB image to one tile ``[tile, tile, 3]`` uint8, and say how.

    ``scale`` is the image's mpp over the wanted one, None where either is unknown.
    """
    same_size = image.size == (tile, tile)
    if scale is None:
        if same_size:
            return np.asarray(image), Change.NONE
        whole = resize_whole(image, tile)
        return jpeg(whole[None])[0] if recompress else whole, Change.RESIZED
    scaled = abs(scale - 1) > SAME_SCALE or min(image.size) < tile
    if same_size and not scaled:
        return np.asarray(image), Change.NONE
    pixels = cut(image, tile, scale, per_side=1, recompress=recompress)[0]
    return pixels, Change.SCALED if scaled else Change.CUT


def _starts(side: int, tile: int, step: int, at_most: int) -> list[int]:
    """Starts of tiles side by side around the centre, on multiples of ``step``."""
    n = min(at_most, side // tile)
    first = (side - n * tile) // 2 // step * step
    return [first + i * tile for i in range(n)]
