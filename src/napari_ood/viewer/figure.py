"""What the dock of thresholds draws of one score, worked out once in a thread. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.viewer.scales import Scale

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.evaluation.selective import RiskCoverage

Floats = NDArray[np.float32]

N_BINS = 96


@dataclass(frozen=True, eq=False)
class Figure:
    """Distribution of a score on the slide and in distribution.

    Attributes
    ----------
    score : name of the score
    temperature : that it was computed at
    edges : [N_BINS + 1] float64; the outer bins also count what lies beyond them
    counts : [N_BINS] float64, share of the slide's tiles per bin
    familiar : [N_BINS] float64, share of in-distribution tiles; None without a reference
    curve : risk and coverage on the bundle's held-out tiles; None without them
    """

    score: str
    temperature: float
    edges: NDArray[np.float64]
    counts: NDArray[np.float64]
    familiar: NDArray[np.float64] | None
    curve: RiskCoverage | None

    @property
    def low(self) -> float:
        """Left end of the histogram."""
        return float(self.edges[0])

    @property
    def high(self) -> float:
        """Right end of the histogram."""
        return float(self.edges[-1])


def make_figure(scale: Scale, scored: ScoredRun) -> Figure:
    """Histograms of a score over the range of its colour bar, and a little more.

    The range is the bar's, so that histograms of several slides compare; it is widened to the
    left and right where tiles lie beyond, by at most half of the bar.
    """
    ranked = scored.ranked(scale.score)
    groups = [g for g in (*ranked.by_class, ranked.unclassed) if len(g)]
    width, low, high = scale.high - scale.low, scale.low, scale.high
    for group in groups:
        low = min(low, max(float(group[0]), scale.low - width / 2))
        high = max(high, min(float(group[-1]), scale.high + width / 2))
    edges = np.linspace(low, high, N_BINS + 1)
    return Figure(
        score=scale.score,
        temperature=scored.temperature,
        edges=edges,
        counts=_shares(groups, edges),
        familiar=None if scale.familiar is None else _shares([scale.familiar], edges),
        curve=scored.risk_curve(scale.score),
    )


def _shares(groups: Sequence[Floats], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of values per bin, of ascending groups; the outer bins count what lies beyond."""
    counts = np.zeros(len(edges) - 1)
    for values in groups:
        # Of sorted values, where the edges fall is all there is to find: no pass over the tiles.
        inner = np.searchsorted(values, edges[1:-1].astype(np.float32), side="right")
        counts += np.diff(np.r_[0, inner, len(values)])
    return np.asarray(counts / max(1.0, counts.sum()), np.float64)
