"""What blur and another scale do to the spectra of a bundle's own tiles, as a linear rule.

How much finest structure tiles have, and how much of it is noise of compression, differs between
kinds of images: a rule that was learnt on one misjudges the other. So each reference has its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from napari_ood.explain.grain import GRAINS
from napari_ood.slides.spectrum import tile_spectrum
from napari_ood.training.cutting import Tiles, jpeg

Change = Callable[[Image.Image, np.random.Generator], Image.Image]

TILES = 400
BLUR_SIGMA_PX, BOX_RADIUS_PX = (0.8, 7.0), (1.0, 6.0)
SCALE = (1.7, 2.5)
"""Tiles are magnified or shrunk by these factors; less can't be told from other tissue."""
JPEG_QUALITY = (60, 90)
NEVER = -1e4
"""Bias of a class that nothing belongs to."""


def fit_grain(tiles: Tiles, scales: bool = True, seed: int = 0) -> NDArray[np.float32]:
    """Fit the rule of ``napari_ood.explain.grain`` to copies of tiles, blurred and resized.

    Parameters
    ----------
    tiles : [N, t, t, 3] uint8, the reference's training tiles
    scales : whether a scale means anything; False for photographs of whole lesions
    seed : int

    Returns
    -------
    [4, B + 1] float32, weights of the bands and a bias per class of ``GRAINS``, for differences
    from the mean spectrum of ``tiles``
    """
    from sklearn.linear_model import LogisticRegression

    mean = tile_spectrum(tiles).mean(axis=0, dtype=np.float64)
    rng = np.random.default_rng(seed)
    chosen = tiles[np.sort(rng.permutation(len(tiles))[:TILES])]
    changes: list[tuple[str, Change]] = [("usual", _as_it_is), ("blurred", _blurred)]
    if scales:
        changes += [("magnified", _magnified), ("shrunk", _shrunk)]
    x, y = [tile_spectrum(chosen) - mean], [np.full(len(chosen), GRAINS.index("usual"))]
    for name, change in changes:
        x.append(tile_spectrum(_changed(chosen, change, rng)) - mean)
        y.append(np.full(len(chosen), GRAINS.index(name)))
    rule = LogisticRegression(max_iter=5000, class_weight="balanced")
    rule.fit(np.concatenate(x), np.concatenate(y))
    weights, bias = rule.coef_, rule.intercept_
    if len(rule.classes_) == 2:  # one row says it all: of the second class against the first
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    out = np.zeros((len(GRAINS), weights.shape[1] + 1), np.float32)
    out[:, -1] = NEVER
    out[rule.classes_] = np.concatenate([weights, bias[:, None]], axis=1)
    return out


def _changed(tiles: Tiles, change: Change, rng: np.random.Generator) -> Tiles:
    out = np.empty_like(tiles)
    for i, tile in enumerate(tiles):
        image = np.asarray(change(Image.fromarray(tile), rng))
        low, high = JPEG_QUALITY
        out[i] = jpeg(image[None], int(rng.integers(low, high + 1)))[0]
    return out


def _as_it_is(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image


def _blurred(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A Gauss filter, whose end is soft, or a box filter, whose end is as hard as defocus has."""
    if rng.random() < 0.5:
        low, high = np.log(BLUR_SIGMA_PX)
        return image.filter(ImageFilter.GaussianBlur(float(np.exp(rng.uniform(low, high)))))
    return image.filter(ImageFilter.BoxBlur(float(rng.uniform(*BOX_RADIUS_PX))))


def _magnified(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = image.width
    inner = side / rng.uniform(*SCALE)
    y, x = rng.uniform(0, side - inner, 2)
    filters = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)
    box = (float(x), float(y), float(x + inner), float(y + inner))
    return image.resize((side, side), filters[int(rng.integers(3))], box)


def _shrunk(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Smaller, the edges mirrored."""
    side = image.width
    inner = round(side / rng.uniform(*SCALE))
    small = np.asarray(image.resize((inner, inner), Image.Resampling.BOX))
    before = (side - inner) // 2
    edge = (before, side - inner - before)
    return Image.fromarray(np.pad(small, [edge, edge, (0, 0)], mode="symmetric"))
