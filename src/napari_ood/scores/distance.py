"""Distance of features to the training features. Higher = more foreign."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CHUNK_ROWS = 65_536
"""Rows scored at a time, so that a million tiles don't need a second copy of their features."""


def _l2_normalised(x: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.maximum(norm, np.finfo(np.float64).tiny))


@dataclass(frozen=True)
class Mahalanobis:
    """Distance to the nearest class mean under one covariance shared by all classes.

    d(x) = min_c ‖W (x − μ_c)‖₂ with WᵀW = Σ⁻¹; Σ is the covariance around the class means, shrunk
    after Ledoit & Wolf 2004 so that it is well conditioned with few or collinear features.
    Lee et al., *A simple unified framework for detecting OOD samples and adversarial attacks*,
    NeurIPS 2018. With ``normalise`` the features are scaled to unit length first (Mahalanobis++,
    Müller & Hein, ICML 2025).

    Attributes
    ----------
    means : [C, D] float64, whitened class means W μ_c
    whitening : [D, D] float64, W transposed, so that ``x @ whitening`` is W x
    normalise : bool
    """

    means: NDArray[np.float64]
    whitening: NDArray[np.float64]
    normalise: bool = False

    @classmethod
    def fit(cls, features: ArrayLike, labels: ArrayLike, normalise: bool = False) -> Mahalanobis:
        """Fit to features ``[N, D]`` and integer labels ``[N]``.

        Raises
        ------
        ValueError
            If shapes differ or fewer than two rows are given.
        """
        from sklearn.covariance import ledoit_wolf  # slow to import, only needed here

        x = np.asarray(features, dtype=np.float64)
        y = np.asarray(labels)
        if x.ndim != 2 or y.shape != x.shape[:1] or len(x) < 2:
            raise ValueError(f"need features [N ≥ 2, D] and labels [N], got {x.shape}, {y.shape}")
        if normalise:
            x = _l2_normalised(x)
        classes, index = np.unique(y, return_inverse=True)
        means = np.stack([x[index == i].mean(axis=0) for i in range(len(classes))])
        covariance, _ = ledoit_wolf(x - means[index], assume_centered=True)
        # A feature that never varies in training has no scale; a floor keeps Σ invertible and
        # makes any departure in it count as very foreign, which it is.
        floor = 1e-9 * max(float(np.trace(covariance)) / len(covariance), 1e-30)
        values, vectors = np.linalg.eigh(covariance)
        whitening = vectors / np.sqrt(np.maximum(values, floor))
        return cls(means @ whitening, whitening, normalise)

    def score(self, features: ArrayLike) -> NDArray[np.float32]:
        """Distance of each row of ``[N, D]`` in standard deviations; [N] float32, NaN for NaN."""
        x = np.asarray(features)
        out = np.empty(len(x), np.float32)
        for start in range(0, len(x), CHUNK_ROWS):
            rows = x[start : start + CHUNK_ROWS].astype(np.float64)
            if self.normalise:
                rows = _l2_normalised(rows)
            white = rows @ self.whitening
            squared = [((white - mean) ** 2).sum(axis=1) for mean in self.means]
            out[start : start + CHUNK_ROWS] = np.sqrt(np.minimum.reduce(squared))
        return out
