"""Large slides for benchmarks, made in seconds: drawn tissue, real JPEG tiles, an oval of tissue.

One section is drawn and cut into codec tiles, which are turned and mirrored, encoded once (4:2:0,
quality 88) and then laid out as they are: the file is as large, and each tile as hard to decode, as
if all of it had been drawn. Levels 1, 4, 16, as Aperio writes them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

CODEC_TILE = 256
QUALITY = 88
DRAWN_PX = 2048
TISSUE_SHARE = 0.37
"""Of the slide's area; an oval in its middle."""
LEVELS = (1, 4, 16)

Tile = NDArray[np.uint8]


def made_slide(side: int, mpp: float = 0.5, folder: Path | None = None) -> Path:
    """Path of a slide of ``side`` px; kept in a temporary folder and made only once."""
    folder = folder or Path(tempfile.gettempdir()) / "napari-ood-benchmark"
    folder.mkdir(exist_ok=True)
    path = folder / f"made-{side}-{mpp:g}.tif"
    if not path.exists():
        partial = path.with_suffix(".partial")
        write_slide(partial, side, mpp)
        partial.rename(path)
    return path


def write_slide(path: Path, side: int, mpp: float) -> None:
    """Write the pyramid."""
    layout = _layout(side)
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for factor in LEVELS:
            size = -(-side // factor)
            tif.write(
                _encoded(layout, factor, size),
                shape=(size, size, 3),
                dtype=np.uint8,
                tile=(CODEC_TILE, CODEC_TILE),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                subfiletype=int(factor > 1),
                resolution=(1e4 / mpp / factor, 1e4 / mpp / factor),
                resolutionunit="CENTIMETER",
            )


def _layout(side: int) -> NDArray[np.int64]:
    """Which drawn tile lies where; -1 is glass."""
    n = -(-side // CODEC_TILE)
    middle = (np.arange(n) + 0.5) * CODEC_TILE / side - 0.5
    # The oval's half axes a > b: area π·a·b.
    a = 0.45
    b = TISSUE_SHARE / np.pi / a
    inside = (middle[None, :] / a) ** 2 + (middle[:, None] / b) ** 2 < 1
    chosen = np.random.default_rng(0).integers(0, len(_tissue_tiles()), (n, n))
    return np.where(inside, chosen, -1)


@cache
def _tissue_tiles() -> list[Tile]:
    """Tiles of a drawn section that are full of tissue, in their eight orientations."""
    from napari_ood.samples.slide_file import describe, draw

    pixels = draw(describe(DRAWN_PX, 7, False))
    starts = range(0, DRAWN_PX, CODEC_TILE)
    cut = [pixels[y : y + CODEC_TILE, x : x + CODEC_TILE] for y in starts for x in starts]
    full = [tile for tile in cut if (tile.min(axis=2) < 215).mean() > 0.9]
    turned = [np.rot90(tile, k) for tile in full for k in range(4)]
    return [np.ascontiguousarray(t) for tile in turned for t in (tile, tile[::-1])]


@cache
def _glass() -> Tile:
    noise = np.random.default_rng(1).normal(0, 1.3, (CODEC_TILE, CODEC_TILE, 3))
    return np.clip(np.array([243, 242, 244]) + noise, 0, 255).astype(np.uint8)


def _encode(tile: Tile) -> bytes:
    return bytes(
        imagecodecs.jpeg8_encode(
            tile, level=QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling="420"
        )
    )


def _encoded(layout: NDArray[np.int64], factor: int, size: int) -> Iterator[bytes]:
    if factor == 1:
        codes: dict[int, bytes] = {i: _encode(t) for i, t in enumerate(_tissue_tiles())}
        codes[-1] = _encode(_glass())
        yield from (codes[int(i)] for i in layout.ravel())
        return
    small = _shrunken(factor)
    part = CODEC_TILE // factor  # what a level-0 tile covers here
    n = -(-size // CODEC_TILE)
    for row in range(n):
        for col in range(n):
            yield _encode(_mosaic(layout, row * factor, col * factor, factor, part, small))


def _mosaic(
    layout: NDArray[np.int64], top: int, left: int, n: int, part: int, small: Callable[[int], Tile]
) -> Tile:
    out = np.full((CODEC_TILE, CODEC_TILE, 3), 255, np.uint8)
    for i, ids in enumerate(layout[top : top + n, left : left + n]):
        for j, tile in enumerate(ids):
            out[i * part : (i + 1) * part, j * part : (j + 1) * part] = small(int(tile))
    return out


def _shrunken(factor: int) -> Callable[[int], Tile]:
    @cache
    def small(index: int) -> Tile:
        tile = _glass() if index < 0 else _tissue_tiles()[index]
        side = CODEC_TILE // factor
        cells = tile.reshape(side, factor, side, factor, 3)
        return np.asarray(cells.mean(axis=(1, 3)) + 0.5, np.uint8)

    return small
