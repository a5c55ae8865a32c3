"""Selective prediction: what is left of the errors when uncertain tiles are set aside (numpy).

Scores: higher = more uncertain. Tiles of one score can't be told apart by a threshold, so they
enter together; no result depends on the order of the tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RiskCoverage:
    """The risk–coverage curve, one point per distinct score, least uncertain first.

    Attributes
    ----------
    coverage : [K] float64, share of the tiles that are accepted; ends at 1
    risk : [K] float64, errors among the accepted ÷ accepted
    generalised_risk : [K] float64, errors among the accepted ÷ all tiles
    """

    coverage: Floats
    risk: Floats
    generalised_risk: Floats


def risk_coverage(scores: ArrayLike, errors: ArrayLike) -> RiskCoverage:
    """Curve of accepting ever more uncertain tiles.

    Parameters
    ----------
    scores : [N] float
    errors : [N] bool, whether the prediction is wrong

    Raises
    ------
    ValueError
        If a score is NaN or there are none.
    """
    s, wrong = np.asarray(scores, np.float64), np.asarray(errors, bool)
    if not len(s) or s.shape != wrong.shape or np.isnan(s).any():
        raise ValueError("risk and coverage need scores without NaN, and one error flag for each")
    order = np.argsort(s, kind="stable")
    last = np.flatnonzero(np.r_[s[order][1:] != s[order][:-1], True])
    accepted = last + 1
    n_wrong = np.cumsum(wrong[order])[last]
    return RiskCoverage(accepted / len(s), n_wrong / accepted, n_wrong / len(s))


def aurc(scores: ArrayLike, errors: ArrayLike) -> float:
    """Area under the risk–coverage curve: the mean, over tiles, of the risk at that tile's score.

    Without ties it is 1/n Σₖ (errors among the k most certain) / k, as in Geifman & El-Yaniv,
    *Bias-reduced uncertainty estimation for deep neural classifiers*, ICLR 2019. Lower is better.
    """
    curve = risk_coverage(scores, errors)
    return float((curve.risk * np.diff(curve.coverage, prepend=0.0)).sum())


def augrc(scores: ArrayLike, errors: ArrayLike) -> float:
    """Area under the generalised-risk–coverage curve, integrated by trapezoids from (0, 0).

    Traub et al., *Overcoming common flaws in the evaluation of selective classification systems*,
    NeurIPS 2024. It is the chance that a tile is accepted *and* wrong, over all thresholds: with
    error rate e, ½e² is the optimum, ½e what a constant score gives, and AUGRC =
    (1 − AUROC of telling errors) · e(1 − e) + ½e². Lower is better.
    """
    curve = risk_coverage(scores, errors)
    coverage, risk = np.r_[0.0, curve.coverage], np.r_[0.0, curve.generalised_risk]
    return float((np.diff(coverage) * (risk[1:] + risk[:-1]) / 2).sum())
