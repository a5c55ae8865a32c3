"""Foreign tiles from disk, brought to a bundle's tile size and scale; changed tiles as controls.

In-distribution tiles here are JPEG of quality 75, 4:2:0, and compression is an easy cue. So tiles
that had to be resampled or padded are compressed again in that way; tiles that were cut out of a
larger JPEG are cut on its 16 px block grid and left alone.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from napari_ood.errors import OodError
from napari_ood.training.cutting import Tiles, cut, jpeg, resize

__all__ = ["MIN_GROUP", "Tiles", "controls", "cut", "jpeg", "read_manifest", "resize"]

MIN_GROUP = 10


def read_manifest(path: str | Path, tile: int, mpp: float | None) -> dict[str, Tiles]:
    """Read foreign images, named by a CSV with columns path, set, kind, px, mpp, as tiles.

    Parameters
    ----------
    path : path of the CSV; image paths are relative to it
    tile : side of the tiles in px
    mpp : µm/px to bring images to whose own mpp is known; None leaves their scale alone

    Returns
    -------
    dict of str to [N, tile, tile, 3] uint8
        By set; sets of several kinds or scales are split where each has at least ten images.
    """
    table = Path(path)
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise OodError(f"{table} cannot be read: {error}") from error
    groups: dict[str, list[Tiles]] = {}
    names = _group_names(rows)
    for row, name in zip(rows, names, strict=True):
        own = float(row["mpp"]) if row["mpp"] else None
        with Image.open(table.parent / row["path"]) as image:
            pixels = image.convert("RGB")
        scale = own / mpp if own is not None and mpp is not None else 1.0
        groups.setdefault(name, []).append(cut(pixels, tile, scale))
    return {name: np.concatenate(parts) for name, parts in groups.items()}


def controls(tiles: Tiles, seed: int = 0) -> dict[str, Tiles]:
    """In-distribution tiles after changes that leave the tissue as it is.

    What a score says about these tells whether it sees tissue, or compression, scale, focus and
    stain.
    """
    rng = np.random.default_rng(seed)
    size = tiles.shape[1]

    def each(change: Callable[[Image.Image], Image.Image]) -> Tiles:
        return jpeg(np.stack([np.asarray(change(Image.fromarray(tile))) for tile in tiles]))

    def magnified(image: Image.Image) -> Image.Image:
        inner = round(size / 1.2)
        low = (size - inner) // 2
        box = (low, low, low + inner, low + inner)
        return image.resize((size, size), Image.Resampling.BICUBIC, box)

    return {
        "compressed again (q75)": jpeg(tiles),
        "compressed harder (q40)": jpeg(tiles, 40),
        "magnified 1.2 ×": each(magnified),
        "blurred (σ 1 px)": each(lambda image: image.filter(ImageFilter.GaussianBlur(1))),
        "stain jitter": jpeg(_stain_jitter(tiles, rng)),
    }


def _stain_jitter(tiles: Tiles, rng: np.random.Generator) -> Tiles:
    """Scale haematoxylin and eosin of each tile by factors in 0.75…1.25."""
    from skimage.color import hed2rgb, rgb2hed

    out = np.empty_like(tiles)
    for i, tile in enumerate(tiles):
        hed = rgb2hed(tile)
        hed[..., :2] *= rng.uniform(0.75, 1.25, 2)
        out[i] = np.round(hed2rgb(hed) * 255)
    return out


def _group_names(rows: list[dict[str, str]]) -> list[str]:
    """Name of each row's group: its set, with kind and mpp where the set has several of ten."""
    names = [row["set"] for row in rows]
    for key, suffix in (("kind", ""), ("mpp", " µm/px")):
        values = [row[key].rpartition(":")[2].partition(" ")[0] for row in rows]
        finer = [f"{n} {v}{suffix}" if v else n for n, v in zip(names, values, strict=True)]
        counts = Counter(finer)
        parts: dict[str, set[str]] = {}
        for name, part in zip(names, finer, strict=True):
            parts.setdefault(name, set()).add(part)
        split = {
            n for n, p in parts.items() if len(p) > 1 and min(counts[f] for f in p) >= MIN_GROUP
        }
        names = [f if n in split else n for n, f in zip(names, finer, strict=True)]
    return names
