"""What conformal prediction sets say of a run: how many tiles are one class, and which are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import ThresholdError

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.scores.conformal import Method


@dataclass(frozen=True)
class SetsAsked:
    """An error rate, 0 to 1, and ``lac`` or ``aps``."""

    error: float
    method: Method


@dataclass(frozen=True, eq=False)
class Sets:
    """Sizes of the sets of a run's tiles.

    Attributes
    ----------
    promise : what the sets mean, in words; or why there are none
    counts : tiles with no class, with one, with several
    index : [N, 2] row and column of the tiles
    unclear : [N] bool, tiles whose set is not a single class
    """

    promise: str
    counts: tuple[int, int, int]
    index: NDArray[np.int64]
    unclear: NDArray[np.bool_]

    def words(self) -> str:
        """Lines for the user."""
        total = sum(self.counts)
        promise = f"{self.promise[:1].upper()}{self.promise[1:]}."
        if not total:
            return promise
        none, one, several = (f"{n:,} ({100 * n / total:.1f} %)" for n in self.counts)
        sizes = f"One class: {one} tiles. Several: {several}."
        return f"{sizes} None fits: {none}.\n{promise} Foreign tiles have no such promise."


def work_out_sets(scored: ScoredRun, asked: SetsAsked) -> Sets:
    """Sets of every tile; where they cannot be had, a ``Sets`` of none that says why."""
    try:
        conformal = scored.conformal(asked.error, asked.method)
    except ThresholdError as error:
        return Sets(str(error), (0, 0, 0), scored.index[:0], np.zeros(0, bool))
    sizes = conformal.sets(scored.probabilities()).sum(axis=1)
    one = sizes == 1
    counts = (int((sizes == 0).sum()), int(one.sum()), int((sizes > 1).sum()))
    return Sets(conformal.words(), counts, scored.index, ~one)
