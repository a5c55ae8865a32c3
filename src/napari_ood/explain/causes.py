"""Why a tile may be foreign: a named probable cause, and the numbers that speak for it.

A hint, never a finding. The rules see how tiles look, not what they mean: docs/results/causes.md
says how often they are right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.errors import ExplainError
from napari_ood.explain.cause_rules import (
    BLUR,
    EVIDENCE,
    FOLD,
    GLASS,
    INK,
    LEAST_BESIDE,
    RULES,
    SCALE,
    STAIN,
    TIMES,
    Evidence,
    Look,
    overview,
    scaled,
    undisturbed,
)
from napari_ood.explain.usual import RARE, UNCOMMON, Usual

if TYPE_CHECKING:
    from napari_ood.models import Bundle, Card

RGB = NDArray[np.uint8]

TISSUE, UNKNOWN, NOTHING = "unknown tissue", "unknown", "nothing unusual"
CAUSES: tuple[str, ...] = (INK, GLASS, FOLD, BLUR, STAIN, SCALE, TISSUE, UNKNOWN, NOTHING)
"""In the order in which they are named: what hides the tissue before what changes it."""

LEADS = 0.65
"""Least ratio of the tissue to the appearance score, each 1 at its threshold, for unknown tissue.
Every artefact moves the tissue score a little. The ratio is 0.8 on other organs' H&E, 0.55 on tiles
with ink or motion blur (lymph-node-he; the other organs were in view when this was chosen)."""
MOST = 0.5
"""A place has a cause when at least this share of its tiles does."""


@dataclass(frozen=True)
class Standing:
    """Where a tile stands on the bundle's OOD scores: 1 is the threshold, None: no such score."""

    ood: float | None = None
    appearance: float | None = None
    tissue: float | None = None

    @property
    def foreign(self) -> bool | None:
        """Whether any score is beyond its threshold; None: nothing is known."""
        known = [s for s in (self.ood, self.appearance, self.tissue) if s is not None]
        return max(known) > 1 if known else None


@dataclass(frozen=True)
class Cause:
    """A probable cause.

    Attributes
    ----------
    name : one of `CAUSES`
    words : a sentence
    evidence : what was measured, the telling numbers first
    share : of the place's tiles that it was found in
    also : further causes whose rule applies, in the order of `CAUSES`
    """

    name: str
    words: str
    evidence: tuple[Evidence, ...]
    share: float = 1.0
    also: tuple[str, ...] = ()


def probable_cause(
    tiles: RGB,
    statistics: ArrayLike | None,
    card: Card,
    *,
    spectrum: ArrayLike | None = None,
    grain: ArrayLike | None = None,
    beside: ArrayLike | None = None,
    standing: Standing | None = None,
) -> Cause:
    """Name why a place may be foreign, from what its tiles look like.

    Parameters
    ----------
    tiles : [N, t, t, 3] uint8, or one tile [t, t, 3], at the bundle's resolution
    statistics : [m, S] float, how in-distribution tiles look: the reference's ``statistics``, or
        those of a sample of the slide; None: fixed limits, and less can be named
    card : of the bundle
    spectrum : [m, B] float, of the same tiles: the reference's ``spectrum``
    grain : [4, B + 1] float, the reference's ``grain``: tells blur from another scale
    beside : [n, S] float, statistics of a sample of the same slide: a fold is found by it, as it
        stands out from the slide more than from training tiles of many slides
    standing : where the place stands on the bundle's scores; None: not known

    Raises
    ------
    ExplainError
        If there are no tiles, or they are no RGB images.
    """
    pixels = np.asarray(tiles)
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if pixels.ndim != 4 or pixels.shape[3] != 3 or not len(pixels) or pixels.dtype != np.uint8:
        raise ExplainError(f"a cause needs tiles [N, t, t, 3] uint8, got {np.shape(tiles)}")
    if min(pixels.shape[1:3]) < 8:
        raise ExplainError("a cause needs tiles of 8 px or more")
    standing = standing or Standing()
    # Of a tile that is known to be foreign, a slighter sign is enough: there is a cause.
    strict = not standing.foreign
    usual = None
    if statistics is not None:
        usual = Usual.of(statistics, spectrum, grain, RARE if strict else UNCOMMON)
    return cause_of(Look(pixels, usual, card, beside, strict), standing)


def cause_at(
    bundle: Bundle,
    tiles: RGB,
    logits: ArrayLike | None = None,
    features: ArrayLike | None = None,
    beside: ArrayLike | None = None,
) -> Cause:
    """Name why a place may be foreign to a bundle.

    Parameters
    ----------
    bundle : Bundle
    tiles : [N, t, t, 3] uint8, or one tile
    logits, features : [N, M, C], [N, D], the run's rows of these tiles; without them nothing is
        known of the bundle's scores: unknown tissue can't be told from nothing unusual
    beside : as `probable_cause` takes it; stands in for training tiles, where the bundle does not
        store how they look
    """
    reference, known, standing = bundle.reference, None, None
    if reference is not None:
        known = reference.statistics
        if logits is not None and features is not None:
            standing = standing_of(bundle, logits, features)
    if known is None and beside is not None:
        return cause_beside(tiles, beside, bundle.card, standing)
    if reference is None or known is None:
        return probable_cause(tiles, None, bundle.card, standing=standing)
    return probable_cause(
        tiles,
        known,
        bundle.card,
        spectrum=reference.spectrum,
        grain=reference.grain,
        beside=beside,
        standing=standing,
    )


def cause_beside(
    tiles: RGB, beside: ArrayLike, card: Card, standing: Standing | None = None
) -> Cause:
    """Name why a place may be foreign, from how it differs from the rest of its slide.

    For a bundle that does not store how its training tiles look. Scale is not judged, nor what the
    whole slide has in common.

    Parameters
    ----------
    tiles, card, standing : as `probable_cause` takes them
    beside : [n, S] float, statistics of a sample of the slide
    """
    sample = np.asarray(beside, np.float32)
    rest = sample[undisturbed(sample)] if len(sample) else sample
    if len(rest) < LEAST_BESIDE:
        return probable_cause(tiles, None, card, standing=standing)
    found = probable_cause(tiles, rest, card, beside=sample, standing=standing)
    return replace(found, words=f"{found.words} {BY_THE_SLIDE}")


def standing_of(bundle: Bundle, logits: ArrayLike, features: ArrayLike) -> Standing:
    """Where tiles stand on the bundle's scores, in the median."""
    reference = bundle.require_reference()

    def median(role: str) -> float | None:
        name = bundle.card.scores.get(role)
        if name is None:
            return None
        scores = reference.standardised(name, reference.score(name, logits, features))
        return float(np.median(scores))

    return Standing(median("ood"), median("appearance"), median("tissue"))


def cause_of(look: Look, standing: Standing) -> Cause:
    """Name the cause of tiles that were measured already."""
    shares = {name: float(rule(look).mean()) for name, rule in RULES.items()}
    other_tissue = _other_tissue(look, standing)
    if other_tissue:  # it has structures of other sizes, too
        shares[SCALE] = float(scaled(look, sure=True).mean())
    found = [name for name, share in shares.items() if share >= MOST]
    if not found:
        name, words = _without(look, standing)
        return Cause(name, words, (*_standings(standing), *overview(look)))
    name = found[0]
    words = _scale_words(look) if name == SCALE else WORDS[name]
    also = (*found[1:], TISSUE) if other_tissue else tuple(found[1:])
    told = _standings(standing) if other_tissue else ()
    return Cause(name, words, (*EVIDENCE[name](look), *told), shares[name], also)


def _without(look: Look, standing: Standing) -> tuple[str, str]:
    """Name and words where no rule applies."""
    if not standing.foreign:
        agreed = "" if standing.foreign is None else " The bundle's scores agree."
        return NOTHING, (WORDS[NOTHING] if look.usual else LITTLE_KNOWN) + agreed
    if _other_tissue(look, standing):
        return TISSUE, WORDS[TISSUE]
    return UNKNOWN, WORDS[UNKNOWN] + ("" if look.usual else " " + LITTLE_KNOWN)


def _other_tissue(look: Look, standing: Standing) -> bool:
    """Whether it is what the tiles show that is foreign, and not only how they look."""
    if look.usual is None or look.clear().mean() < MOST:
        return False
    if standing.tissue is None or standing.tissue <= 1:
        return False
    return standing.appearance is None or standing.tissue >= LEADS * standing.appearance


def _scale_words(look: Look) -> str:
    larger = look.grain_share("magnified") > look.grain_share("shrunk")
    size = "larger" if larger else "smaller"
    at = "" if look.card.mpp is None else f" at {look.card.mpp:g} µm per px"
    alike = " A slight blur looks alike." if larger else ""
    return f"Structures are {size} than in training{at}: {WORDS[SCALE]}{alike}"


def _standings(standing: Standing) -> Iterator[Evidence]:
    for what, value in (("appearance", standing.appearance), ("tissue", standing.tissue)):
        if value is not None:
            yield Evidence(f"{what} score", value, None, 1.0, TIMES)
    if standing.appearance is None and standing.tissue is None and standing.ood is not None:
        yield Evidence("OOD score", standing.ood, None, 1.0, TIMES)


WORDS = {
    INK: "Ink: part of it has a colour that no stain has.",
    GLASS: "Blank glass: there is hardly any tissue to judge.",
    FOLD: "A fold, or thick tissue: far darker and more saturated than training tiles.",
    BLUR: "Out of focus: fine structures are missing, coarse ones are as usual.",
    STAIN: "Another stain, laboratory or scanner: its colours are not those of training tiles.",
    SCALE: "check the slide's µm per px.",
    TISSUE: (
        "Tissue that training did not hold, by its features: stain, focus and scale are within "
        "what is usual."
    ),
    UNKNOWN: "Foreign, and none of the rules says why.",
    NOTHING: "Nothing unusual in stain, focus, ink, folds or scale.",
}
BY_THE_SLIDE = (
    "(Compared with the slide's own tiles; the bundle stores nothing of training's look.)"
)
LITTLE_KNOWN = (
    "The bundle does not store how its training tiles look: only ink, glass and strong blur were "
    "looked for, by fixed limits."
)
