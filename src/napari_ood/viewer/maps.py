"""The maps a run fills: arrays with one value per tile. No Qt, no napari.

A worker thread writes tiles into the arrays with :meth:`Maps.put`; the GUI thread shows the same
arrays and asks :meth:`Maps.take_dirty` a few times per second whether to redraw. Nobody copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.naming import run_name
from napari_ood.scores import mean_probability, parse_score
from napari_ood.viewer.combined import combine, fade_table
from napari_ood.viewer.how import NONE, USUAL, How
from napari_ood.viewer.scales import Scale, card_scale

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.inference import Run
    from napari_ood.models import Bundle
    from napari_ood.models.card import Card
    from napari_ood.models.reference import Reference
    from napari_ood.slides import TileGrid

Pair = tuple[float, float]
Floats = NDArray[np.float32]

NO_TILE = 0
"""Value of the prediction map where there is no tile; class i is i + 1."""
NO_FEATURES = (
    "No OOD map: this run was made for its prediction only and holds no features. Run the slide "
    "again and keep its features."
)
NO_REFERENCE = "No OOD map: the bundle has no reference that tiles could be compared with."
NO_BUNDLE = "No OOD map: the bundle that made this run is not at hand."
FLAGGED = 255
"""Value of the map of flagged tiles above the threshold."""


class Overlay(StrEnum):
    """What can lie on the slide."""

    PREDICTION = "prediction"
    COMBINED = "combined"
    UNCERTAINTY = "uncertainty"
    APPEARANCE = "appearance"
    TISSUE = "tissue"
    OOD = "ood"


SCORED = (Overlay.UNCERTAINTY, Overlay.APPEARANCE, Overlay.TISSUE, Overlay.OOD)
"""Those with a colour scale and a threshold."""
KINDS = (Overlay.APPEARANCE, Overlay.TISSUE)
"""The two kinds of foreign that some bundles tell apart."""

OPACITIES: Mapping[Overlay, float] = MappingProxyType(
    {Overlay.PREDICTION: 0.45, Overlay.COMBINED: 0.75, **dict.fromkeys(SCORED, 0.9)}
)
"""Opacity that each overlay starts with; scores also have opacity in their colormaps."""


@dataclass(frozen=True)
class Readout:
    """What is known about one tile.

    ``kinds`` are the scores of the two kinds of foreign, empty where the bundle does not tell them
    apart; ``foreign`` are those kinds whose threshold the tile exceeds.
    """

    label: str
    probability: float
    uncertainty: float
    ood: float | None
    uncertainty_share: float | None
    ood_share: float | None
    kinds: Mapping[Overlay, float] = field(default_factory=dict)
    foreign: tuple[Overlay, ...] = ()

    def value(self, overlay: Overlay) -> float | None:
        """Score of an overlay; None for the prediction and for what the bundle does not score."""
        own = {Overlay.UNCERTAINTY: self.uncertainty, Overlay.OOD: self.ood, **self.kinds}
        return own.get(overlay)


@dataclass(frozen=True, eq=False)
class Rescored:
    """The arrays of maps with other scores, or at another temperature; named as in :class:`Maps`.

    ``scores`` has those overlays that change.
    """

    scales: Mapping[Overlay, Scale]
    scores: Mapping[Overlay, Floats]
    probability: Floats
    prediction: NDArray[np.uint16]
    combined: NDArray[np.uint8]
    image_probabilities: Floats | None


class Maps:
    """Prediction, probability and scores of a run on its grid of tiles.

    Attributes
    ----------
    grid : TileGrid
    mpp : (y, x) µm per level-0 pixel; None where images have no physical scale
    classes, colors : names and ``"#RRGGBB"`` per class
    whole_image : whether the only tile is an image, or a region of it, as a whole
    image_probabilities : [C] float32, of that image once it is done; None before, and on slides
    prediction : (rows, cols) uint16, class + 1, 0 where no tile, or no answer that is a number
    probability : (rows, cols) float32, NaN where no tile
    scores : the same per overlay that has a colour scale
    combined : (rows, cols, 4) uint8 RGBA, prediction fading to white with uncertainty
    flagged : (rows, cols) uint8, FLAGGED above the threshold last asked for, else 0
    bundle : what made the run; None when it is not at hand
    card : of that bundle
    slide_record : what the run recorded of its slide (path, name, mpp, fingerprint)
    rescored : whether scores were changed since tiles were last flagged
    stored : the run on disk that they show, where a thread has opened it already
    how : precision of the run, and how it stores features
    features : whether it stores any; without them there are scores of the logits only
    scales : colour scale per overlay; no entry where the bundle cannot give that score
    """

    def __init__(
        self,
        grid: TileGrid,
        mpp: Pair | None,
        card: Card,
        bundle: Bundle | None,
        path: Path | None = None,
        slide_record: Mapping[str, Any] | None = None,
        how: How = USUAL,
    ) -> None:
        self.how, self.features = how, how.features != NONE
        self.grid, self.mpp, self.path, self.bundle = grid, mpp, path, bundle
        self.slide_record = dict(slide_record or {})
        self.shape = (grid.rows, grid.cols)
        self.classes = tuple(card.classes)
        self.colors = tuple(card.colors)
        self.whole_image = card.whole_image
        self.image_probabilities: Floats | None = None
        self.card = card
        self._temperature = card.temperature
        self._reference = bundle.reference if bundle is not None else None
        self.scales: Mapping[Overlay, Scale] = MappingProxyType(
            _scales(card, self._reference, self.features)
        )
        self.prediction = np.full(self.shape, NO_TILE, np.uint16)
        self.probability = np.full(self.shape, np.nan, np.float32)
        self.scores: Mapping[Overlay, Floats] = {
            overlay: np.full(self.shape, np.nan, np.float32) for overlay in SCORED
        }
        self.combined = np.zeros((*self.shape, 4), np.uint8)
        self.flagged = np.zeros(self.shape, np.uint8)
        self._fades = fade_table(self.colors)
        self.rescored = False
        self.stored: ScoredRun | None = None
        self._dirty = False

    @classmethod
    def of_run(cls, run: Run, bundle: Bundle | None) -> Maps:
        """Maps of the finished tiles of a stored run.

        Without its bundle a run still has its prediction and the scores that need logits only.
        """
        record = run.provenance["slide"]
        mpp = (record["mpp"][0], record["mpp"][1]) if record["mpp"] else None
        card = bundle.card if bundle is not None else run.card
        bundle = bundle and bundle.in_precision(run.arithmetic.precision)
        maps = cls(run.grid, mpp, card, bundle, run.path, record, How.of_run(run))
        maps.fill_from(run)
        return maps

    def fill_from(self, run: Run) -> None:
        """Write every finished tile of a stored run."""
        self.put(run.index, run.logits, run.features if self.features else None)

    @property
    def name(self) -> str:
        """Name of the stored run, without its suffix."""
        return run_name(self.path) if self.path else "run"

    @property
    def no_ood(self) -> str:
        """Why there is no OOD map, in words; empty where there is one."""
        if Overlay.OOD in self.scales:
            return ""
        if not self.features:
            return NO_FEATURES
        return NO_REFERENCE if self.bundle is not None else NO_BUNDLE

    @property
    def overlays(self) -> tuple[Overlay, ...]:
        """The overlays that can be shown."""
        combined = Overlay.UNCERTAINTY in self.scales and not self.whole_image
        scored = (o for o in SCORED if o in self.scales)
        return (Overlay.PREDICTION, *((Overlay.COMBINED,) if combined else ()), *scored)

    def array(self, overlay: Overlay) -> NDArray[np.generic]:
        """The array of an overlay, (rows, cols), with four channels where it is combined."""
        if overlay is Overlay.PREDICTION:
            return self.prediction
        return self.combined if overlay is Overlay.COMBINED else self.scores[overlay]

    def put(self, index: NDArray[np.integer], logits: Floats, features: Floats | None) -> None:
        """Score tiles and write them; safe to call from a worker thread.

        Parameters
        ----------
        index : [n, 2] row and column
        logits : [n, M, C]
        features : [n, D]; None where the run stores none
        """
        if not len(index):
            return
        rows, cols = np.asarray(index).T
        p = mean_probability(logits, self._temperature)
        self.probability[rows, cols] = p.max(axis=1)
        names = [scale.score for scale in self.scales.values()]
        for overlay, values in zip(self.scales, self._score(names, logits, features), strict=True):
            self.scores[overlay][rows, cols] = values
        self.prediction[rows, cols] = _class_of(p)
        self._combine((rows, cols))
        if self.whole_image and np.isfinite(p[0]).all():
            self.image_probabilities = p[0]
        self._dirty = True

    def _score(
        self, names: Sequence[str], logits: Floats, features: Floats | None
    ) -> tuple[Floats, ...]:
        if self._reference is not None:
            return self._reference.scores(names, logits, features)
        from napari_ood.scores import HEAD_SCORES

        return tuple(HEAD_SCORES[name](logits, self._temperature) for name in names)

    def _combine(self, cells: Any) -> None:
        scale = self.scales.get(Overlay.UNCERTAINTY)
        if scale is not None:
            fade = scale.share_of_bar(self.scores[Overlay.UNCERTAINTY][cells])
            self.combined[cells] = combine(self.prediction[cells], fade, self._fades)

    def rescored_by(
        self,
        index: NDArray[np.integer],
        probabilities: Floats | None,
        scores: Mapping[Overlay, tuple[Scale, Floats]],
    ) -> Rescored:
        """Work out what other scores, or another temperature, make of these maps; changes nothing.

        Takes 0.2 s at a million tiles; threads may call it.

        Parameters
        ----------
        index : [n, 2] row and column
        probabilities : [n, C], or None where they have not changed
        scores : scale and values [n] float32 of those overlays that change
        """
        rows, cols = np.asarray(index).T
        grids = {overlay: self.scores[overlay].copy() for overlay in scores}
        for overlay, (_, values) in scores.items():
            grids[overlay][rows, cols] = values
        probability, prediction = self.probability, self.prediction
        if probabilities is not None and len(probabilities):
            probability, prediction = probability.copy(), prediction.copy()
            probability[rows, cols] = probabilities.max(axis=1)
            prediction[rows, cols] = _class_of(probabilities)
        scales = MappingProxyType({**self.scales, **{o: s for o, (s, _) in scores.items()}})
        combined, unsure = self.combined, scales.get(Overlay.UNCERTAINTY)
        if unsure is not None:
            fade = unsure.share_of_bar(
                grids.get(Overlay.UNCERTAINTY, self.scores[Overlay.UNCERTAINTY])[rows, cols]
            )
            combined = combined.copy()
            combined[rows, cols] = combine(prediction[rows, cols], fade, self._fades)
        whole = probabilities[0] if self.whole_image and probabilities is not None else None
        return Rescored(scales, grids, probability, prediction, combined, whole)

    def rescore(self, new: Rescored) -> None:
        """Take over what was worked out, into the arrays that are on screen."""
        self.scales = new.scales
        for overlay, grid in new.scores.items():
            np.copyto(self.scores[overlay], grid)
        np.copyto(self.probability, new.probability)
        np.copyto(self.prediction, new.prediction)
        np.copyto(self.combined, new.combined)
        if new.image_probabilities is not None:
            self.image_probabilities = new.image_probabilities
        self.rescored = True

    def flag(self, overlay: Overlay, value: float) -> None:
        """Flag the tiles whose score exceeds a value, and no others. NaN never does."""
        above = self.scores[overlay] > np.float32(value)
        np.multiply(above, np.uint8(FLAGGED), out=self.flagged)

    def flag_tiles(self, index: NDArray[np.integer], flagged: NDArray[np.bool_]) -> None:
        """Flag these of the tiles at ``index`` [n, 2], and no others."""
        self.flagged[:] = 0
        self.flagged[tuple(index[flagged].T)] = FLAGGED

    def take_dirty(self) -> bool:
        """Whether tiles were written since the last call."""
        dirty, self._dirty = self._dirty, False
        return dirty

    def counts(self) -> NDArray[np.int64]:
        """Number of tiles per predicted class, [C]."""
        return np.bincount(self.prediction.ravel(), minlength=len(self.classes) + 1)[1:]

    def readout(
        self, row: int, col: int, limits: Mapping[Overlay, float] | None = None
    ) -> Readout | None:
        """What is known about the tile at (row, col); None where there is no finished tile.

        ``limits`` are the thresholds above which a tile is foreign, the scales' by default.
        """
        label = int(self.prediction[row, col])
        if label == NO_TILE:
            return None
        values = {overlay: float(self.scores[overlay][row, col]) for overlay in self.scales}
        kinds = {overlay: values[overlay] for overlay in KINDS if overlay in values}
        return Readout(
            label=self.classes[label - 1],
            probability=float(self.probability[row, col]),
            uncertainty=values.get(Overlay.UNCERTAINTY, float("nan")),
            ood=values.get(Overlay.OOD),
            uncertainty_share=self._share(Overlay.UNCERTAINTY, values),
            ood_share=self._share(Overlay.OOD, values),
            kinds=kinds,
            foreign=tuple(o for o, v in kinds.items() if v > self._limit(o, limits)),
        )

    def _limit(self, overlay: Overlay, limits: Mapping[Overlay, float] | None) -> float:
        found = self.scales[overlay].threshold if limits is None else limits.get(overlay)
        return float("inf") if found is None else found

    def _share(self, overlay: Overlay, values: Mapping[Overlay, float]) -> float | None:
        scale = self.scales.get(overlay)
        return scale.share_below(values[overlay]) if scale else None


def _class_of(probabilities: Floats) -> NDArray[np.intp]:
    """Class + 1 of [n, C]; NO_TILE where the network's answer is not a number: it names none."""
    known = np.isfinite(probabilities).all(axis=1)
    return np.where(known, probabilities.argmax(axis=1) + 1, NO_TILE)


def _scales(card: Card, reference: Reference | None, features: bool) -> dict[Overlay, Scale]:
    scales: dict[Overlay, Scale] = {}
    for overlay in SCORED:
        name = card.scores.get(overlay.value)
        if not name or (not features and parse_score(name).needs_features):
            continue
        if scale := card_scale(name, card, reference):
            scales[overlay] = scale
    return scales
