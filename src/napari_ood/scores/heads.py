"""Scores of the heads' logits. Higher = more uncertain. Pure numpy.

All functions take logits ``[N, M, C]`` (tiles, heads, classes). p̄ is the mean over heads of the
softmax, p̄ = 1/M Σₘ softmax(zₘ / T), as in Linmans et al., *Efficient out-of-distribution detection
in digital pathology using multi-head convolutional neural networks*, MIDL 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


CHUNK_VALUES = 1 << 16
"""Logits that are worked on at a time: half a megabyte of float64 stays in a core's cache."""


def _per_tile(
    logits: ArrayLike, temperature: float, width: tuple[int, ...], compute: Callable[[Doubles], Any]
) -> Floats:
    """Fill [N, *width] float32 from pieces z / T of shape [C, M, n], n tiles side by side.

    Classes first, so that sums over them are sums of long rows: five times as fast as along the
    last, short axis.
    """
    z = np.asarray(logits)
    if z.ndim != 3:
        raise ValueError(f"logits must be [N, M, C], got shape {z.shape}")
    out = np.empty((len(z), *width), np.float32)
    step = max(1, CHUNK_VALUES // max(1, z.shape[1] * z.shape[2]))
    for start in range(0, len(z), step):
        rows = slice(start, start + step)
        piece = np.ascontiguousarray(z[rows].transpose(2, 1, 0), np.float64)
        out[rows] = compute(piece / temperature)
    return out


def _softmax(z: Doubles) -> Doubles:
    e = np.exp(z - z.max(axis=0))
    return np.asarray(e / e.sum(axis=0))


def _entropy(p: Doubles) -> Doubles:
    # 0 · log 0 = 0: a probability that underflows must not turn the entropy into NaN.
    return np.asarray(-(p * np.log(np.maximum(p, np.finfo(np.float64).tiny))).sum(axis=0))


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
    n_classes = np.asarray(logits).shape[-1]
    return _per_tile(logits, temperature, (n_classes,), lambda z: _softmax(z).mean(axis=1).T)


def entropy(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Entropy of the mean over heads, H(p̄), in nats: 0 to ln C. Returns [N] float32."""
    return _per_tile(logits, temperature, (), lambda z: _entropy(_softmax(z).mean(axis=1)))


def msp(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """One minus the maximum softmax probability of p̄: 0 to 1 − 1/C. Returns [N] float32.

    Hendrycks & Gimpel, *A baseline for detecting misclassified and OOD examples*, ICLR 2017.
    """
    return _per_tile(logits, temperature, (), lambda z: 1.0 - _softmax(z).mean(axis=1).max(axis=0))


def disagreement(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Mutual information between prediction and head, H(p̄) − mean H(pₘ), in nats; 0 for M = 1.

    Equals the Jensen–Shannon divergence of the heads. Returns [N] float32.
    """

    def information(z: Doubles) -> Doubles:
        p = _softmax(z)
        shared = _entropy(p.mean(axis=1)) - _entropy(p).mean(axis=0)
        # Never negative in exact arithmetic (Jensen); rounding must not make it so. NaN stays NaN.
        return np.asarray(np.maximum(shared, 0.0))

    return _per_tile(logits, temperature, (), information)


def maxlogit(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Minus the largest logit of the head-averaged logits. Returns [N] float32.

    Hendrycks et al., *Scaling OOD detection for real-world settings*, ICML 2022.
    """
    return _per_tile(logits, temperature, (), lambda z: -z.mean(axis=1).max(axis=0))


def energy(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Mean over heads of the free energy, −T · logsumexp(zₘ / T). Returns [N] float32.

    Liu et al., *Energy-based out-of-distribution detection*, NeurIPS 2020.
    """

    def free(z: Doubles) -> Doubles:
        top = z.max(axis=0)
        return np.asarray(-temperature * (top + np.log(np.exp(z - top).sum(axis=0))).mean(axis=0))

    return _per_tile(logits, temperature, (), free)


def dissenters(logits: ArrayLike, temperature: float = 1.0) -> NDArray[np.bool_]:
    """Which heads would not have made the prediction, argmax p̄.

    A head dissents when it finds another class more probable than the predicted one. So a head that
    is undecided between the two does not, and where p̄ itself is tied, to single precision, the
    first class is predicted, as everywhere.

    Parameters
    ----------
    logits : [N, M, C] float
    temperature : float
        p̄ depends on it, though the heads' own choices don't.

    Returns
    -------
    [N, M] bool; False where the logits are NaN
    """
    z = np.asarray(logits)
    predicted = mean_probability(z, temperature).argmax(axis=1)
    given = np.take_along_axis(z, predicted[:, None, None], axis=2)[:, :, 0]
    return np.asarray(z.max(axis=2) > given)


def dissent(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Number of heads that dissent, see `dissenters`: 0 to M, NaN for NaN. Returns [N] float32."""
    z = np.asarray(logits)
    count = dissenters(z, temperature).sum(axis=1).astype(np.float32)
    return np.where(np.isnan(z).any(axis=(1, 2)), np.float32(np.nan), count)
