"""The maps a run fills: arrays with one value per tile. No Qt, no napari.

A worker thread writes tiles into the arrays with :meth:`Maps.put`; the GUI thread shows the same
arrays and asks :meth:`Maps.take_dirty` a few times per second whether to redraw. Nobody copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import RunError
from napari_ood.models.reference import HIGH_QUANTILE
from napari_ood.scores import mean_probability, parse_score, score_bounds

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ood.inference import Run
    from napari_ood.models import Bundle
    from napari_ood.models.card import Card
    from napari_ood.models.reference import Reference
    from napari_ood.slides import TileGrid

Pair = tuple[float, float]
Floats = NDArray[np.float32]

NO_TILE = 0
"""Value of the prediction map where there is no tile; class i is i + 1."""


class Overlay(StrEnum):
    """What can lie on the slide."""

    PREDICTION = "prediction"
    UNCERTAINTY = "uncertainty"
    APPEARANCE = "appearance"
    TISSUE = "tissue"
    OOD = "ood"


SCORED = tuple(overlay for overlay in Overlay if overlay is not Overlay.PREDICTION)
KINDS = (Overlay.APPEARANCE, Overlay.TISSUE)
"""The two kinds of foreign that some bundles tell apart."""

OPACITIES: Mapping[Overlay, float] = MappingProxyType(
    {Overlay.PREDICTION: 0.45, **dict.fromkeys(SCORED, 0.9)}
)
"""Opacity that each overlay starts with; scores also have opacity in their colormaps."""


@dataclass(frozen=True)
class Scale:
    """The fixed colour scale of a score and what its values mean.

    Attributes
    ----------
    score : name of the score, such as ``"mahalanobis@layer1"``
    low, high : ends of the colour bar, the same on every slide
    threshold : value above which 5 % of in-distribution validation tiles lie
    familiar : their scores, sorted; both are None without a reference
    """

    score: str
    low: float
    high: float
    threshold: float | None = None
    familiar: Floats | None = None

    def exceeded_by(self, value: float) -> bool:
        """Whether a value lies above the threshold; never without a reference."""
        return self.threshold is not None and value > self.threshold

    def share_below(self, value: float) -> float | None:
        """Share of in-distribution tiles with a lower score, 0 to 1; None without a reference."""
        if self.familiar is None or not len(self.familiar):
            return None
        return float(np.searchsorted(self.familiar, value) / len(self.familiar))


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


class Maps:
    """Prediction, probability and scores of a run on its grid of tiles.

    Attributes
    ----------
    grid : TileGrid
    mpp : (y, x) µm per level-0 pixel; None where images have no physical scale
    classes, colors : names and ``"#RRGGBB"`` per class
    whole_image : whether the only tile is an image, or a region of it, as a whole
    image_probabilities : [C] float32, of that image once it is done; None before, and on slides
    prediction : (rows, cols) uint16, class + 1, 0 where no tile
    probability : (rows, cols) float32, NaN where no tile
    scores : the same per overlay that has a colour scale
    bundle : what made the run; None when it is not at hand
    slide_record : what the run recorded of its slide (path, name, mpp, fingerprint)
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
    ) -> None:
        self.grid, self.mpp, self.path, self.bundle = grid, mpp, path, bundle
        self.slide_record = dict(slide_record or {})
        self.shape = (grid.rows, grid.cols)
        self.classes = tuple(card.classes)
        self.colors = tuple(card.colors)
        self.whole_image = card.whole_image
        self.image_probabilities: Floats | None = None
        self._temperature = card.temperature
        self._reference = bundle.reference if bundle is not None else None
        self.scales: Mapping[Overlay, Scale] = MappingProxyType(_scales(card, self._reference))
        self.prediction = np.full(self.shape, NO_TILE, np.uint16)
        self.probability = np.full(self.shape, np.nan, np.float32)
        self.scores: Mapping[Overlay, Floats] = {
            overlay: np.full(self.shape, np.nan, np.float32) for overlay in SCORED
        }
        self._dirty = False

    @classmethod
    def of_run(cls, run: Run, bundle: Bundle | None) -> Maps:
        """Maps of the finished tiles of a stored run.

        Without its bundle a run still has its prediction and the scores that need logits only.
        """
        record = run.provenance["slide"]
        mpp = (record["mpp"][0], record["mpp"][1]) if record["mpp"] else None
        card = bundle.card if bundle is not None else run.card
        maps = cls(run.grid, mpp, card, bundle, run.path, record)
        maps.fill_from(run)
        return maps

    def fill_from(self, run: Run) -> None:
        """Write every finished tile of a stored run."""
        self.put(run.index, run.logits, run.features)

    @property
    def name(self) -> str:
        """Name of the stored run, without its suffix."""
        return self.path.name.removesuffix(".ood.zarr") if self.path else "run"

    @property
    def overlays(self) -> tuple[Overlay, ...]:
        """The overlays that can be shown."""
        return (Overlay.PREDICTION, *(o for o in SCORED if o in self.scales))

    def array(self, overlay: Overlay) -> NDArray[np.uint16] | Floats:
        """The array of an overlay, (rows, cols)."""
        return self.prediction if overlay is Overlay.PREDICTION else self.scores[overlay]

    def put(self, index: NDArray[np.integer], logits: Floats, features: Floats) -> None:
        """Score tiles and write them; safe to call from a worker thread.

        Parameters
        ----------
        index : [n, 2] row and column
        logits : [n, M, C]
        features : [n, D]
        """
        if not len(index):
            return
        rows, cols = np.asarray(index).T
        p = mean_probability(logits, self._temperature)
        self.probability[rows, cols] = p.max(axis=1)
        for overlay, scale in self.scales.items():
            self.scores[overlay][rows, cols] = self._score(scale.score, logits, features)
        self.prediction[rows, cols] = p.argmax(axis=1) + 1
        if self.whole_image:
            self.image_probabilities = p[0]
        self._dirty = True

    def _score(self, name: str, logits: Floats, features: Floats) -> Floats:
        if self._reference is not None:
            return np.asarray(self._reference.score(name, logits, features), np.float32)
        from napari_ood.scores import HEAD_SCORES

        return HEAD_SCORES[name](logits, self._temperature)

    def take_dirty(self) -> bool:
        """Whether tiles were written since the last call."""
        dirty, self._dirty = self._dirty, False
        return dirty

    def counts(self) -> NDArray[np.int64]:
        """Number of tiles per predicted class, [C]."""
        return np.bincount(self.prediction.ravel(), minlength=len(self.classes) + 1)[1:]

    def readout(self, row: int, col: int) -> Readout | None:
        """What is known about the tile at (row, col); None where there is no finished tile."""
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
            foreign=tuple(o for o, v in kinds.items() if self.scales[o].exceeded_by(v)),
        )

    def _share(self, overlay: Overlay, values: Mapping[Overlay, float]) -> float | None:
        scale = self.scales.get(overlay)
        return scale.share_below(values[overlay]) if scale else None


def _scales(card: Card, reference: Reference | None) -> dict[Overlay, Scale]:
    scales: dict[Overlay, Scale] = {}
    for overlay in SCORED:
        name = card.scores.get(overlay.value)
        if name and (scale := _scale(name, len(card.classes), reference)):
            scales[overlay] = scale
    return scales


def _scale(name: str, n_classes: int, reference: Reference | None) -> Scale | None:
    if reference is not None:
        low, high = reference.display_range(name)
        threshold = reference.quantile(name, HIGH_QUANTILE)
        return Scale(name, low, high, threshold, reference.validation_scores(name))
    try:
        low, high = score_bounds(name, n_classes)
        needs_reference = parse_score(name).needs_reference
    except ValueError as error:
        raise RunError(f"the bundle's card names a score that does not exist: {error}") from error
    # Without a reference nothing says what is usual: only a score with bounds of its own has a
    # scale that means the same on every slide.
    bounded = np.isfinite([low, high]).all() and not needs_reference
    return Scale(name, low, high) if bounded else None
