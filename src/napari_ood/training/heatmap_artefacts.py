"""Artefacts planted into tiles by code: the foreign examples that a heatmap decoder learns from.

What is planted here is different in kind from what decoders are judged on (ink, folds, blur, other
tissue, other stains such as DAB, photographs, cytology: ``napari_ood.evaluation.planted`` and the
foreign sets of the results). A decoder that only knows its training kinds by heart fails there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_ood.training.cutting import Tiles, jpeg

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Artefact = Callable[[Floats, Mask, np.random.Generator], Floats]

WHOLE_SHARE = 0.25
"""Share of the tiles that an artefact covers wholly."""

MIN_COVER, MAX_COVER = 0.05, 0.6
"""Of a tile, where an artefact covers a part."""

VISIBLE_LEVELS, VISIBLE_WITHIN_PX = 4, 7
"""An artefact lies where the mean change around is at least so many grey levels of 255."""


class Planted(NamedTuple):
    """Tiles with an artefact each.

    Attributes
    ----------
    tiles : [N, t, t, 3] uint8
    masks : [N, t, t] bool, where the artefact lies and is seen; empty where it changed nothing,
        such as a shuffled piece of empty glass
    kinds : [N] str
    """

    tiles: Tiles
    masks: NDArray[np.bool_]
    kinds: NDArray[np.str_]


def plant_artefacts(
    tiles: Tiles, seed: int = 0, kinds: tuple[str, ...] | None = None, recompress: bool = True
) -> Planted:
    """Plant one artefact of a random kind into each tile.

    Parameters
    ----------
    tiles : [N, t, t, 3] uint8
    seed : the same seed gives the same artefacts
    kinds : of ``ARTEFACTS``; None: all
    recompress : compress as JPEG of quality 75 afterwards, as the tiles around were; without it
        missing compression would give artefacts away

    Raises
    ------
    ValueError
        For an unknown kind.
    """
    chosen = tuple(ARTEFACTS) if kinds is None else kinds
    unknown = sorted(set(chosen) - set(ARTEFACTS))
    if unknown:
        raise ValueError(f"no artefact {unknown[0]!r}; there are {', '.join(ARTEFACTS)}")
    out, masks = np.empty_like(tiles), np.empty(tiles.shape[:3], bool)
    names = []
    # One generator per tile: what one gets does not depend on how many there are.
    for i, own in enumerate(np.random.SeedSequence(seed).spawn(len(tiles))):
        rng = np.random.default_rng(own)
        name = chosen[int(rng.integers(len(chosen)))]
        region = random_region(tiles.shape[1], rng, WHOLE_SHARE)
        changed = ARTEFACTS[name](tiles[i] / 255.0, region, rng)
        out[i] = np.where(region[..., None], to_uint8(changed), tiles[i])
        masks[i] = region & visible(tiles[i], out[i])
        names.append(name)
    return Planted(jpeg(out) if recompress else out, masks, np.array(names, np.str_))


def random_region(side: int, rng: np.random.Generator, whole_share: float = 0.0) -> Mask:
    """A blob that covers ``MIN_COVER`` to ``MAX_COVER`` of a tile, or all of it; [t, t] bool."""
    if rng.random() < whole_share:
        return np.ones((side, side), bool)
    field = ndimage.gaussian_filter(rng.standard_normal((side, side)), side / 6, mode="reflect")
    cover = rng.uniform(MIN_COVER, MAX_COVER)
    return np.asarray(field >= np.quantile(field, 1 - cover))


def visible(before: Tiles, after: Tiles) -> Mask:
    """Where a change of a tile can be seen; [t, t] bool for [t, t, 3] uint8."""
    change = np.abs(after.astype(np.float32) - before).max(axis=2)
    return np.asarray(ndimage.uniform_filter(change, VISIBLE_WITHIN_PX) >= VISIBLE_LEVELS)


def to_uint8(rgb: Floats) -> Tiles:
    """RGB in 0…1 as uint8."""
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)


def _stain_shift(rgb: Floats, mask: Mask, rng: np.random.Generator) -> Floats:
    """Far too much or too little haematoxylin or eosin: beyond what laboratories differ in."""
    from skimage.color import hed2rgb, rgb2hed

    hed = rgb2hed(rgb)
    factors = np.exp(rng.choice([-1, 1], 2) * rng.uniform(np.log(1.8), np.log(4), 2))
    hed[..., :2] *= np.where(rng.permutation([True, rng.random() < 0.5]), factors, 1.0)
    return np.asarray(hed2rgb(hed))


def _bubble(rgb: Floats, mask: Mask, rng: np.random.Generator) -> Floats:
    """Air under the cover glass: paler inside, a dark refracting rim."""
    depth = ndimage.distance_transform_edt(mask)
    width = rng.uniform(2, 5)
    rim = np.exp(-((depth / width) ** 2)) * rng.uniform(0.4, 0.9)
    pale = rgb + rng.uniform(0.3, 0.7) * (0.93 - rgb)
    return np.asarray(pale * (1 - rim[..., None]))


def _noise(rgb: Floats, mask: Mask, rng: np.random.Generator) -> Floats:
    """A sensor's noise, in colour or grey, coarse or fine."""
    side = len(rgb)
    step = int(rng.integers(1, 4))
    shape = (-(-side // step), -(-side // step), 3 if rng.random() < 0.5 else 1)
    field = rng.standard_normal(shape).repeat(step, 0).repeat(step, 1)[:side, :side]
    return np.asarray(rgb + rng.uniform(0.08, 0.3) * field)


def _scramble(rgb: Floats, mask: Mask, rng: np.random.Generator) -> Floats:
    """Small squares of the tile in another order: a broken file."""
    step = int(rng.choice([4, 6, 8]))
    n = len(rgb) // step
    inner = rgb[: n * step, : n * step]
    squares = inner.reshape(n, step, n, step, 3).swapaxes(1, 2).reshape(n * n, step, step, 3)
    mixed = squares[rng.permutation(n * n)].reshape(n, n, step, step, 3).swapaxes(1, 2)
    out = rgb.copy()
    out[: n * step, : n * step] = mixed.reshape(n * step, n * step, 3)
    return out


def _overexposed(rgb: Floats, mask: Mask, rng: np.random.Generator) -> Floats:
    """Too much light, or far too little."""
    gain = rng.uniform(1.3, 2.2) if rng.random() < 0.5 else rng.uniform(0.15, 0.5)
    return np.asarray(rgb * gain)


def _moire(rgb: Floats, mask: Mask, rng: np.random.Generator) -> Floats:
    """A regular pattern over the picture."""
    y, x = np.mgrid[: len(rgb), : len(rgb)]
    angle, period = rng.uniform(0, np.pi), rng.uniform(3, 10)
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
    if rng.random() < 0.5:
        wave = wave * np.sin(2 * np.pi * (y * np.cos(angle) - x * np.sin(angle)) / period)
    colour = rng.uniform(0.3, 1, 3) * rng.uniform(0.1, 0.3)
    return np.asarray(rgb + wave[..., None] * colour)


def _compression(rgb: Floats, mask: Mask, rng: np.random.Generator) -> Floats:
    """JPEG of very low quality: blocks."""
    return np.asarray(jpeg(to_uint8(rgb)[None], int(rng.integers(2, 11)))[0] / 255.0)


def _negative(rgb: Floats, mask: Mask, rng: np.random.Generator) -> Floats:
    """Inverted, or with its channels swapped."""
    if rng.random() < 0.5:
        return 1 - rgb
    order = [(1, 0, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1), (0, 2, 1)][int(rng.integers(5))]
    return rgb[..., order]


def _stitching(rgb: Floats, mask: Mask, rng: np.random.Generator) -> Floats:
    """Strips of the picture that don't meet."""
    swapped = rng.random() < 0.5
    out = (rgb.swapaxes(0, 1) if swapped else rgb).copy()
    step = int(rng.integers(4, 13))
    for start in range(0, len(out), step):
        out[start : start + step] = np.roll(
            out[start : start + step], int(rng.integers(5, len(out) // 2)), axis=1
        )
    return out.swapaxes(0, 1) if swapped else out


def _dust(rgb: Floats, mask: Mask, rng: np.random.Generator) -> Floats:
    """Grains and bright specks."""
    share = rng.uniform(0.03, 0.15)
    grains = ndimage.gaussian_filter(rng.standard_normal(mask.shape), rng.uniform(0.6, 1.6))
    here = (grains > np.quantile(grains, 1 - share))[..., None]
    return np.where(here, rng.uniform(0, 0.25) if rng.random() < 0.6 else 1.0, rgb)


ARTEFACTS: dict[str, Artefact] = {
    "stain shift": _stain_shift,
    "bubble": _bubble,
    "noise": _noise,
    "scramble": _scramble,
    "exposure": _overexposed,
    "moire": _moire,
    "compression": _compression,
    "negative": _negative,
    "stitching": _stitching,
    "dust": _dust,
}
"""Kinds of artefacts by name: ``f(rgb [t, t, 3] in 0…1, mask [t, t], rng) -> [t, t, 3]``, of which
the part under the mask is used."""
