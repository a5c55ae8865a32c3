"""Distance to the nearest training features. Higher = more foreign."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.scores.detector import Bank, Detector, Doubles, row_chunks
from napari_ood.scores.distance import invariant_whitening, l2_normalised
from napari_ood.torch_import import load_torch

if TYPE_CHECKING:
    from pytorch_ood.detector import KNN
    from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 50
SEARCH_COLUMNS = 4 * NEIGHBOURS
FEW_NEIGHBOURS = 10
"""k of ``invariant_knn``. With fewer it sees changes of appearance a little more (control tiles of
lymph-node-he: largest AUROC 0.613 with 2, 0.597 with 10), with 50 it finds less foreign tissue. For
photographs the nearest one (``invariant_nn``) finds more; chosen on a class left out, in images
that no result is of: see docs/results.md."""


@dataclass(frozen=True)
class NearestNeighbours(Detector):
    """Euclidean distance to the k-th nearest of all training features, of unit length: 0 to 2.

    k is 50, or the number of training tiles where there are fewer. Sun et al., *Out-of-distribution
    detection with deep nearest neighbors*, ICML 2022.
    """

    knn: KNN

    @classmethod
    def fit(cls, features: ArrayLike) -> NearestNeighbours:
        """Keep features ``[N, D]`` to search; loads torch. ValueError when there are none."""
        load_torch()  # scores are numpy elsewhere: only who asks for this one pays for torch
        import torch
        from pytorch_ood.detector import KNN

        x = np.asarray(features, np.float64)
        if x.ndim != 2 or not len(x):
            raise ValueError(f"need features [N ≥ 1, D], got {x.shape}")
        knn = KNN(None, k=min(NEIGHBOURS, len(x)))
        knn.fit_features(torch.from_numpy(x), torch.zeros(len(x), dtype=torch.int64))
        return cls(knn)

    def score_rows(self, x: Doubles, logits: NDArray[np.floating] | None = None) -> Doubles:
        """Distance to the k-th neighbour."""
        import torch

        out = np.full(len(x), np.nan)
        known = np.flatnonzero(np.isfinite(x).all(axis=1))  # the search refuses anything else
        # The search returns all k distances and neighbours: more than narrow features take.
        for rows in row_chunks(len(known), max(x.shape[1], SEARCH_COLUMNS)):
            found = self.knn.predict_features(torch.from_numpy(x[known[rows]]))
            out[known[rows]] = found.numpy()
        return out


@dataclass(frozen=True)
class InvariantNeighbours(Detector):
    """Distance to the k-th nearest training tile in a metric blind to appearance.

    Each block of the features is scaled to unit length, and all are whitened by
    ``invariant_whitening``.

    Attributes
    ----------
    whitening : [D, D] float64
    widths : columns of each block
    search : over the whitened training features
    """

    # pytorch-ood's KNN scales what it is given to unit length, which would undo the whitening.

    whitening: Doubles
    widths: tuple[int, ...]
    search: NearestNeighbors

    @classmethod
    def fit(cls, bank: Bank, k: int = FEW_NEIGHBOURS) -> InvariantNeighbours:
        """Keep the bank's tiles to search the k nearest of, or all where there are fewer.

        Raises
        ------
        ValueError
            Without features of changed tiles.
        """
        from sklearn.neighbors import NearestNeighbors  # slow to import, only needed here

        if bank.nuisance is None:
            raise ValueError("nearest invariant neighbours need features of changed tiles")
        x = np.asarray(bank.features, np.float64)
        widths = bank.widths or (x.shape[1],)
        plain, changed = (_unit_blocks(rows, widths) for rows in (x, x + bank.nuisance))
        whitening = invariant_whitening(plain, bank.labels, changed - plain)
        search = NearestNeighbors(n_neighbors=min(k, len(x)), algorithm="brute")
        return cls(whitening, widths, search.fit(plain @ whitening))

    def score_rows(self, x: Doubles, logits: NDArray[np.floating] | None = None) -> Doubles:
        """Distance to the k-th neighbour, in standard deviations."""
        out = np.full(len(x), np.nan)
        known = np.isfinite(x).all(axis=1)  # the search refuses anything else
        if known.any():
            out[known] = self.search.kneighbors(self.project(x[known]))[0][:, -1]
        return out

    def project(self, x: Doubles) -> Doubles:
        """Rows ``[n, D]`` in the space in which distances are taken; [n, D]."""
        return _unit_blocks(x, self.widths) @ self.whitening


def _unit_blocks(x: Doubles, widths: tuple[int, ...]) -> Doubles:
    """Rows with each block of columns scaled to unit length."""
    edges = np.cumsum((0, *widths))
    return np.concatenate([l2_normalised(x[:, a:b]) for a, b in pairwise(edges)], axis=1)
