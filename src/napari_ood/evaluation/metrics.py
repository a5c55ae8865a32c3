"""Metrics on arrays (numpy). Scores: higher = more uncertain / more foreign."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties half.

    Parameters
    ----------
    scores : [N] float
    positive : [N] bool

    Raises
    ------
    ValueError
        If a score is NaN or one of the two groups is empty.
    """
    s, p = _checked(scores, positive)
    n_positive, n_negative = int(p.sum()), int((~p).sum())
    # Mann–Whitney U from mid-ranks.
    _, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mid_rank = last - (counts - 1) / 2
    u = mid_rank[inverse][p].sum() - n_positive * (n_positive + 1) / 2
    return float(u / (n_positive * n_negative))


def ood_auroc(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """AUROC of telling OOD tiles (positives) from in-distribution tiles."""
    inside, outside = np.asarray(id_scores), np.asarray(ood_scores)
    positive = np.r_[np.zeros(len(inside), bool), np.ones(len(outside), bool)]
    return auroc(np.r_[inside, outside], positive)


def fpr_at_tpr(id_scores: ArrayLike, ood_scores: ArrayLike, tpr: float = 0.95) -> float:
    """Share of OOD tiles kept when at least ``tpr`` of the in-distribution tiles are kept.

    A tile is kept when its score is at most the threshold, the lowest in-distribution score that
    keeps enough of them: no interpolation, so ties and small sets can't give a false 0.
    """
    inside = np.sort(np.asarray(id_scores, np.float64))
    outside = np.asarray(ood_scores, np.float64)
    if not len(inside) or not len(outside) or np.isnan(inside).any() or np.isnan(outside).any():
        raise ValueError("FPR needs in-distribution and OOD scores, without NaN")
    # The subtraction keeps 0.95 · 100 = 95.00000000000001 from asking for one tile more.
    needed = max(1, int(np.ceil(tpr * len(inside) - 1e-9)))
    return float((outside <= inside[needed - 1]).mean())


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, n_bins: int = 15
) -> float:
    """ECE of the top probability in equal-width bins (Guo et al., ICML 2017).

    Parameters
    ----------
    probabilities : [N, C] float
    labels : [N] int
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = [
        (bins == b).mean() * abs(confidence[bins == b].mean() - right[bins == b].mean())
        for b in np.unique(bins)
    ]
    return float(np.sum(gaps))


def roc_curve(
    scores: ArrayLike, positive: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of the ROC curve, from (0, 0) to (1, 1); tied scores are one step.

    Returns
    -------
    false_positive_rate, true_positive_rate : [K] float64 each
        Shares of negatives and of positives above a falling threshold. The trapezoids under
        the curve sum to ``auroc``.
    """
    s, p = _checked(scores, positive)
    order = np.argsort(-s, kind="stable")
    last = np.flatnonzero(np.r_[s[order][1:] != s[order][:-1], True])
    hits = np.cumsum(p[order])[last]
    misses = last + 1 - hits
    return np.r_[0.0, misses / misses[-1]], np.r_[0.0, hits / hits[-1]]


def mean_auroc(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """AUROC of class probabilities ``[N, C]``: of class 1 for C = 2, else macro one-vs-rest.

    Raises
    ------
    ValueError
        If a class has no tiles, or all.
    """
    p, y = np.asarray(probabilities), np.asarray(labels)
    n_classes = p.shape[1]
    chosen = [1] if n_classes == 2 else range(n_classes)
    return float(np.mean([auroc(p[:, c], y == c) for c in chosen]))


def negative_log_likelihood(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean of −ln p of the true class, in nats; p is kept above 1e-12."""
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean())


def _checked(
    scores: ArrayLike, positive: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    s, p = np.asarray(scores, np.float64), np.asarray(positive, bool)
    if np.isnan(s).any() or not p.any() or p.all():
        raise ValueError("AUROC needs scores without NaN, of positives and of negatives")
    return s, p
