"""Checks of what a sample of tissue tiles looks like: stain, focus, pen, folds; and how much of it.

The limits were set on real and procedural slides; docs/passport.md says how often they are right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.passport.check import Check, Light, percent
from napari_ood.slides.appearance import STATISTICS

if TYPE_CHECKING:
    from napari_ood.models import Card
    from napari_ood.passport.sample import TileSample

Floats = NDArray[np.float32]

STAIN: dict[str, str] = {
    "haematoxylin_mean": "haematoxylin",
    "eosin_mean": "eosin",
    "density_mean": "staining strength",
    "chroma_x": "hue (red)",
    "chroma_y": "hue (green–blue)",
    "saturation_mean": "saturation",
    "brightness_mean": "brightness",
}
STAIN_TAIL = 0.01
STAIN_YELLOW, STAIN_RED = 0.15, 0.40
"""Share of tiles beyond the training tiles' 1st or 99th percentile, of the statistic that is worst;
2 % would be usual, and 3 to 9 % were found on samples of one centre of a bundle trained on two."""
BLUR_QUANTILE = 0.01
"""Tiles less sharp than this share of training tiles are called blurred."""
BLUR_BELOW = 1.0
"""Tiles with a tenth (10^−1) of the slide's median Laplacian variance are blurred as well."""
BLUR_YELLOW, BLUR_RED = 0.05, 0.25
INK_CELLS = 0.1
"""Share of a tile in the colour of ink, from which it is called inked."""
INK_YELLOW, INK_RED = 0.04, 0.25
FOLD_FENCE = 1.5
"""Tukey's fence: a tile lies this many interquartile ranges above the slide's upper quartile."""
FOLD_YELLOW, FOLD_RED = 0.02, 0.20
LITTLE_TISSUE = 20
"""Tiles below which shares and medians say little."""
GLASSY = 0.8
"""Tiles with more glass than this are too empty to tell sharp from blurred, or folded from flat."""


def check_tissue(sample: TileSample) -> Check:
    """How much tissue there is."""
    key, title = "tissue", "Tissue"
    if sample.whole_image:
        words = "The bundle judges the image as a whole; tissue is not looked for."
        return Check(key, title, Light.GREEN, "whole image", words)
    area = sample.area_mm2
    value = f"{sample.n_tissue:,} tiles" if area is None else f"{area:,.3g} mm²"
    numbers: dict[str, float | str] = {"n_tissue_tiles": sample.n_tissue}
    if area is not None:
        numbers["area_mm2"] = area
    if not sample.n_tissue:
        words = "No tissue was found. Check that it is the right slide, not a label or empty glass."
        return Check(key, title, Light.RED, value, words, numbers)
    if sample.n_tissue < LITTLE_TISSUE:
        words = f"Only {sample.n_tissue} tiles of tissue: shares and medians below say little."
        return Check(key, title, Light.YELLOW, value, words, numbers)
    return Check(key, title, Light.GREEN, value, f"{sample.n_tissue:,} tiles of tissue.", numbers)


def check_stain(sample: TileSample, reference: Floats | None, card: Card | None) -> Check:
    """Compare colours with those of the training tiles; ``reference`` is [n, S] or None."""
    key, title = "stain", "Stain"
    if not len(sample):
        return Check(key, title, Light.GREY, "not known", "There is no tissue to look at.")
    if reference is None:
        have = "Choose a bundle to compare it with."
        if card is not None:
            have = "The bundle does not store what its training tiles look like; train it anew."
            have += f" Its card says: {card.stain}." if card.stain else ""
        return Check(key, title, Light.GREY, "not compared", have, _medians(sample))
    tiles = sample.statistics[~inked(sample)]
    if not len(tiles):
        return Check(key, title, Light.GREY, "not known", "All of the tissue is under ink.")
    outside = {
        name: outside_share(_column(tiles, name), _column(reference, name)) for name in STAIN
    }
    worst = max(outside, key=lambda name: outside[name])
    share = outside[worst]
    value = f"{percent(share)} of tiles unlike training"
    numbers: dict[str, float | str] = {
        f"outside_{name}": amount for name, amount in outside.items()
    }
    numbers |= _medians(sample)
    light = _graded(sample, share, STAIN_YELLOW, STAIN_RED)
    if light is Light.GREEN:
        words = f"The {sample.words} have the colours of the training tiles."
        return Check(key, title, light, value, words, numbers)
    words = (
        f"Of {sample.words}, {percent(share)} have a {STAIN[worst]} beyond that of nearly all "
        "training tiles: another stain, laboratory or scanner. "
    )
    words += "After a run, the OOD map shows where." if light is Light.YELLOW else _DISTRUST
    return Check(key, title, light, value, words, numbers)


_DISTRUST = "Don't trust predictions; normalise the stain or use a bundle trained on such slides."


def check_focus(sample: TileSample, reference: Floats | None) -> Check:
    """Share of tiles that are blurred, against training and against the slide itself."""
    key, title = "focus", "Focus"
    seen = clear_tiles(sample)
    if not seen.any():
        return Check(key, title, Light.GREY, "not known", "There is no tissue to look at.")
    share = float(blurred(sample, blur_limit(sample, reference))[seen].mean())
    sharpness = float(np.median(sample.column("sharpness")[seen]))
    numbers: dict[str, float | str] = {"share_blurred": share, "median_sharpness": sharpness}
    value = f"{percent(share)} of tiles blurred"
    light = _graded(sample, share, BLUR_YELLOW, BLUR_RED)
    if light is not Light.GREEN:
        words = (
            f"Of {sample.words}, {percent(share)} are less sharp than nearly all training tiles or "
            "than the rest of the slide. Look at them; scan the slide again if it matters there."
        )
        return Check(key, title, light, value, words, numbers)
    if reference is None:
        if sample.whole_image:
            words = "One image says nothing without training images to compare with."
            return Check(key, title, Light.GREY, "not compared", words, numbers)
        words = "Sharpness is even over the slide. Blur of the whole slide would not show here."
        return Check(key, title, Light.GREEN, value, words, numbers)
    words = f"Among {sample.words}; about 1 % is usual."
    return Check(key, title, light, value, words, numbers)


def check_pen(sample: TileSample) -> Check:
    """Hint at ink: colours that no stain has."""
    key, title = "pen", "Pen marks"
    if not len(sample):
        return Check(key, title, Light.GREY, "not known", "There is no tissue to look at.")
    share = float(inked(sample).mean())
    advice = "have the colour of ink: green, blue, black or red. Leave these regions out."
    light = _graded(sample, share, INK_YELLOW, INK_RED)
    return _check_share(key, title, light, sample, {"share_inked": share}, advice)


def check_fold(sample: TileSample) -> Check:
    """Hint at folds: darker and more saturated than the rest of the slide."""
    key, title = "fold", "Folds"
    if len(sample) < LITTLE_TISSUE:
        words = "Too little tissue to tell a fold from the rest of it."
        return Check(key, title, Light.GREY, "not known", words)
    share = float(folded(sample, fold_limit(sample)).mean())
    advice = (
        "are far darker and more saturated than the rest: folds, thick tissue or pigment. Look at "
        "them before you believe what is said there."
    )
    light = _graded(sample, share, FOLD_YELLOW, FOLD_RED)
    return _check_share(key, title, light, sample, {"share_folded": share}, advice)


def _check_share(
    key: str, title: str, light: Light, sample: TileSample, share: dict[str, float], advice: str
) -> Check:
    """A share of the sample, by its name; ``advice`` says of it what it means, unless green."""
    ((name, amount),) = share.items()
    told = percent(amount, 1)
    words = f"Among {sample.words}."
    if light is not Light.GREEN:
        words = f"Of {sample.words}, {told} {advice}"
    return Check(key, title, light, f"{told} of tiles", words, {name: amount})


def inked(sample: TileSample) -> NDArray[np.bool_]:
    """Tiles with ink; [n] bool."""
    return np.asarray(sample.column("ink") > INK_CELLS)


def clear_tiles(sample: TileSample) -> NDArray[np.bool_]:
    """Tiles with enough tissue, and no ink on it, to tell sharp from blurred; [n] bool."""
    return np.asarray((sample.column("glass") < GLASSY) & ~inked(sample))


def blur_limit(slide: TileSample, reference: Floats | None) -> float:
    """Sharpness below which a tile of this slide is blurred; −inf where nothing can tell."""
    limits = [-np.inf]
    clear = clear_tiles(slide)
    if clear.any() and not slide.whole_image:
        limits.append(float(np.median(slide.column("sharpness")[clear])) - BLUR_BELOW)
    if reference is not None:
        limits.append(float(np.quantile(_column(reference, "sharpness"), BLUR_QUANTILE)))
    return max(limits)


def fold_limit(slide: TileSample) -> float:
    """Value of ``fold`` above which a tile of this slide stands out; inf where nothing can tell."""
    fold = slide.column("fold")[~inked(slide)]
    if len(fold) < LITTLE_TISSUE:
        return np.inf
    low, high = (float(q) for q in np.quantile(fold, [0.25, 0.75]))
    return high + FOLD_FENCE * (high - low)


def blurred(place: TileSample, limit: float) -> NDArray[np.bool_]:
    """Clear tiles that are out of focus; [n] bool."""
    return np.asarray(clear_tiles(place) & (place.column("sharpness") < limit))


def folded(place: TileSample, limit: float) -> NDArray[np.bool_]:
    """Tiles without ink that stand out as folds do; [n] bool."""
    return np.asarray(~inked(place) & (place.column("fold") > limit))


def _graded(sample: TileSample, amount: float, yellow: float, red: float) -> Light:
    """Light of a share; of few tiles, or one image, a share alone is no reason for red."""
    if amount >= red and len(sample) >= LITTLE_TISSUE:
        return Light.RED
    return Light.YELLOW if amount >= yellow else Light.GREEN


def _column(reference: Floats, name: str) -> Floats:
    return reference[:, STATISTICS.index(name)]


def outside_share(values: Floats, reference: Floats) -> float:
    """Share of values beyond the reference's 1st or 99th percentile; 0.02 would be usual."""
    low, high = np.quantile(reference, [STAIN_TAIL, 1 - STAIN_TAIL])
    return float(((values < low) | (values > high)).mean())


def _medians(sample: TileSample) -> dict[str, float | str]:
    return {name: float(np.median(sample.column(name))) for name in STAIN}
