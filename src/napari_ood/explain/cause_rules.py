"""What tiles look like beside usual ones, and the rules that name a cause by it (numpy only)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.explain.grain import GRAINS, grain_shares
from napari_ood.explain.usual import Usual, fence, fineness, grain
from napari_ood.explain.within import black_share, directional_fineness, straight_edges
from napari_ood.slides.appearance import STATISTICS, tile_statistics
from napari_ood.slides.spectrum import tile_spectrum

if TYPE_CHECKING:
    from napari_ood.models import Card

RGB = NDArray[np.uint8]
Bools = NDArray[np.bool_]

INK, GLASS, FOLD, BLUR = "pen ink", "blank glass", "fold", "blur"
STAIN, SCALE = "stain shift", "scale mismatch"
INK_CELLS = 0.04
"""Share of a tile's cells of 8 px in the colour of ink, beyond what is usual."""
SOME_INK = 0.01
"""The same, for a tile that is as dark and saturated as a fold: ink over tissue is, too, and most
of it can have a colour that haematoxylin has. A fold makes no colour that no stain has."""
EDGE = 1.8
"""Least contrast of the straight edge of a fold or of ink inside a tile, see ``explain.within``.
Finds 40 % of planted folds, 0.8 % of unchanged tiles."""
SMEARED, SMEARED_BELOW = -1.0, 2.1
"""Motion blur: structures of 2 to 4 px have a tenth of the power that those at a right angle have,
and less against the middle than the least usual fineness by so much (log10). Fibres that all run in
one direction come close: less strict limits (−0.7, 1.8) find two thirds of motion blur, not a half,
and call one in five tiles of a skin's dermis blurred."""
DARK_FIELD = 0.1
"""Brightness of a tile below which it is no bright-field image, or all black: no rule is for it."""
GLASS_SHARE = 0.95
"""Or the usual highest share, where that is more."""
SURE = 0.8
"""Least probability of a grain, see ``explain.grain``, to speak of blur or of another scale."""
LESS_SURE = 0.5
"""The same, of either, where a tile is known to be foreign."""
DENSE = 0.1
"""Optical density from which a tile has a hue to judge, and can be a fold."""
BLUR_BELOW = 1.0
"""A tile with a tenth (10^−1) of the slide's median Laplacian variance is not one of its usual."""
LEAST_BESIDE = 20
"""Tiles of the slide from which a tile can be seen to stand out."""
NO_DETAIL = -0.3
"""Absolute limit of ``detail`` for blur, where nothing is known of training tiles. Tiles of slides
at 0.25 to 1 µm/px have 0 to 1.2; a Gauss filter of σ = 1 px leaves about −0.5."""

SHARE, LOG10, SD, TIMES = "%", "log₁₀", "SD", "× threshold"
"""Units; what is in per cent is stored as a share of 1."""
WHAT = {
    "ink": ("part of the tile in colours that no stain has", SHARE),
    "glass": ("part of the tile without tissue", SHARE),
    "fold": ("darkness with saturation of the darkest tenth", ""),
    "edge": ("straight edge inside the tile, contrast", SD),
    "ratio": ("density beyond the edge over density before it", ""),
    "ink_edge": ("straight edge to another colour, contrast", SD),
    "black": ("part of the tile that is black", SHARE),
    "smeared": ("fine detail along one direction against across it", LOG10),
    "density_mean": ("optical density", "OD"),
    "detail": ("fine detail against all contrast", LOG10),
    "chroma_x": ("hue towards red", ""),
    "chroma_y": ("hue from blue to green", ""),
    "saturation_mean": ("saturation", SHARE),
}
"""What is measured, in words, and its unit."""


@dataclass(frozen=True)
class Evidence:
    """One number that was measured.

    Attributes
    ----------
    what : in words
    value : median over the tiles
    low, high : its usual range, all but 1 % of in-distribution tiles; None: no bound is known
    unit : of all three, as people read it; ``%``: they are shares of 1
    """

    what: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""

    @property
    def outside(self) -> bool:
        """Whether the value lies outside of the usual range."""
        below = self.low is not None and self.value < self.low
        return below or (self.high is not None and self.value > self.high)


class Look:
    """Tiles, what was measured of them, and what is usual."""

    def __init__(
        self,
        tiles: RGB,
        usual: Usual | None,
        card: Card,
        beside: ArrayLike | None = None,
        strict: bool = True,
    ) -> None:
        self.usual, self.card = usual, card
        self._strict = strict
        self.beside = None if beside is None else np.asarray(beside, np.float32)
        self.statistics = tile_statistics(tiles)
        self.edges = straight_edges(tiles, np.inf if usual is None else usual.dense)
        self.black = np.zeros(len(tiles)) if card.whole_image else black_share(tiles)
        self.finest, self.smeared = directional_fineness(tiles)
        self.grains: NDArray[np.float64] | None = None
        if usual is not None and usual.spectrum is not None:
            self.spectrum = tile_spectrum(tiles)
            if usual.rule is not None:
                self.grains = grain_shares(self.spectrum, usual.spectrum, usual.rule)

    def column(self, name: str) -> NDArray[np.float32]:
        """One of ``STATISTICS``, of all tiles; [n]."""
        return self.statistics[:, STATISTICS.index(name)]

    def measured(self, name: str) -> Evidence:
        """One of ``STATISTICS`` as evidence: the tiles' median and the usual range."""
        low, high = (None, None) if self.usual is None else self.usual.range(name)
        what, unit = WHAT[name]
        return Evidence(what, float(np.median(self.column(name))), low, high, unit)

    def high(self, name: str, otherwise: float) -> float:
        """Usual highest value of one of ``STATISTICS``; ``otherwise`` where nothing is known."""
        return otherwise if self.usual is None else self.usual.range(name)[1]

    def inked(self) -> NDArray[np.float64]:
        """Share of each tile in the colour of ink, beyond what is usual; [n]."""
        return np.asarray(np.maximum(self.column("ink") - self.high("ink", 0.0), self.black))

    def motion_limit(self) -> float:
        """Fineness in the blurriest direction below which motion is to blame."""
        coarsest = None if self.usual is None else self.usual.coarsest
        if self._strict or coarsest is None or self.card.whole_image:
            return -np.inf
        return coarsest - SMEARED_BELOW

    def fold_limit(self) -> float:
        """Value of ``fold`` from which a tile stands out; inf where nothing can tell.

        The rare ones also of a tile that is known to be foreign: dark tissue is often foreign.
        """
        fold = STATISTICS.index("fold")
        limits = [np.inf if self.usual is None else float(self.usual.rarest[fold])]
        if self.beside is not None and len(self.beside) >= LEAST_BESIDE:
            clear = self.beside[:, STATISTICS.index("ink")] <= INK_CELLS
            limits.append(fence(self.beside[clear, STATISTICS.index("fold")]))
        return min(limits)

    def grain_is(self, kind: str, sure: bool = False) -> Bools:
        """Tiles that are of one of ``GRAINS`` with enough probability; [n]."""
        if self.grains is None:
            return np.zeros(len(self.statistics), bool)
        limit = SURE if sure or self._strict else LESS_SURE
        return np.asarray(self.grains[:, GRAINS.index(kind)] >= limit)

    def grain_share(self, kind: str) -> float:
        """Mean probability of one of ``GRAINS``; 0 where nothing is known."""
        return 0.0 if self.grains is None else float(self.grains[:, GRAINS.index(kind)].mean())

    def clear(self) -> Bools:
        """Tiles with something to see in a bright field, and no ink on it."""
        seen = (self.column("glass") < GLASS_SHARE) & (self.column("brightness_mean") > DARK_FIELD)
        return np.asarray(seen & ~_inked(self))

    def spectral(self) -> Iterator[Evidence]:
        """Evidence of blur and scale; none where the bundle knows no spectra."""
        if self.usual is None or self.usual.spectrum is None:
            return
        low, high = self.usual.spectrum_low, self.usual.spectrum_high
        assert low is not None and high is not None
        for i, (what, measure) in enumerate(SPECTRAL.items()):
            value = float(np.median(measure(self.spectrum)))
            yield Evidence(what, value, float(low[i]), float(high[i]), LOG10)


def undisturbed(statistics: ArrayLike) -> Bools:
    """Which of a slide's tiles [n, S] say what is usual on it: no ink, no fold, no blur; [n]."""
    x = np.asarray(statistics, np.float64)
    ink, fold, sharpness, glass = (
        x[:, STATISTICS.index(name)] for name in ("ink", "fold", "sharpness", "glass")
    )
    clear = (ink <= INK_CELLS) & (glass < GLASS_SHARE)
    if not clear.any():
        return clear
    sharp = sharpness >= np.median(sharpness[clear]) - BLUR_BELOW
    return np.asarray(clear & sharp & (fold <= fence(fold[clear])))


def _inked(look: Look) -> Bools:
    lit = look.column("brightness_mean") > DARK_FIELD
    dark = look.column("fold") > look.fold_limit()
    some = (look.inked() > SOME_INK) | (look.edges.ink >= EDGE)
    return np.asarray(lit & ((look.inked() > INK_CELLS) | (dark & some)))


def _glassy(look: Look) -> Bools:
    # The range of training tiles counts only where it reaches to all but empty ones.
    limit = max(GLASS_SHARE, look.high("glass", 0.0))
    return np.asarray((look.column("glass") >= min(limit, 1.0)) & ~_inked(look))


def _folded(look: Look) -> Bools:
    if look.card.whole_image:  # a photograph of skin has lesions with edges, and no folds
        return np.zeros(len(look.statistics), bool)
    dark = (look.column("density_mean") > DENSE) & (look.column("fold") > look.fold_limit())
    return np.asarray((dark | (look.edges.fold >= EDGE)) & look.clear())


def _blurred(look: Look) -> Bools:
    seen = look.clear()
    if look.usual is None:
        if look.card.whole_image:  # photographs differ too much in what they show
            return np.zeros(len(seen), bool)
        return np.asarray(seen & (look.column("detail") < NO_DETAIL))
    if look.grains is None:
        return np.asarray(seen & (look.column("detail") < look.usual.range("detail")[0]))
    moved = (look.smeared < SMEARED) & (look.finest < look.motion_limit())
    return np.asarray(seen & (look.grain_is("blurred") | moved))


def _stained(look: Look) -> Bools:
    if look.usual is None:
        return np.zeros(len(look.statistics), bool)
    far = look.usual.stain_distance(look.statistics) > look.usual.stain_limit
    return np.asarray(look.clear() & far & (look.column("density_mean") > DENSE))


def scaled(look: Look, sure: bool = False) -> Bools:
    """Tiles at another scale; ``sure``: as surely as of tiles that are not known to be foreign."""
    if look.card.whole_image:  # an image as a whole has no scale of its own
        return np.zeros(len(look.statistics), bool)
    other = look.grain_is("magnified", sure) | look.grain_is("shrunk", sure)
    return np.asarray(look.clear() & other)


RULES: dict[str, Callable[[Look], Bools]] = {
    INK: _inked,
    GLASS: _glassy,
    FOLD: _folded,
    BLUR: _blurred,
    STAIN: _stained,
    SCALE: scaled,
}


def _told(
    name: str, values: NDArray[np.float64], low: float | None = None, high: float | None = None
) -> Evidence:
    """A number of the tiles that is no statistic, with the limit of its rule."""
    what, unit = WHAT[name]
    return Evidence(what, float(np.median(values)), low, high, unit)


def _stain_evidence(look: Look) -> Evidence:
    assert look.usual is not None
    distance = float(np.median(look.usual.stain_distance(look.statistics)))
    what = "distance to training tiles' stains"
    return Evidence(what, distance, 0.0, look.usual.stain_limit, SD)


def _why_stained(look: Look) -> Iterator[Evidence]:
    assert look.usual is not None
    yield _stain_evidence(look)
    yield look.measured(look.usual.oddest_stain(look.statistics))


def _why_blurred(look: Look) -> Iterator[Evidence]:
    yield look.measured("detail")
    if np.median(look.finest) < look.motion_limit():
        yield _told("smeared", look.smeared, low=SMEARED)
    yield from look.spectral()


def _why_folded(look: Look) -> Iterator[Evidence]:
    fold = look.measured("fold")
    limit = look.fold_limit()
    yield fold if np.isinf(limit) else replace(fold, high=limit)
    if np.median(look.edges.fold) >= EDGE:
        yield _told("edge", look.edges.fold, high=EDGE)
        yield _told("ratio", look.edges.ratio)
    yield look.measured("density_mean")


def _why_inked(look: Look) -> Iterator[Evidence]:
    yield look.measured("ink")
    if np.median(look.black) > SOME_INK:
        yield _told("black", look.black, high=INK_CELLS)
    if np.median(look.edges.ink) >= EDGE:
        yield _told("ink_edge", look.edges.ink, high=EDGE)


def overview(look: Look) -> Iterator[Evidence]:
    """What is told of tiles that no rule finds a cause for."""
    yield from (look.measured(name) for name in ("ink", "glass", "detail"))
    if look.usual is not None:
        yield _stain_evidence(look)
        yield look.measured("fold")
    yield from look.spectral()


EVIDENCE: dict[str, Callable[[Look], Iterator[Evidence]]] = {
    INK: _why_inked,
    GLASS: lambda look: iter([look.measured("glass")]),
    FOLD: _why_folded,
    BLUR: _why_blurred,
    STAIN: _why_stained,
    SCALE: lambda look: look.spectral(),
}
SPECTRAL: dict[str, Callable[[ArrayLike], NDArray[np.float64]]] = {
    "structures of 2 to 4 px against 6 to 16 px": fineness,
    "structures of 16 to 45 px against 4 to 11 px": grain,
}
