"""The bundle's held-out tiles with their labels: where errors lie, and what a threshold leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_ood.analysis.offered import depends_on_temperature
from napari_ood.evaluation.selective import RiskCoverage, risk_coverage
from napari_ood.scores import mean_probability, parse_score
from napari_ood.scores.conformal import Conformal, Method, fit_conformal

if TYPE_CHECKING:
    from napari_ood.analysis.memo import Memo
    from napari_ood.models import Reference
    from napari_ood.scores.thresholds import Threshold

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


class HeldOut(NamedTuple):
    """What a threshold does to the bundle's held-out tiles.

    ``coverage`` is the share that is kept, ``risk`` the share of wrong ones among the kept, None
    where none is kept; ``n_kept`` of ``n_tiles`` are.
    """

    coverage: float
    risk: float | None
    n_kept: int
    n_tiles: int


class HeldOutTiles:
    """V held-out in-distribution tiles of a reference, at its temperature.

    Names of scores are canonical, as ``ScoredRun.score_name`` gives them.

    Parameters
    ----------
    reference : Reference
    memo, shared : Memo
        Where results are kept: those of this temperature, and those of all temperatures.
    """

    def __init__(self, reference: Reference, memo: Memo, shared: Memo) -> None:
        self._reference, self._memo, self._shared = reference, memo, shared

    def scores(self, name: str) -> Floats:
        """Scores in the reference's order; [V] float32."""

        def compute() -> Floats:
            logits, features = (
                self._reference.validation_logits,
                self._reference.validation_features,
            )
            scores = self._reference.score(name, logits, features)
            scores.flags.writeable = False
            return scores

        memo = self._memo if depends_on_temperature(parse_score(name)) else self._shared
        return memo.get(("held-out scores", name), compute)

    def probabilities(self) -> Floats:
        """Mean over heads of the softmax; [V, C] float32."""
        return self._memo.get(
            "held-out probabilities",
            lambda: mean_probability(
                self._reference.validation_logits, self._reference.temperature
            ),
        )

    def errors(self) -> Bools:
        """Which tiles the model gets wrong; [V] bool."""
        return self._memo.get(
            "held-out errors",
            lambda: self.probabilities().argmax(axis=1) != self._reference.validation_labels,
        )

    def risk_curve(self, name: str) -> RiskCoverage | None:
        """Risk against coverage; None if no tile has a finite score."""

        def curve() -> RiskCoverage | None:
            known = np.isfinite(self.scores(name))
            if not known.any():
                return None
            return risk_coverage(self.scores(name)[known], self.errors()[known])

        return self._memo.get(("risk", name), curve)

    def at(self, threshold: Threshold) -> HeldOut | None:
        """Where a threshold lies on the risk–coverage curve; None where there is none."""
        known = np.isfinite(self.scores(threshold.score))
        kept = known & ~threshold.flags(self.scores(threshold.score))
        n_kept, n_tiles = int(kept.sum()), int(known.sum())
        if not n_tiles:
            return None
        risk = float(self.errors()[kept].mean()) if n_kept else None
        return HeldOut(n_kept / n_tiles, risk, n_kept, n_tiles)

    def conformal(self, error: float, method: Method) -> Conformal:
        """Prediction sets fitted to these tiles; ThresholdError as of ``fit_conformal``."""
        labels = self._reference.validation_labels
        return self._memo.get(
            ("conformal", error, method),
            lambda: fit_conformal(self.probabilities(), labels, error, method),
        )
