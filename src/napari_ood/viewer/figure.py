"""What the dock of thresholds draws of one score, worked out once in a thread. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.viewer.scales import Scale

if TYPE_CHECKING:
    from napari_ood.evaluation.selective import RiskCoverage

Floats = NDArray[np.float32]

N_BINS = 96


@dataclass(frozen=True, eq=False)
class Figure:
    """Distribution of a score on the slide and in distribution.

    Attributes
    ----------
    score : name of the score
    edges : [N_BINS + 1] float64; the outer bins also count what lies beyond them
    counts : [N_BINS] float64, share of the slide's tiles per bin
    familiar : [N_BINS] float64, share of in-distribution tiles; None without a reference
    values : [N] float32 ascending, scores of the slide's tiles without NaN
    n_unscored : tiles without a score
    curve : risk and coverage on the bundle's held-out tiles; None without them
    """

    score: str
    edges: NDArray[np.float64]
    counts: NDArray[np.float64]
    familiar: NDArray[np.float64] | None
    values: Floats
    n_unscored: int
    curve: RiskCoverage | None

    @property
    def low(self) -> float:
        """Left end of the histogram."""
        return float(self.edges[0])

    @property
    def high(self) -> float:
        """Right end of the histogram."""
        return float(self.edges[-1])


def make_figure(scale: Scale, values: Floats, curve: RiskCoverage | None = None) -> Figure:
    """Histograms of a score over the range of its colour bar, and a little more.

    The range is the bar's, so that histograms of several slides compare; it is widened to the
    left and right where tiles lie beyond, by at most half of the bar.
    """
    known = np.sort(values[np.isfinite(values)])
    width = scale.high - scale.low
    low, high = scale.low, scale.high
    if len(known):
        low = min(low, max(float(known[0]), low - width / 2))
        high = max(high, min(float(known[-1]), high + width / 2))
    edges = np.linspace(low, high, N_BINS + 1)
    return Figure(
        score=scale.score,
        edges=edges,
        counts=_shares(known, edges),
        familiar=None if scale.familiar is None else _shares(scale.familiar, edges),
        values=known,
        n_unscored=len(values) - len(known),
        curve=curve,
    )


def _shares(ascending: Floats, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of values per bin; what lies beyond the edges counts in the outer bins."""
    # Of sorted values, where the edges fall is all there is to find: no pass over a million tiles.
    inner = np.searchsorted(ascending, edges[1:-1].astype(np.float32), side="right")
    counts = np.diff(np.r_[0, inner, len(ascending)])
    return np.asarray(counts / max(1, len(ascending)), np.float64)
