"""Distance of features to the subspace of the training features. Higher = more foreign."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_ood.scores.detector import Bank, Detector, Doubles, HeadSample

LINEAR_TOLERANCE = 0.05
"""Heads count as linear in a block when that block gives their logits back to this share of the
logits' spread: stored features are rounded to half precision."""


@dataclass(frozen=True)
class Residual(Detector):
    """Length of what the principal subspace of the training features leaves of a feature.

    ‖R (x − u)‖₂, R the projection on all but the ``principal_dimension`` largest principal axes of
    x − u. u = −W̄⁺ b̄ where the heads' mean last layer W̄, b̄ reads these very features, else their
    mean. Wang et al., *ViM: out-of-distribution with virtual-logit matching*, CVPR 2022.

    Attributes
    ----------
    origin : [D] float64, u
    axes : [D, D − principal dimension] float64, orthonormal
    """

    origin: Doubles
    axes: Doubles

    @classmethod
    def fit(cls, bank: Bank) -> Residual:
        """Fit to the bank's features, and its heads where they are linear in these."""
        x = bank.features.astype(np.float64)
        head = _linear_head(bank.head)
        origin = x.mean(axis=0) if head is None else -np.linalg.pinv(head[0]) @ head[1]
        x = x - origin
        _, vectors = np.linalg.eigh(x.T @ x / len(x))
        return cls(origin, vectors[:, : x.shape[1] - principal_dimension(*x.shape)])

    def score_rows(self, x: Doubles, logits: NDArray[np.floating] | None = None) -> Doubles:
        """Length of the residual."""
        return np.asarray(np.linalg.norm((x - self.origin) @ self.axes, axis=1))


@dataclass(frozen=True)
class ViM(Detector):
    """Virtual-logit matching: α ‖R (x − u)‖ − logsumexp(z̄), z̄ the logits' mean over heads.

    α makes the residual as large as the largest logit, in the mean over tiles: the training tiles
    where the heads are linear in these features, else (heads with hidden layers, other blocks) the
    held-out tiles, whose logits the reference has. Wang et al., CVPR 2022.
    """

    # pytorch-ood's ViM computes the logits from the features by one linear layer, which heads with
    # hidden layers don't have. Where it applies, the two agree (see the tests).

    residual: Residual
    alpha: float

    @classmethod
    def fit(cls, bank: Bank) -> ViM:
        """Fit to the bank's features and heads.

        Raises
        ------
        ValueError
            If the bank has no heads.
        """
        if bank.head is None:
            raise ValueError("ViM needs the heads' last layer and logits")
        head = _linear_head(bank.head)
        if head is None:
            features, logits = bank.head.features, _mean_logits(bank.head.logits)
        else:
            features, logits = bank.features, bank.features.astype(np.float64) @ head[0].T + head[1]
        residual = Residual.fit(bank)
        length = float(residual.score(features).mean(dtype=np.float64))
        # Softmax doesn't care about a shift of all logits that makes the largest negative; a
        # negative α would call foreign tiles familiar.
        top = abs(float(logits.max(axis=1).mean()))
        return cls(residual, top / length if length > 0 else 1.0)

    def score_rows(self, x: Doubles, logits: NDArray[np.floating] | None) -> Doubles:
        """Virtual logit less the energy of the logits; ValueError without logits."""
        if logits is None:
            raise ValueError("ViM needs logits")
        z = _mean_logits(logits)
        top = z.max(axis=1)
        energy: Doubles = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
        return np.asarray(self.alpha * self.residual.score_rows(x) - energy)


def principal_dimension(n_rows: int, width: int) -> int:
    """Dimension of the principal subspace: the paper's rule, and half of what few tiles span."""
    usual = 1000 if width >= 2048 else 512 if width >= 768 else width // 2
    return min(usual, n_rows // 2)


def _mean_logits(logits: NDArray[np.floating]) -> Doubles:
    return np.asarray(np.asarray(logits, np.float64).mean(axis=1))


def _linear_head(head: HeadSample | None) -> tuple[Doubles, Doubles] | None:
    """W̄ ``[C, D]`` and b̄ ``[C]`` if they turn the head's features into its logits, else None."""
    if head is None or head.weight.shape[2] != head.features.shape[1]:
        return None
    weight = head.weight.astype(np.float64).mean(axis=0)
    bias = head.bias.astype(np.float64).mean(axis=0)
    logits = _mean_logits(head.logits)
    # A hidden layer may be as wide as the block: only the logits tell what the last layer reads.
    error = head.features.astype(np.float64) @ weight.T + bias - logits
    spread = float(logits.std()) or 1.0
    return (weight, bias) if float(np.abs(error).max()) <= LINEAR_TOLERANCE * spread else None
