"""Conformal prediction sets: the classes that can't be ruled out at a chosen error rate (numpy).

On tiles that are exchangeable with the held-out ones, the set lacks the true class with at most the
chosen probability, on average over tiles and over held-out samples, whatever the model. On foreign
tiles it promises nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.errors import ThresholdError
from napari_ood.scores.detector import row_chunks

Method = Literal["lac", "aps"]
DECIMALS = 6
"""To which sums of probabilities are compared."""
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class Conformal:
    """A rule that turns probabilities into sets of classes.

    Attributes
    ----------
    quantile : classes whose nonconformity is not above it belong to the set
    error : the error rate α that was asked for
    method : ``lac`` or ``aps``
    n : held-out tiles that it was fitted to
    """

    quantile: float
    error: float
    method: Method
    n: int

    def sets(self, probabilities: ArrayLike) -> NDArray[np.bool_]:
        """Which classes can't be ruled out; [N, C] bool.

        A set may hold several classes (the tile is ambiguous) or, with ``lac``, none (no class
        fits). A row of NaN gets none.

        Parameters
        ----------
        probabilities : [N, C] float
        """
        p = np.asarray(probabilities)
        inside = np.zeros(p.shape, bool)
        for rows in row_chunks(*p.shape):
            inside[rows] = self._rows(p[rows])
        return inside

    def _rows(self, p: NDArray[np.floating]) -> NDArray[np.bool_]:
        inside = nonconformity(p, self.method) <= self.quantile
        if self.method == "aps":
            # Adaptive sets say how hard a tile is by their size; they hold at least one class.
            inside |= p == p.max(axis=1, keepdims=True)
        return inside

    def words(self) -> str:
        """One line that tells the user what the sets mean."""
        return (
            f"sets of classes that lack the true one on at most {100 * self.error:.6g} % of tiles "
            f"like the {self.n:,} held-out ones"
        )


def fit_conformal(
    probabilities: ArrayLike, labels: ArrayLike, error: float, method: Method = "lac"
) -> Conformal:
    """Split conformal prediction: the finite-sample quantile of held-out nonconformity.

    The quantile is the ⌈(n + 1)(1 − α)⌉-th smallest of n nonconformity scores, after Vovk et al.;
    see Angelopoulos & Bates, *A gentle introduction to conformal prediction*, 2021. ``lac``: least
    ambiguous sets, 1 − p of the true class (Sadinle et al., JASA 2019), the smallest sets on
    average. ``aps``: adaptive sets, the probability of all classes that are at least as likely as
    the true one (Romano et al., NeurIPS 2020, not randomised), larger where the model is unsure.

    Parameters
    ----------
    probabilities : [V, C] float, of held-out tiles; rows with NaN are left out
    labels : [V] int, their true classes
    error : α, above 0 and below 1
    method : ``lac`` or ``aps``

    Raises
    ------
    ThresholdError
        For an error rate that is none, or that needs more held-out tiles.
    ValueError
        If shapes don't fit, labels are out of range, or the method is unknown.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    if p.ndim != 2 or y.shape != p.shape[:1]:
        raise ValueError(f"need probabilities [V, C] and labels [V], got {p.shape}, {y.shape}")
    if len(y) and not 0 <= y.min() <= y.max() < p.shape[1]:
        raise ValueError(f"labels must be from 0 to {p.shape[1] - 1}")
    if not 0 < error < 1:
        raise ThresholdError(f"an error rate must be above 0 and below 1, not {error}")
    scores = nonconformity(p, method)[np.arange(len(y)), y]
    scores = scores[~np.isnan(scores)]
    n = len(scores)
    rank = conformal_rank(n, error)
    if rank > n:
        raise ThresholdError(
            f"prediction sets with {100 * error:.6g} % errors need at least "
            f"{conformal_minimum(error):,} held-out tiles, the bundle has {n:,}: allow more errors"
        )
    return Conformal(float(np.partition(scores, rank - 1)[rank - 1]), error, method, n)


def nonconformity(probabilities: NDArray[np.floating], method: Method) -> NDArray[np.float64]:
    """How badly each class fits; [N, C] float64, NaN in rows that hold NaN.

    What a class gets does not depend on the order of the classes: equally likely ones are equal.
    """
    p = np.asarray(probabilities, np.float64)
    unknown = np.isnan(p).any(axis=1, keepdims=True)
    if method == "lac":
        scores = 1.0 - p
    elif method == "aps":
        scores = _cumulated(p)
    else:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    return np.where(unknown, np.nan, scores)


def _cumulated(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of all classes that are at least as likely; [N, C]."""
    total = np.cumsum(-np.sort(-p, axis=1), axis=1)
    last = np.stack([(p >= p[:, [c]]).sum(axis=1) for c in range(p.shape[1])], axis=1) - 1
    # The sum of a row's float32 probabilities is 1 up to rounding, which must not rule out a class.
    return np.round(np.take_along_axis(total, np.maximum(last, 0), axis=1), DECIMALS)


def conformal_rank(n: int, error: float) -> int:
    """⌈(n + 1)(1 − α)⌉, without being misled by rounding: 20 · 0.95 is 19."""
    return math.ceil((n + 1) * (1.0 - error) * (1 - 1e-12))


def conformal_minimum(error: float) -> int:
    """Fewest held-out tiles with which an error rate can be promised: ⌈1/α⌉ − 1."""
    return math.ceil(1.0 / error * (1 - 1e-12)) - 1
