"""Scores: pure maths on arrays, Run → one float per tile, higher = worse."""

from napari_ood.scores.distance import Mahalanobis
from napari_ood.scores.heads import (
    disagreement,
    energy,
    entropy,
    maxlogit,
    mean_probability,
    msp,
)
from napari_ood.scores.registry import (
    FEATURE_SCORES,
    HEAD_SCORES,
    ScoreSpec,
    parse_score,
    score_bounds,
)

__all__ = [
    "FEATURE_SCORES",
    "HEAD_SCORES",
    "Mahalanobis",
    "ScoreSpec",
    "disagreement",
    "energy",
    "entropy",
    "maxlogit",
    "mean_probability",
    "msp",
    "parse_score",
    "score_bounds",
]
