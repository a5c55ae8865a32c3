"""Distance to the nearest training features, through pytorch-ood. Higher = more foreign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.scores.detector import Detector, Doubles, row_chunks

if TYPE_CHECKING:
    from pytorch_ood.detector import KNN

NEIGHBOURS = 50
SEARCH_COLUMNS = 4 * NEIGHBOURS


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
        import torch  # scores are numpy elsewhere: only who asks for this one pays for torch
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
