"""Scores in order, so that a threshold can be moved without looking at a million tiles again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_ood.scores.thresholds import Threshold

Floats = NDArray[np.float32]


class Ranked(NamedTuple):
    """Scores in ascending order, without NaN: counting those above a value takes microseconds.

    ``by_class`` are those of the tiles of each class; ``unclassed`` of the tiles without one.
    """

    by_class: tuple[Floats, ...]
    unclassed: Floats

    @property
    def n_scored(self) -> int:
        """Number of tiles that have a score."""
        return sum(map(len, self.by_class)) + len(self.unclassed)

    def n_above(self, threshold: Threshold) -> tuple[int, ...]:
        """Flagged tiles of each class; the last number is that of tiles without a class."""
        return tuple(_n_above(scores, threshold) for scores in (*self.by_class, self.unclassed))


def rank(scores: Floats, classes: NDArray[np.integer], n_classes: int) -> Ranked:
    """Sort scores ``[N]`` of the tiles of each class; ``classes`` ``[N]`` is −1 for none."""
    known = ~np.isnan(scores)
    parts = (np.sort(scores[known & (classes == c)]) for c in (*range(n_classes), -1))
    *by_class, unclassed = parts
    return Ranked(tuple(by_class), unclassed)


def _n_above(ascending: Floats, threshold: Threshold) -> int:
    return len(ascending) - int(np.searchsorted(ascending, threshold.value32, "right"))
