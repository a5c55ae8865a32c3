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
    s, p = np.asarray(scores, np.float64), np.asarray(positive, bool)
    n_positive, n_negative = int(p.sum()), int((~p).sum())
    if np.isnan(s).any() or not n_positive or not n_negative:
        raise ValueError("AUROC needs scores without NaN, of positives and of negatives")
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
    if not len(inside) or not len(outside):
        raise ValueError("FPR needs in-distribution and OOD scores")
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


def bootstrap_interval(
    id_scores: ArrayLike, ood_scores: ArrayLike, n: int = 200, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of ``ood_auroc``, resampling tiles of both groups ``n`` times."""
    rng = np.random.default_rng(seed)
    inside, outside = np.asarray(id_scores), np.asarray(ood_scores)
    values: NDArray[np.float64] = np.array(
        [
            ood_auroc(
                inside[rng.integers(len(inside), size=len(inside))],
                outside[rng.integers(len(outside), size=len(outside))],
            )
            for _ in range(n)
        ]
    )
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
