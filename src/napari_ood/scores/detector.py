"""What every score of the features has in common: what it is fitted to, and how it meets rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Doubles = NDArray[np.float64]

CHUNK_BYTES = 1 << 25
"""Rows are scored in pieces of so many bytes of float64: a million tiles must not be copied."""


def row_chunks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Slices that cover ``n_rows`` rows, each at most ``CHUNK_BYTES`` of float64."""
    step = max(1, CHUNK_BYTES // (8 * max(1, n_columns)))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


class Detector(ABC):
    """A fitted score of the features: higher = more foreign."""

    def score(self, features: ArrayLike, logits: ArrayLike | None = None) -> NDArray[np.float32]:
        """Score each row of features ``[N, D]``; [N] float32, NaN where a feature is NaN.

        ``logits`` ``[N, M, C]`` are read by ViM only. What a row gets depends on that row alone.
        """
        x = np.asarray(features)
        z = None if logits is None else np.asarray(logits)
        out = np.empty(len(x), np.float32)
        for rows in row_chunks(*x.shape):
            out[rows] = self.score_rows(x[rows].astype(np.float64), None if z is None else z[rows])
        return out

    @abstractmethod
    def score_rows(self, x: Doubles, logits: NDArray[np.floating] | None) -> Doubles:
        """Score rows ``[n, D]`` that fit in memory; [n] float64."""


@dataclass(frozen=True)
class HeadSample:
    """The heads' last layer and what the heads say about held-out tiles; for ViM's scale.

    Attributes
    ----------
    weight, bias : [M, C, D_last], [M, C]
    features : [V, D], the same columns as the bank's
    logits : [V, M, C]
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    features: NDArray[np.float32]
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class Bank:
    """In-distribution tiles that a detector is fitted to.

    Attributes
    ----------
    features : [N, D], one or more feature blocks side by side
    labels : [N] int
    widths : columns of each block; their sum is D
    nuisance : [N, D], features of the same tiles with a changed appearance minus ``features``, or
        None
    head : HeadSample, or None
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    widths: tuple[int, ...] = ()
    nuisance: NDArray[np.float32] | None = None
    head: HeadSample | None = None
