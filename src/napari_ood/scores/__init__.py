"""Scores: pure maths on arrays, Run → one float per tile, higher = worse."""

from napari_ood.scores.detector import Bank, Detector, HeadSample, row_chunks
from napari_ood.scores.distance import (
    NUISANCE_WEIGHT,
    Mahalanobis,
    MultiLayer,
    RelativeMahalanobis,
    fit_invariant,
)
from napari_ood.scores.heads import (
    disagreement,
    energy,
    entropy,
    maxlogit,
    mean_probability,
    msp,
)
from napari_ood.scores.nearest import NearestNeighbours
from napari_ood.scores.registry import (
    FEATURE_SCORES,
    HEAD_SCORES,
    ScoreSpec,
    parse_score,
    score_bounds,
)
from napari_ood.scores.subspace import Residual, ViM

__all__ = [
    "FEATURE_SCORES",
    "HEAD_SCORES",
    "NUISANCE_WEIGHT",
    "Bank",
    "Detector",
    "HeadSample",
    "Mahalanobis",
    "MultiLayer",
    "NearestNeighbours",
    "RelativeMahalanobis",
    "Residual",
    "ScoreSpec",
    "ViM",
    "disagreement",
    "energy",
    "entropy",
    "fit_invariant",
    "maxlogit",
    "mean_probability",
    "msp",
    "parse_score",
    "row_chunks",
    "score_bounds",
]
