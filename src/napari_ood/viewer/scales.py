"""The fixed colour scale of a score and what its values mean. No Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import RunError
from napari_ood.models.reference import HIGH_QUANTILE, LOW_QUANTILE
from napari_ood.scores import parse_score, score_bounds

if TYPE_CHECKING:
    from napari_ood.models.card import Card
    from napari_ood.models.reference import Reference

Floats = NDArray[np.float32]

LOOSE_QUANTILES = (0.05, 0.995)
"""Of the slide's own tiles, where neither bounds nor a reference say what is usual."""


@dataclass(frozen=True)
class Scale:
    """The fixed colour scale of a score and what its values mean.

    Attributes
    ----------
    score : name of the score, such as ``"mahalanobis@layer1"``
    low, high : ends of the colour bar, the same on every slide if ``fixed``
    threshold : value above which 5 % of in-distribution validation tiles lie
    familiar : their scores, sorted; both are None without a reference
    fixed : False where only the slide itself could say what is usual
    """

    score: str
    low: float
    high: float
    threshold: float | None = None
    familiar: Floats | None = None
    fixed: bool = True

    def share_below(self, value: float) -> float | None:
        """Share of in-distribution tiles with a lower score, 0 to 1; None without a reference."""
        if self.familiar is None or not len(self.familiar):
            return None
        return float(np.searchsorted(self.familiar, value) / len(self.familiar))

    def share_of_bar(self, values: Floats) -> Floats:
        """Place on the colour bar, 0 to 1, NaN kept; float32 of the same shape."""
        share = (values - np.float32(self.low)) / np.float32(self.high - self.low)
        return np.asarray(np.clip(share, 0.0, 1.0), np.float32)


def card_scale(name: str, card: Card, reference: Reference | None) -> Scale | None:
    """Scale of a score of the card; None where nothing says what is usual.

    Raises
    ------
    RunError
        If there is no such score.
    """
    if reference is not None:
        low, high = reference.display_range(name)
        threshold = reference.quantile(name, HIGH_QUANTILE)
        return Scale(name, low, high, threshold, reference.validation_scores(name))
    try:
        low, high = score_bounds(name, card.n_classes, card.n_heads)
        needs_reference = parse_score(name).needs_reference
    except ValueError as error:
        raise RunError(f"the bundle's card names a score that does not exist: {error}") from error
    # Without a reference nothing says what is usual: only a score with bounds of its own has a
    # scale that means the same on every slide.
    bounded = np.isfinite([low, high]).all() and not needs_reference
    return Scale(name, low, high) if bounded else None


def chosen_scale(name: str, card: Card, familiar: Floats | None, values: Floats) -> Scale:
    """Scale of a score that the user chose: by the reference, the bounds, else by the slide itself.

    Parameters
    ----------
    familiar : [V] float32 ascending, scores of in-distribution tiles, or None
    values : [N] float32, scores of the slide's tiles
    """
    lowest, highest = score_bounds(name, card.n_classes, card.n_heads)
    if familiar is not None and len(familiar):
        p5, threshold = (float(np.quantile(familiar, q)) for q in (LOW_QUANTILE, HIGH_QUANTILE))
        low = max(p5, lowest)
        return Scale(name, low, _above(low, min(2 * threshold - low, highest)), threshold, familiar)
    if np.isfinite([lowest, highest]).all():
        return Scale(name, lowest, highest)
    finite = values[np.isfinite(values)]
    low, high = (float(q) for q in np.quantile(finite, LOOSE_QUANTILES)) if len(finite) else (0, 1)
    return Scale(name, low, _above(low, high), fixed=False)


def _above(low: float, high: float) -> float:
    """``high``, or a little more than ``low``: a constant score still needs a range."""
    return high if high > low else low + max(abs(low), 1.0) * 1e-3
