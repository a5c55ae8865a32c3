"""Scores: pure maths on arrays, Run → one float per tile, higher = worse."""

from napari_ood.scores.conformal import Conformal, fit_conformal
from napari_ood.scores.detector import Bank, Detector, HeadSample, row_chunks
from napari_ood.scores.distance import (
    NUISANCE_WEIGHT,
    Mahalanobis,
    MultiLayer,
    RelativeMahalanobis,
    fit_invariant,
    invariant_whitening,
)
from napari_ood.scores.heads import (
    disagreement,
    dissent,
    dissenters,
    energy,
    entropy,
    maxlogit,
    mean_probability,
    msp,
)
from napari_ood.scores.nearest import InvariantNeighbours, NearestNeighbours
from napari_ood.scores.registry import (
    FEATURE_SCORES,
    HEAD_SCORES,
    NEED_CHANGED_TILES,
    ScoreSpec,
    parse_score,
    score_bounds,
)
from napari_ood.scores.subspace import Residual, ViM
from napari_ood.scores.thresholds import (
    Meaning,
    Threshold,
    coverage_threshold,
    keep_threshold,
    risk_threshold,
    value_threshold,
)

__all__ = [
    "FEATURE_SCORES",
    "HEAD_SCORES",
    "NEED_CHANGED_TILES",
    "NUISANCE_WEIGHT",
    "Bank",
    "Conformal",
    "Detector",
    "HeadSample",
    "InvariantNeighbours",
    "Mahalanobis",
    "Meaning",
    "MultiLayer",
    "NearestNeighbours",
    "RelativeMahalanobis",
    "Residual",
    "ScoreSpec",
    "Threshold",
    "ViM",
    "coverage_threshold",
    "disagreement",
    "dissent",
    "dissenters",
    "energy",
    "entropy",
    "fit_conformal",
    "fit_invariant",
    "invariant_whitening",
    "keep_threshold",
    "maxlogit",
    "mean_probability",
    "msp",
    "parse_score",
    "risk_threshold",
    "row_chunks",
    "score_bounds",
    "value_threshold",
]
