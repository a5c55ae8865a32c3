"""Mahalanobis distances of features to the training features. Higher = more foreign."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.scores.detector import Bank, Detector, Doubles

NUISANCE_WEIGHT = 40.0
"""λ of ``invariant`` and ``invariant_knn``: how much more than other tissue a changed appearance
counts when directions are judged. Chosen by control tiles (other stain, scale, focus, noise,
compression), with no foreign tissue in view: all of lymph-node-he's stay below AUROC 0.60 against
unchanged ones, or as good as (docs/results.md). Larger weights remove tissue, too."""

CONSTANT_SHARE = 1e-3
"""A feature that never varies is given this share of the usual standard deviation."""


def l2_normalised(x: Doubles) -> Doubles:
    """Rows scaled to unit length; a row of zeros stays as it is."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.maximum(norm, np.finfo(np.float64).tiny))


@dataclass(frozen=True)
class Mahalanobis(Detector):
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

    # pytorch-ood has this one too, but without shrinkage (singular with fewer tiles than features,
    # where its distances turn negative) and in single precision.

    means: Doubles
    whitening: Doubles
    normalise: bool = False

    @classmethod
    def fit(cls, features: ArrayLike, labels: ArrayLike, normalise: bool = False) -> Mahalanobis:
        """Fit to features ``[N, D]`` and integer labels ``[N]``.

        Raises
        ------
        ValueError
            If shapes differ or fewer than two rows are given.
        """
        x, y = _checked(features, labels)
        if normalise:
            x = l2_normalised(x)
        means, centred = _class_means(x, y)
        whitening = _whitening(_shrunk_covariance(centred))
        return cls(means @ whitening, whitening, normalise)

    def squared(self, x: Doubles) -> Doubles:
        """Squared distance of rows ``[n, D]`` to the nearest class mean; [n]."""
        white = self.project(x)
        nearest = np.full(len(x), np.inf)
        for mean in self.means:
            away = white - mean
            np.minimum(nearest, np.einsum("nd,nd->n", away, away), out=nearest)
        return nearest

    def project(self, x: Doubles) -> Doubles:
        """Rows ``[n, D]`` in the space in which distances are taken; [n, D]."""
        return np.asarray((l2_normalised(x) if self.normalise else x) @ self.whitening)

    def score_rows(self, x: Doubles, logits: NDArray[np.floating] | None = None) -> Doubles:
        """Distance in standard deviations."""
        return np.asarray(np.sqrt(self.squared(x)))


def fit_invariant(features: ArrayLike, labels: ArrayLike, nuisance: ArrayLike) -> Mahalanobis:
    """Fit a Mahalanobis distance in which directions of appearance hardly count.

    Parameters
    ----------
    features, labels, nuisance : as ``invariant_whitening`` takes them
    """
    x, y = _checked(features, labels)
    whitening = invariant_whitening(x, y, nuisance)
    means, _ = _class_means(x, y)
    return Mahalanobis(means @ whitening, whitening)


def invariant_whitening(features: ArrayLike, labels: ArrayLike, nuisance: ArrayLike) -> Doubles:
    """Metric in which what changes the appearance of a tile hardly moves it.

    Σ = Σ_ID + λ · mean(d dᵀ), Σ_ID shrunk around the class means, d = features of a tile with
    another stain, scale, focus, noise or compression minus features of the same tile. Features are
    divided by their standard deviation first. In a direction in which changed appearance moves
    tiles far distances become small; what is left is tissue. Cf. within-class covariance
    normalisation (Hatch et al., Interspeech 2006) and nuisance attribute projection (Solomonoff et
    al., Odyssey 2004).

    Parameters
    ----------
    features : [N, D]
    labels : [N] int
    nuisance : [K, D], the differences d

    Returns
    -------
    [D, D] float64, W with W Wᵀ = Σ⁻¹: distances are those of ``features @ W``

    Raises
    ------
    ValueError
        If shapes differ, or fewer than two rows or no difference are given.
    """
    x, y = _checked(features, labels)
    d = np.asarray(nuisance, np.float64)
    if d.ndim != 2 or d.shape[1] != x.shape[1] or not len(d):
        raise ValueError(f"need differences [K ≥ 1, {x.shape[1]}], got {d.shape}")
    spread = x.std(axis=0)
    varying = spread[spread > 0]
    scale = np.maximum(spread, CONSTANT_SHARE * (np.median(varying) if len(varying) else 1.0))
    _, centred = _class_means(x / scale, y)
    d = d / scale
    whitening = _whitening(_shrunk_covariance(centred) + NUISANCE_WEIGHT * (d.T @ d) / len(d))
    return np.asarray(whitening / scale[:, None])


@dataclass(frozen=True)
class RelativeMahalanobis(Detector):
    """Squared distance to the nearest class less that to all training tiles; may be negative.

    min_c d_c²(x) − d_0²(x), d_0 under the mean and covariance of all tiles without their labels.
    Ren et al., *A simple fix to Mahalanobis distance for improving near-OOD detection*, 2021. Both
    covariances are shrunk as for ``Mahalanobis``.
    """

    # pytorch-ood's RMD inverts both covariances in single precision and unshrunk: on 2000 tiles of
    # 2560 features its scores are noise (r = -0.04 with the exact ones), hence this one.

    classes: Mahalanobis
    background: Mahalanobis

    @classmethod
    def fit(cls, features: ArrayLike, labels: ArrayLike) -> RelativeMahalanobis:
        """Fit to features ``[N, D]`` and integer labels ``[N]``; ValueError as for Mahalanobis."""
        together = Mahalanobis.fit(features, np.zeros(len(np.asarray(labels)), np.int64))
        return cls(Mahalanobis.fit(features, labels), together)

    def score_rows(self, x: Doubles, logits: NDArray[np.floating] | None = None) -> Doubles:
        """Difference of the squared distances."""
        return self.classes.squared(x) - self.background.squared(x)


@dataclass(frozen=True)
class MultiLayer(Detector):
    """Sum over feature blocks of their Mahalanobis distances, each standardised.

    Σ_b (d_b(x) − m_b) / s_b with mean m_b and standard deviation s_b of d_b over the training
    tiles, so that wide blocks don't drown narrow ones. After the feature ensemble of Lee et al.,
    NeurIPS 2018, without the weights that they fit to OOD data.
    """

    parts: tuple[tuple[slice, Mahalanobis, float, float], ...]

    @classmethod
    def fit(cls, bank: Bank) -> MultiLayer:
        """Fit one distance per block of the bank."""
        parts = []
        for columns in np.split(np.arange(sum(bank.widths)), np.cumsum(bank.widths)[:-1]):
            block = slice(int(columns[0]), int(columns[-1]) + 1)
            detector = Mahalanobis.fit(bank.features[:, block], bank.labels)
            own = detector.score(bank.features[:, block]).astype(np.float64)
            # Blocks in which no tile differs from another have no spread to divide by.
            parts.append((block, detector, float(own.mean()), float(own.std()) or 1.0))
        return cls(tuple(parts))

    def score_rows(self, x: Doubles, logits: NDArray[np.floating] | None = None) -> Doubles:
        """Sum of the standardised distances."""
        total = np.zeros(len(x))
        for block, detector, mean, spread in self.parts:
            total += (detector.score_rows(x[:, block]) - mean) / spread
        return total


def _checked(features: ArrayLike, labels: ArrayLike) -> tuple[Doubles, NDArray[np.int64]]:
    x = np.asarray(features, dtype=np.float64)
    y = np.asarray(labels)
    if x.ndim != 2 or y.shape != x.shape[:1] or len(x) < 2:
        raise ValueError(f"need features [N ≥ 2, D] and labels [N], got {x.shape}, {y.shape}")
    return x, y


def _class_means(x: Doubles, y: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
    """Class means ``[C, D]`` and rows around the mean of their own class ``[N, D]``."""
    classes, index = np.unique(y, return_inverse=True)
    means = np.stack([x[index == i].mean(axis=0) for i in range(len(classes))])
    return means, x - means[index]


def _shrunk_covariance(centred: Doubles) -> Doubles:
    from sklearn.covariance import ledoit_wolf  # slow to import, only needed to fit

    covariance, _ = ledoit_wolf(centred, assume_centered=True)
    return np.asarray(covariance)


def _whitening(covariance: Doubles) -> Doubles:
    """[D, D], so that ``x @ whitening`` has unit covariance."""
    # A feature that never varies in training has no scale; a floor keeps Σ invertible and makes
    # any departure in it count as very foreign, which it is.
    floor = 1e-9 * max(float(np.trace(covariance)) / len(covariance), 1e-30)
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors / np.sqrt(np.maximum(values, floor)))
