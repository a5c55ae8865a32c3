"""Tiles with a changed appearance: what a laboratory can change without changing the tissue.

From the features of such tiles ``napari_ood.scores.invariant_whitening`` learns which directions
carry appearance. Only in-distribution tiles are ever changed; no OOD data is involved.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from napari_ood.training.cutting import Tiles, jpeg

Change = Callable[[NDArray[np.float64], np.random.Generator], NDArray[np.float64]]

STAIN_SCALE, STAIN_SHIFT, BRIGHTNESS = 0.35, 0.06, 0.1
MAX_SCALE = 1.3
"""Tiles are magnified by 1/1.3 … 1.3."""

BLUR_SIGMA_PX = (0.3, 1.3)
JPEG_QUALITY = (30, 95)
SHARPEN_RADIUS_PX, SHARPEN_PERCENT = (0.5, 3.0), (20, 150)
NOISE_LEVELS = (1.0, 8.0)
"""Standard deviation of a sensor's noise, in grey levels of 255."""

COLOUR_SHARE, SCALE_SHARE, NOISE_SHARE = 0.6, 0.6, 0.25
BLUR_SHARE, SHARPEN_SHARE = 0.5, 0.25
"""Shares of tiles that are changed in this way; every tile is compressed again."""

PHOTO_RANGE, PHOTO_GAMMA, PHOTO_LIGHT = 0.3, 1.4, 0.3
GREY = np.array([0.299, 0.587, 0.114])


def changed_tiles(tiles: Tiles, augment: str = "he", seed: int = 0) -> Tiles:
    """Change stain, scale, focus, noise and compression of each tile at random.

    Parameters
    ----------
    tiles : [N, t, t, 3] uint8
    augment : "he" or "photo"
        Amounts of stain for H&E; brightness, contrast, saturation, gamma and a gradient of light
        for photographs.
    seed : int
        The same seed changes the same tiles in the same way.

    Returns
    -------
    [N, t, t, 3] uint8

    Raises
    ------
    ValueError
        For an unknown kind of tiles.
    """
    if augment not in COLOUR_CHANGES:
        known = ", ".join(map(repr, COLOUR_CHANGES))
        raise ValueError(f"augment must be one of {known}, not {augment!r}")
    recolour = COLOUR_CHANGES[augment]
    # One generator per tile: how one is changed does not depend on how many there are.
    seeds = np.random.SeedSequence(seed).spawn(len(tiles))
    out = np.empty_like(tiles)
    for i, (tile, own) in enumerate(zip(tiles, seeds, strict=True)):
        out[i] = _changed(tile, recolour, np.random.default_rng(own))
    return out


def _changed(tile: Tiles, recolour: Change, rng: np.random.Generator) -> Tiles:
    if rng.random() < COLOUR_SHARE:
        rgb = recolour(tile.astype(np.float64) / 255, rng)
        tile = np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(tile)
    if rng.random() < SCALE_SHARE:
        image = _scaled(image, np.exp(rng.uniform(-1, 1) * np.log(MAX_SCALE)), rng)
    image = _refocused(image, rng)
    if rng.random() < NOISE_SHARE:
        image = _noisy(image, rng)
    quality = int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1))
    compressed: Tiles = jpeg(np.asarray(image)[None], quality)[0]
    return compressed


def _refocused(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blur, or sharpen as scanners do when they save, or neither."""
    kind = rng.random()
    if kind < BLUR_SHARE:
        return image.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR_SIGMA_PX)))
    if kind < BLUR_SHARE + SHARPEN_SHARE:
        radius, percent = rng.uniform(*SHARPEN_RADIUS_PX), round(rng.uniform(*SHARPEN_PERCENT))
        return image.filter(ImageFilter.UnsharpMask(radius, percent, threshold=0))
    return image


def _noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image) + rng.normal(0, rng.uniform(*NOISE_LEVELS), (*image.size[::-1], 3))
    return Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8))


def _scaled(image: Image.Image, factor: float, rng: np.random.Generator) -> Image.Image:
    """Magnify around the centre (factor > 1: cropped; below 1: shrunk, edges mirrored)."""
    side = image.width
    if factor >= 1:
        low = (side - side / factor) / 2
        box = (low, low, side - low, side - low)
        return image.resize((side, side), Image.Resampling.BICUBIC, box)
    # What shrinks a tile elsewhere may be an area filter or a sharper one.
    filters = (Image.Resampling.BICUBIC, Image.Resampling.BOX)
    small = max(1, round(side * factor))
    shrunk = np.asarray(image.resize((small, small), filters[int(rng.random() < 0.5)]))
    before = (side - small) // 2
    edges = (before, side - small - before)
    return Image.fromarray(np.pad(shrunk, (edges, edges, (0, 0)), mode="symmetric"))


def _other_stain(rgb: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Scale and shift the amounts of haematoxylin, eosin and rest (Tellez et al. 2018)."""
    from skimage.color import hed_from_rgb, rgb_from_hed

    scale = 1 + STAIN_SCALE * rng.uniform(-1, 1, 3)
    shift = STAIN_SHIFT * rng.uniform(-1, 1, 3)
    light = 1 + BRIGHTNESS * rng.uniform(-1, 1)
    density = -np.log((rgb * 255 + 1) / 256)
    density = (density @ hed_from_rgb * scale + shift) @ rgb_from_hed
    return np.asarray(np.exp(-density) * light)


def _other_camera(rgb: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Change gamma, saturation, contrast, brightness and the fall of light of a photograph."""
    brightness, contrast, saturation = 1 + PHOTO_RANGE * rng.uniform(-1, 1, 3)
    rgb = rgb ** np.exp(rng.uniform(-1, 1) * np.log(PHOTO_GAMMA))
    grey = (rgb @ GREY)[..., None]
    rgb = grey + saturation * (rgb - grey)
    rgb = rgb.mean() + contrast * (rgb - rgb.mean())
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.meshgrid(*(np.linspace(-0.5, 0.5, side) for side in rgb.shape[:2]), indexing="ij")
    slope = PHOTO_LIGHT * rng.uniform(0, 1) * (np.cos(angle) * x + np.sin(angle) * y)
    return np.asarray(rgb * brightness * (1 + slope[..., None]))


COLOUR_CHANGES: dict[str, Change] = {"he": _other_stain, "photo": _other_camera}
