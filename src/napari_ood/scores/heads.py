"""Scores of the heads' logits. Higher = more uncertain. Pure numpy.

All functions take logits ``[N, M, C]`` (tiles, heads, classes). p̄ is the mean over heads of the
softmax, p̄ = 1/M Σₘ softmax(zₘ / T), as in Linmans et al., *Efficient out-of-distribution detection
in digital pathology using multi-head convolutional neural networks*, MIDL 2020.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]


def _f32(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float32)


def _log_softmax(logits: ArrayLike, temperature: float) -> NDArray[np.float64]:
    z = np.asarray(logits, dtype=np.float64) / temperature
    if z.ndim != 3:
        raise ValueError(f"logits must be [N, M, C], got shape {z.shape}")
    z = z - z.max(axis=-1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=-1, keepdims=True)))


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    # 0 · log 0 = 0: a probability that underflows must not turn the entropy into NaN.
    return np.asarray(-(p * np.log(np.maximum(p, np.finfo(np.float64).tiny))).sum(axis=-1))


def mean_probability(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Mean over heads of the softmax, p̄.

    Parameters
    ----------
    logits : [N, M, C] float
    temperature : float
        Divides the logits before the softmax.

    Returns
    -------
    [N, C] float32
    """
    return _f32(np.exp(_log_softmax(logits, temperature)).mean(axis=1))


def entropy(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Entropy of the mean over heads, H(p̄), in nats: 0 to ln C. Returns [N] float32."""
    p = np.exp(_log_softmax(logits, temperature)).mean(axis=1)
    return _f32(_entropy(p))


def msp(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """One minus the maximum softmax probability of p̄: 0 to 1 − 1/C. Returns [N] float32.

    Hendrycks & Gimpel, *A baseline for detecting misclassified and OOD examples*, ICLR 2017.
    """
    p = np.exp(_log_softmax(logits, temperature)).mean(axis=1)
    return _f32(1.0 - p.max(axis=-1))


def disagreement(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Mutual information between prediction and head, H(p̄) − mean H(pₘ), in nats; 0 for M = 1.

    Equals the Jensen–Shannon divergence of the heads. Returns [N] float32.
    """
    p = np.exp(_log_softmax(logits, temperature))
    information = _entropy(p.mean(axis=1)) - _entropy(p).mean(axis=1)
    # Never negative in exact arithmetic (Jensen); rounding must not make it so. NaN stays NaN.
    return _f32(np.maximum(information, 0.0))


def maxlogit(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Minus the largest logit of the head-averaged logits. Returns [N] float32.

    Hendrycks et al., *Scaling OOD detection for real-world settings*, ICML 2022.
    """
    z = np.asarray(logits, dtype=np.float64).mean(axis=1) / temperature
    return _f32(-z.max(axis=-1))


def energy(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Mean over heads of the free energy, −T · logsumexp(zₘ / T). Returns [N] float32.

    Liu et al., *Energy-based out-of-distribution detection*, NeurIPS 2020.
    """
    z = np.asarray(logits, dtype=np.float64) / temperature
    top = z.max(axis=-1, keepdims=True)
    per_head = (top + np.log(np.exp(z - top).sum(axis=-1, keepdims=True)))[..., 0]
    return _f32(-temperature * per_head.mean(axis=1))
