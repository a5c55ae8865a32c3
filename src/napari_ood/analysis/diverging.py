"""Where two runs part ways most, as regions to go and look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from napari_ood.analysis.regions import regions_of

if TYPE_CHECKING:
    from napari_ood.analysis.difference import RunDifference
    from napari_ood.analysis.regions import Region

Ints = NDArray[np.int64]

NOWHERE = -1
MOST_REGIONS = 200
"""More than anybody looks at; each costs a little to build."""


class By(StrEnum):
    """What two runs differ in."""

    SCORE = "score"
    CLASS = "class"


@dataclass(frozen=True, eq=False)
class Divergence:
    """Connected tiles on which two runs differ in one direction.

    Attributes
    ----------
    number : int, rank from 1
    pairs : [n] int64, positions in the difference
    peak : B − A where it is furthest from 0; NaN where no score is known
    mean : mean of B − A; NaN where no score is known
    label_a, label_b : the most frequent pair of predicted classes
    box : level-0 y, x, h, w around all tiles
    centre : level-0 y, x of the tile with the peak, so that it is never in a hole
    area_mm2 : None where µm per pixel are not known
    key : row and column of that tile on the finer grid
    """

    number: int
    pairs: Ints
    peak: float
    mean: float
    label_a: str
    label_b: str
    box: tuple[float, float, float, float]
    centre: tuple[float, float]
    area_mm2: float | None
    key: str

    @property
    def n_tiles(self) -> int:
        """Number of tiles of the finer grid."""
        return len(self.pairs)


def threshold_of(difference: RunDifference) -> float:
    """|B − A| from which tiles count as diverging in their score: half of the colour bar."""
    return difference.scale.limit / 2


def diverging_regions(
    difference: RunDifference,
    by: By | str = By.SCORE,
    at_least: float | None = None,
    most: int = MOST_REGIONS,
) -> tuple[Divergence, ...]:
    """Regions where the runs diverge, the worst first.

    Parameters
    ----------
    difference : RunDifference
    by : ``"score"``: tiles with |B − A| ≥ ``at_least``, rises apart from falls, ranked by the peak;
        ``"class"``: tiles with different predictions, each pair of classes apart, ranked by area
    at_least : float, optional
        :func:`threshold_of` by default; only for ``"score"``.
    most : int
        The best-ranked so many are built.
    """
    by = By(by)
    codes = _directions(difference, at_least) if by is By.SCORE else _pairs(difference)
    pairs, starts = _connected(difference, codes)
    if not len(starts):
        return ()
    peaks = np.maximum.reduceat(np.abs(np.nan_to_num(difference.delta[pairs])), starts)
    stops = np.append(starts[1:], len(pairs))
    ranks = (peaks, stops - starts) if by is By.CLASS else (stops - starts, peaks)
    worst = np.lexsort(ranks)[::-1][:most].tolist()
    return tuple(
        _build(difference, pairs[starts[i] : stops[i]], number)
        for number, i in enumerate(worst, start=1)
    )


def as_regions(
    difference: RunDifference,
    divergences: Iterable[Divergence] | None = None,
    side: Literal["a", "b"] = "a",
) -> tuple[Region, ...]:
    """Divergences as regions of one of the two runs, to be stepped through and judged like others.

    Where the runs' grids differ, a tile of the coarser one goes to the first divergence that has
    it; a divergence that is left without any tile has no region.

    Parameters
    ----------
    difference : RunDifference
    divergences : in the order of the regions; by default :func:`diverging_regions`
    side : the run on whose grid the regions are, and whose predictions their labels

    Returns
    -------
    Regions whose peak and mean are those of |B − A|, with 0 where no score is known, and whose
    score is named ``difference of <score>``. A verdict on one takes :func:`threshold_of`.
    """
    scored = difference.a if side == "a" else difference.b
    tiles = difference.match.tiles_a if side == "a" else difference.match.tiles_b
    size = np.abs(np.nan_to_num(difference.delta))
    values = np.zeros(len(scored.index), np.float32)
    np.maximum.at(values, tiles, size)
    free = np.ones(len(values), bool)
    groups = []
    for divergence in diverging_regions(difference) if divergences is None else divergences:
        group = np.unique(tiles[divergence.pairs])
        group = group[free[group]]
        free[group] = False
        if len(group):
            groups.append(group)
    return regions_of(scored, groups, values, f"difference of {difference.score}")


def _directions(difference: RunDifference, at_least: float | None) -> Ints:
    limit = threshold_of(difference) if at_least is None else at_least
    delta = np.nan_to_num(difference.delta)
    far = (np.abs(delta) >= limit) & (delta != 0)
    return np.where(far, (delta > 0).astype(np.int64), NOWHERE)


def _pairs(difference: RunDifference) -> Ints:
    code = difference.predicted_a * len(difference.classes) + difference.predicted_b
    return np.where(difference.disagree, code, NOWHERE)


def _connected(difference: RunDifference, codes: Ints) -> tuple[Ints, Ints]:
    """Tiles of one code that touch, also at a corner: positions, region after region; starts."""
    from scipy.ndimage import label

    members, starts, n = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    for code in np.unique(codes[codes != NOWHERE]):
        at = np.flatnonzero(codes == code)
        labels, _ = label(difference.on_grid(codes == code, False), np.ones((3, 3)))
        region = labels[tuple(difference.cells[at].T)]
        order = np.argsort(region, kind="stable")
        members.append(at[order])
        starts.append(n + np.flatnonzero(np.diff(region[order], prepend=0)))
        n += len(at)
    return np.concatenate(members), np.concatenate(starts)


def _build(difference: RunDifference, pairs: Ints, number: int) -> Divergence:
    delta = difference.delta[pairs]
    known = np.isfinite(delta)
    top = int(np.argmax(np.abs(np.nan_to_num(delta))))
    boxes = difference.boxes[pairs]
    low, high = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    middle = boxes[top, :2] + boxes[top, 2:] / 2
    c = len(difference.classes)
    code = np.bincount(difference.predicted_a[pairs] * c + difference.predicted_b[pairs]).argmax()
    row, col = difference.cells[pairs[top]]
    per_tile = _mm2_per_tile(difference)
    return Divergence(
        number=number,
        pairs=pairs,
        peak=float(delta[top]),
        mean=float(delta[known].mean()) if known.any() else float("nan"),
        label_a=difference.classes[code // c],
        label_b=difference.classes[code % c],
        box=(float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])),
        centre=(float(middle[0]), float(middle[1])),
        area_mm2=None if per_tile is None else len(pairs) * per_tile,
        key=f"{row}-{col}",
    )


def _mm2_per_tile(difference: RunDifference) -> float | None:
    scored = difference.a if difference.match.finer == "a" else difference.b
    return scored.mm2_per_tile
