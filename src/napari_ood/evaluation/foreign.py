"""Foreign tiles from disk, brought to a bundle's tile size and scale; changed tiles as controls.

In-distribution tiles here are JPEG of quality 75, 4:2:0, and compression is an easy cue. So tiles
that had to be resampled or padded are compressed again in that way; tiles that were cut out of a
larger JPEG are cut on its 16 px block grid and left alone.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter, features

from napari_ood.errors import OodError
from napari_ood.training.cutting import Tiles, cut, jpeg, resize

__all__ = ["MIN_GROUP", "Tiles", "controls", "cut", "jpeg", "read_manifest", "resize"]

MIN_GROUP = 10
JITTER = 0.25
NOISE = 6
"""Standard deviation of the noise, in grey levels."""


class ForeignTiles(NamedTuple):
    """Tiles ``[N, t, t, 3]`` uint8 and the image that each was cut from."""

    tiles: Tiles
    groups: tuple[str, ...]


def read_manifest(path: str | Path, tile: int, mpp: float | None) -> dict[str, ForeignTiles]:
    """Read foreign images, named by a CSV with columns path, set, kind, px, mpp, as tiles.

    Parameters
    ----------
    path : path of the CSV; image paths are relative to it
    tile : side of the tiles in px
    mpp : µm/px to bring images to whose own mpp is known; None leaves their scale alone

    Returns
    -------
    dict of str to ForeignTiles
        By set, up to four tiles per image; sets of several kinds or scales are split where each
        has at least ten images.
    """
    table = Path(path)
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise OodError(f"{table} cannot be read: {error}") from error
    parts: dict[str, list[Tiles]] = {}
    images: dict[str, list[str]] = {}
    names = _group_names(rows)
    for row, name in zip(rows, names, strict=True):
        own = float(row["mpp"]) if row["mpp"] else None
        with Image.open(table.parent / row["path"]) as image:
            pixels = image.convert("RGB")
        scale = own / mpp if own is not None and mpp is not None else 1.0
        tiles = cut(pixels, tile, scale)
        parts.setdefault(name, []).append(tiles)
        images.setdefault(name, []).extend([row["path"]] * len(tiles))
    return {n: ForeignTiles(np.concatenate(p), tuple(images[n])) for n, p in parts.items()}


def controls(tiles: Tiles, seed: int = 0) -> dict[str, Tiles]:
    """In-distribution tiles after changes that leave the tissue as it is.

    What a score says about these tells whether it sees tissue, or compression, scale, focus and
    stain. All end with a compression at quality 75, 4:2:0, those at another quality excepted.

    Compression, scale, blur, sharpening, noise and stain jitter are kinds of change that
    ``training.nuisance`` makes, too, in other amounts: ``invariant`` and ``invariant_knn`` have
    fitted their nuisance directions on them. Independent are colour fringes and, where Pillow has
    it, WebP, on which nothing was fitted; and gamma and uneven light, but for bundles of
    photographs (``augment="photo"``), whose nuisance directions know them.

    Parameters
    ----------
    tiles : [N, t, t, 3] uint8
    seed : of stain jitter and noise

    Returns
    -------
    dict of str to [N, t, t, 3] uint8
    """
    return _familiar(tiles, seed) | _independent(tiles, seed)


def _familiar(tiles: Tiles, seed: int) -> dict[str, Tiles]:
    return {
        "compressed again (q75)": jpeg(tiles),
        "compressed harder (q40)": jpeg(tiles, 40),
        "compressed less (q90)": jpeg(tiles, 90),
        "magnified 1.2 ×": _each(tiles, _magnified),
        "shrunk 0.83 × (edges mirrored)": _each(tiles, _shrunk),
        "blurred (σ 0.5 px)": _filtered(tiles, ImageFilter.GaussianBlur(0.5)),
        "blurred (σ 1 px)": _filtered(tiles, ImageFilter.GaussianBlur(1.0)),
        "sharpened (radius 2 px, 100 %)": _filtered(
            tiles, ImageFilter.UnsharpMask(radius=2, percent=100, threshold=0)
        ),
        f"noise (σ {NOISE})": jpeg(_noisy(tiles, seed)),
        f"stain jitter ±{JITTER:.0%}".replace("%", " %"): jpeg(_stain_jitter(tiles, seed)),
    }


def _independent(tiles: Tiles, seed: int) -> dict[str, Tiles]:
    found = {
        "gamma 0.8": jpeg(_gamma(tiles, 0.8)),
        "gamma 1.25": jpeg(_gamma(tiles, 1.25)),
        "uneven light (± 15 %)": jpeg(_unevenly_lit(tiles, 0.15)),
        "colour fringes (1 px)": jpeg(_fringed(tiles)),
    }
    if features.check("webp"):
        found["WebP (q50)"] = _each(tiles, _webp)
    return found


def _each(tiles: Tiles, change: Callable[[Image.Image], Image.Image]) -> Tiles:
    return jpeg(np.stack([np.asarray(change(Image.fromarray(tile))) for tile in tiles]))


def _filtered(tiles: Tiles, kernel: ImageFilter.Filter) -> Tiles:
    return _each(tiles, lambda image: image.filter(kernel))


def _gamma(tiles: Tiles, gamma: float) -> Tiles:
    table = np.rint((np.arange(256) / 255) ** gamma * 255).astype(np.uint8)
    return table[tiles]


def _unevenly_lit(tiles: Tiles, amount: float) -> Tiles:
    """Brighter at the left, darker at the right."""
    light = 1 + amount * np.linspace(1, -1, tiles.shape[2])[:, None]
    return np.rint(np.clip(tiles * light, 0, 255)).astype(np.uint8)


def _fringed(tiles: Tiles) -> Tiles:
    """Red a pixel to the left and blue one to the right of green: an objective's colour error."""
    out = tiles.copy()
    out[:, :, :-1, 0], out[:, :, 1:, 2] = tiles[:, :, 1:, 0], tiles[:, :, :-1, 2]
    return out


def _noisy(tiles: Tiles, seed: int) -> Tiles:
    noise = np.random.default_rng((seed, 1)).normal(0, NOISE, tiles.shape)
    return np.rint(np.clip(tiles + noise, 0, 255)).astype(np.uint8)


def _webp(image: Image.Image, quality: int = 50) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return Image.open(buffer).convert("RGB")


def _magnified(image: Image.Image, factor: float = 1.2) -> Image.Image:
    size = image.width
    inner = size / factor
    low = (size - inner) / 2
    box = (low, low, low + inner, low + inner)
    return image.resize((size, size), Image.Resampling.BICUBIC, box)


def _shrunk(image: Image.Image, factor: float = 0.83) -> Image.Image:
    size = image.width
    inner = max(1, round(size * factor))
    pixels = np.asarray(image.resize((inner, inner), Image.Resampling.BOX))
    before = (size - inner) // 2
    edge = (before, size - inner - before)
    return Image.fromarray(np.pad(pixels, [edge, edge, (0, 0)], mode="symmetric"))


def _stain_jitter(tiles: Tiles, seed: int) -> Tiles:
    """Scale haematoxylin and eosin of each tile by factors in 1 ± ``JITTER``."""
    from skimage.color import hed2rgb, rgb2hed

    rng = np.random.default_rng(seed)
    out = np.empty_like(tiles)
    for i, tile in enumerate(tiles):
        hed = rgb2hed(tile)
        hed[..., :2] *= rng.uniform(1 - JITTER, 1 + JITTER, 2)
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
