"""Why a tile may be foreign: a named probable cause, and the numbers that speak for it.

A hint, never a finding. The rules see how tiles look, not what they mean: docs/results/causes.md
says how often they are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.errors import ExplainError
from napari_ood.explain.grain import GRAINS, grain_shares
from napari_ood.explain.usual import Usual, fineness, grain
from napari_ood.slides.appearance import STATISTICS, tile_statistics
from napari_ood.slides.spectrum import tile_spectrum

if TYPE_CHECKING:
    from napari_ood.models import Bundle, Card

RGB = NDArray[np.uint8]
Bools = NDArray[np.bool_]

INK, GLASS, FOLD, BLUR = "pen ink", "blank glass", "fold", "blur"
STAIN, SCALE = "stain shift", "scale mismatch"
TISSUE, UNKNOWN, NOTHING = "unknown tissue", "unknown", "nothing unusual"
CAUSES: tuple[str, ...] = (INK, GLASS, FOLD, BLUR, STAIN, SCALE, TISSUE, UNKNOWN, NOTHING)
"""In the order in which they are named: what hides the tissue before what changes it."""

MOST = 0.5
"""A place has a cause when at least this share of its tiles does."""
INK_CELLS = 0.06
"""Share of a tile's cells of 8 px in the colour of ink, beyond what is usual."""
GLASS_SHARE = 0.95
"""Or the usual highest share, where that is more."""
SURE = 0.7
"""Least probability of a grain, see ``explain.grain``, to speak of blur or of another scale."""
STAIN_BEYOND = 1.25
"""Times the distance that 99.5 % of training tiles stay below."""
FOLD_DENSITY = 0.10
"""Optical density above which a tile can be a fold: thin dark lines are none."""
NO_DETAIL = -0.3
"""Absolute limit of ``detail`` for blur, where nothing is known of training tiles. Tiles of slides
at 0.25 to 1 µm/px have 0 to 1.2; a Gauss filter of σ = 1 px leaves about −0.5."""

WHAT = {
    "ink": "share of the tile in colours that no stain has",
    "glass": "share of the tile without tissue",
    "fold": "darkness with saturation of the darkest tenth",
    "density_mean": "optical density",
    "detail": "fine detail (log10 of its share of all contrast)",
    "haematoxylin_mean": "amount of haematoxylin (optical density)",
    "eosin_mean": "amount of eosin (optical density)",
    "residual_mean": "colour that is neither haematoxylin nor eosin (optical density)",
    "chroma_x": "hue towards red",
    "chroma_y": "hue from blue to green",
    "saturation_mean": "saturation",
}


@dataclass(frozen=True)
class Evidence:
    """One number that was measured.

    Attributes
    ----------
    what : in words
    value : median over the tiles
    low, high : its usual range, all but 1 % of in-distribution tiles; None: no bound is known
    """

    what: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def outside(self) -> bool:
        """Whether the value lies outside of the usual range."""
        below = self.low is not None and self.value < self.low
        return below or (self.high is not None and self.value > self.high)


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
    usual = None if statistics is None else Usual.of(statistics, spectrum)
    return _Look(pixels, usual, card).cause(standing or Standing())


def cause_at(
    bundle: Bundle,
    tiles: RGB,
    logits: ArrayLike | None = None,
    features: ArrayLike | None = None,
) -> Cause:
    """Name why a place may be foreign to a bundle.

    Parameters
    ----------
    bundle : Bundle
    tiles : [N, t, t, 3] uint8, or one tile
    logits, features : [N, M, C], [N, D], the run's rows of these tiles; without them nothing is
        known of the bundle's scores: unknown tissue can't be told from nothing unusual
    """
    reference = bundle.reference
    if reference is None:
        return probable_cause(tiles, None, bundle.card)
    standing = None if logits is None or features is None else standing_of(bundle, logits, features)
    return probable_cause(
        tiles, reference.statistics, bundle.card, spectrum=reference.spectrum, standing=standing
    )


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


class _Look:
    """Tiles, what was measured of them, and what is usual."""

    def __init__(self, tiles: RGB, usual: Usual | None, card: Card) -> None:
        self.usual, self.card = usual, card
        self.statistics = tile_statistics(tiles)
        self.grains: NDArray[np.float64] | None = None
        if usual is not None and usual.spectrum is not None:
            self.spectrum = tile_spectrum(tiles)
            self.grains = grain_shares(self.spectrum, usual.spectrum)

    def cause(self, standing: Standing) -> Cause:
        shares = {name: float(rule(self).mean()) for name, rule in RULES.items()}
        found = [name for name, share in shares.items() if share >= MOST]
        if found:
            name = found[0]
            words = WORDS[name] if name != SCALE else self._scale_words()
            evidence = tuple(EVIDENCE[name](self))
            return Cause(name, words, evidence, shares[name], tuple(found[1:]))
        evidence = tuple(_standings(standing)) + tuple(self._usual_evidence())
        return Cause(*self._without(standing), evidence)

    def _without(self, standing: Standing) -> tuple[str, str]:
        """Name and words where no rule applies."""
        if self.usual is None:
            return UNKNOWN, WORDS[UNKNOWN] + NOTHING_STORED
        if standing.foreign is None:
            return NOTHING, WORDS[NOTHING]
        if not standing.foreign:
            return NOTHING, WORDS[NOTHING] + " The bundle's scores agree."
        if standing.tissue is not None and standing.tissue > 1:
            return TISSUE, WORDS[TISSUE]
        return UNKNOWN, WORDS[UNKNOWN]

    def column(self, name: str) -> NDArray[np.float32]:
        return self.statistics[:, STATISTICS.index(name)]

    def measured(self, name: str) -> Evidence:
        low, high = (None, None) if self.usual is None else self.usual.range(name)
        return Evidence(WHAT[name], float(np.median(self.column(name))), low, high)

    def high(self, name: str, otherwise: float) -> float:
        return otherwise if self.usual is None else self.usual.range(name)[1]

    def grain_is(self, *kinds: str) -> Bools:
        if self.grains is None:
            return np.zeros(len(self.statistics), bool)
        return np.asarray(self.grains[:, [GRAINS.index(k) for k in kinds]].sum(axis=1) >= SURE)

    def spectral(self) -> Iterator[Evidence]:
        if self.grains is None or self.usual is None:
            return
        low, high = self.usual.spectrum_low, self.usual.spectrum_high
        assert low is not None and high is not None
        for i, (what, measure) in enumerate(SPECTRAL.items()):
            value = float(np.median(measure(self.spectrum)))
            yield Evidence(what, value, float(low[i]), float(high[i]))

    def _scale_words(self) -> str:
        assert self.grains is not None
        larger = self.grains[:, GRAINS.index("magnified")].mean()
        smaller = self.grains[:, GRAINS.index("shrunk")].mean()
        size = "larger" if larger > smaller else "smaller"
        at = "" if self.card.mpp is None else f" at {self.card.mpp:g} µm per px"
        return f"Structures are {size} than in training{at}: {WORDS[SCALE]}"

    def _usual_evidence(self) -> Iterator[Evidence]:
        yield from (self.measured(name) for name in ("ink", "glass", "detail"))
        if self.usual is not None:
            yield _stain_evidence(self)
            yield self.measured("fold")
        yield from self.spectral()


def _inked(look: _Look) -> Bools:
    return np.asarray(look.column("ink") > look.high("ink", 0.0) + INK_CELLS)


def _glassy(look: _Look) -> Bools:
    # The range of training tiles counts only where it reaches to all but empty ones.
    limit = max(GLASS_SHARE, look.high("glass", 0.0))
    return np.asarray((look.column("glass") >= min(limit, 1.0)) & ~_inked(look))


def _folded(look: _Look) -> Bools:
    if look.usual is None:
        return np.zeros(len(look.statistics), bool)
    dark = look.column("density_mean") > FOLD_DENSITY
    return np.asarray(dark & (look.column("fold") > look.usual.range("fold")[1]) & ~_inked(look))


def _blurred(look: _Look) -> Bools:
    seen = (look.column("glass") < GLASS_SHARE) & ~_inked(look)
    if look.usual is None:
        if look.card.whole_image:  # photographs differ too much in what they show
            return np.zeros(len(seen), bool)
        return np.asarray(seen & (look.column("detail") < NO_DETAIL))
    less = look.column("detail") < look.usual.range("detail")[0]
    if look.grains is None:
        return np.asarray(seen & less)
    return np.asarray(seen & look.grain_is("blurred") & less)


def _stained(look: _Look) -> Bools:
    if look.usual is None:
        return np.zeros(len(look.statistics), bool)
    distance = look.usual.stain_distance(look.statistics)
    seen = (look.column("glass") < GLASS_SHARE) & ~_inked(look)
    return np.asarray(seen & (distance > STAIN_BEYOND * look.usual.stain_limit))


def _scaled(look: _Look) -> Bools:
    if look.card.whole_image:  # an image as a whole has no scale of its own
        return np.zeros(len(look.statistics), bool)
    seen = (look.column("glass") < GLASS_SHARE) & ~_inked(look)
    return np.asarray(seen & (look.grain_is("magnified") | look.grain_is("shrunk")))


RULES: dict[str, Callable[[_Look], Bools]] = {
    INK: _inked,
    GLASS: _glassy,
    FOLD: _folded,
    BLUR: _blurred,
    STAIN: _stained,
    SCALE: _scaled,
}


def _stain_evidence(look: _Look) -> Evidence:
    assert look.usual is not None
    distance = float(np.median(look.usual.stain_distance(look.statistics)))
    what = "distance of the stain (standard deviations)"
    return Evidence(what, distance, 0.0, look.usual.stain_limit)


def _why_stained(look: _Look) -> Iterator[Evidence]:
    assert look.usual is not None
    yield _stain_evidence(look)
    yield look.measured(look.usual.oddest_stain(look.statistics))


def _why_blurred(look: _Look) -> Iterator[Evidence]:
    yield look.measured("detail")
    yield from look.spectral()


EVIDENCE: dict[str, Callable[[_Look], Iterator[Evidence]]] = {
    INK: lambda look: iter([look.measured("ink")]),
    GLASS: lambda look: iter([look.measured("glass")]),
    FOLD: lambda look: (look.measured(name) for name in ("fold", "density_mean")),
    BLUR: _why_blurred,
    STAIN: _why_stained,
    SCALE: lambda look: look.spectral(),
}
SPECTRAL: dict[str, Callable[[ArrayLike], NDArray[np.float64]]] = {
    "structures of 2 to 4 px against 6 to 16 px (log10)": fineness,
    "structures of 16 to 45 px against 4 to 11 px (log10)": grain,
}


def _standings(standing: Standing) -> Iterator[Evidence]:
    for what, value in (("appearance", standing.appearance), ("tissue", standing.tissue)):
        if value is not None:
            yield Evidence(f"{what} score (1 = threshold)", value, None, 1.0)
    if standing.appearance is None and standing.tissue is None and standing.ood is not None:
        yield Evidence("OOD score (1 = threshold)", standing.ood, None, 1.0)


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
NOTHING_STORED = (
    " The bundle does not store how its training tiles look: only ink, glass and strong blur could "
    "be looked for, by fixed limits."
)
