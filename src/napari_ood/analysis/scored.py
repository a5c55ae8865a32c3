"""A scored run with its bundle's held-out tiles beside it: thresholds that mean something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.analysis.held_out import HeldOut, HeldOutTiles
from napari_ood.analysis.run_scores import RunScores
from napari_ood.errors import ThresholdError
from napari_ood.scores.conformal import Conformal, Method
from napari_ood.scores.thresholds import (
    DEFAULT_KEEP,
    Meaning,
    Threshold,
    coverage_threshold,
    keep_threshold,
    risk_threshold,
    value_threshold,
)

if TYPE_CHECKING:
    from napari_ood.evaluation.selective import RiskCoverage

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


class ScoredRun(RunScores):
    """A run, its bundle if that is at hand, and a temperature: everything that a user may ask of.

    Parameters and errors are those of :class:`RunScores`; V counts the bundle's held-out tiles.
    """

    # --- held-out tiles --------------------------------------------------------------------------

    @property
    def validation(self) -> HeldOutTiles | None:
        """The bundle's held-out tiles at this temperature; None without a reference."""
        reference = self.reference
        if reference is None:
            return None
        return self._memo.get(
            "validation", lambda: HeldOutTiles(reference, self._memo, self._shared)
        )

    def validation_scores(self, name: str) -> Floats | None:
        """Scores of the held-out tiles in the reference's order; [V] float32, None without."""
        name = self.score_name(name)
        return None if self.validation is None else self.validation.scores(name)

    def validation_errors(self) -> Bools | None:
        """Which held-out tiles the model gets wrong, at this temperature; [V] bool."""
        return None if self.validation is None else self.validation.errors()

    def risk_curve(self, name: str) -> RiskCoverage | None:
        """Risk against coverage on the held-out tiles; None without a reference.

        Held-out tiles whose score is not finite are left out; None if no other is left.
        """
        name = self.score_name(name)
        return None if self.validation is None else self.validation.risk_curve(name)

    def held_out(self, threshold: Threshold) -> HeldOut | None:
        """Where a threshold lies on :meth:`risk_curve`; None where there is none."""
        return None if self.validation is None else self.validation.at(threshold)

    def conformal(self, error: float, method: Method = "lac") -> Conformal:
        """Prediction sets with a chosen error rate: ``.sets(scored.probabilities())``.

        Raises
        ------
        ThresholdError
            Without a reference, or with too few held-out tiles for so small an error rate.
        """
        if self.validation is None:
            why_not = self._find_bundle()[1] or f"bundle {self.card.name!r} has no reference"
            raise ThresholdError(f"prediction sets need held-out tiles with labels: {why_not}")
        return self.validation.conformal(error, method)

    # --- thresholds ------------------------------------------------------------------------------

    def threshold(
        self, name: str, meaning: Meaning = Meaning.KEEP, parameter: float = DEFAULT_KEEP
    ) -> Threshold:
        """Threshold on a score (name or role) that means what is asked for.

        Parameters
        ----------
        name : score or role
        meaning : Meaning
        parameter : share of tiles to keep, errors to allow, or for ``Meaning.VALUE`` the value

        Raises
        ------
        ThresholdError
            If that is out of reach, saying what to do instead; errors of :meth:`score` as well.
        """
        name = self.score_name(name)
        bundle, why_not = self._find_bundle()
        if bundle is None and meaning in (Meaning.KEEP, Meaning.RISK):
            raise ThresholdError(f"{why_not}; or choose coverage or a plain value")
        if meaning is Meaning.KEEP:
            return keep_threshold(name, self.familiar(name), parameter)
        if meaning is Meaning.RISK:
            return risk_threshold(
                name, self.validation_scores(name), self.validation_errors(), parameter
            )
        if meaning is Meaning.COVERAGE:
            return coverage_threshold(name, self.score(name), parameter)
        return value_threshold(name, parameter)

    def renewed(self, threshold: Threshold, name: str | None = None) -> Threshold:
        """Return what a threshold means at this temperature, on its own score or another.

        A plain value stays, on its own score; on another one it means nothing (ThresholdError).
        """
        name = threshold.score if name is None else self.score_name(name)
        if threshold.parameter is not None:
            return self.threshold(name, threshold.meaning, threshold.parameter)
        if name != threshold.score:
            raise ThresholdError(
                f"the value {threshold.value:.4g} belongs to {threshold.score!r}: choose one for "
                f"{name!r}"
            )
        return threshold

    def flagged(self, threshold: Threshold) -> Bools:
        """Which tiles are above a threshold; [N] bool, False where the score is NaN."""
        return threshold.flags(self.score(threshold.score))
