"""Regions: flagged tiles that touch each other, and the order in which to look at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_ood.errors import RunError

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun

Order = Literal["score", "area", "diversity"]
ORDERS: tuple[Order, ...] = ("score", "area", "diversity")
N_CANDIDATES = 2000
"""Regions, those of the highest peaks, among which diversity is sought."""
N_DIVERSE = 300
"""Regions that are picked for diversity; the others follow by score."""
TILES_PER_MEAN = 64
"""Tiles, evenly spread over a region, whose features are averaged."""


@dataclass(frozen=True, eq=False)
class Region:
    """Flagged tiles that touch each other by an edge or a corner; K tiles.

    Attributes
    ----------
    number : from 1, in the order of the first tile, row by row
    cells : [K, 2] int64, row and column on the run's grid, row by row
    tiles : [K] int64, positions in ``run.index``
    score : name of the score
    peak : highest score
    mean : mean score
    n_tiles : K
    box : y, x, h, w of the tiles in level-0 pixels; tiles at the rim reach beyond the slide
    centre : y, x of the middle of the box in level-0 pixels
    area_mm2 : float, None where the slide's mpp isn't known
    label : class that most of the tiles are predicted to be
    label_share : share of the tiles that are
    peak_cell : row and column of the first tile that has the highest score
    """

    number: int
    cells: NDArray[np.int64]
    tiles: NDArray[np.int64]
    score: str
    peak: float
    mean: float
    n_tiles: int
    box: tuple[float, float, float, float]
    centre: tuple[float, float]
    area_mm2: float | None
    label: str
    label_share: float
    peak_cell: tuple[int, int]

    @property
    def key(self) -> str:
        """Row and column of the peak: stays the same while the threshold moves below the peak."""
        return f"{self.peak_cell[0]}-{self.peak_cell[1]}"


def find_regions(
    scored: ScoredRun, flagged: NDArray[np.bool_], score: str, min_tiles: int = 1
) -> tuple[Region, ...]:
    """Join flagged tiles that touch, by an edge or a corner, to regions.

    Parameters
    ----------
    scored : ScoredRun
    flagged : [N] bool, usually ``scored.score(score) > threshold.value``
        A tile whose score is NaN is left out, whatever it says here.
    score : str
        Name or role of the score that gives peak and mean.
    min_tiles : int
        Smaller regions are left out.

    Returns
    -------
    Regions in the order of their first tiles, row by row.

    Raises
    ------
    ValueError
        If ``flagged`` does not have one entry per tile.
    """
    values = scored.score(score)
    flagged = np.asarray(flagged, bool)
    if flagged.shape != values.shape:
        raise ValueError(f"need one flag per tile: {flagged.shape}, not {values.shape}")
    tiles = np.flatnonzero(flagged & ~np.isnan(values))
    groups = _Groups.touching(tiles, scored.index[tiles], min_tiles)
    if not groups.n:
        return ()
    return groups.regions(scored, values, scored.roles.get(score, score))


def regions_of(
    scored: ScoredRun,
    groups: Sequence[NDArray[np.int64]],
    values: NDArray[np.float32],
    score: str,
) -> tuple[Region, ...]:
    """Describe given groups of tiles as regions, numbered in their order.

    Parameters
    ----------
    scored : ScoredRun
    groups : positions in ``scored.index``, ascending; [K] int64 each, none empty or shared
    values : [N] float32, no NaN in any group: what gives peak and mean
    score : what ``values`` are, in words
    """
    if not groups:
        return ()
    tiles = np.concatenate(groups)
    sizes = np.array([len(group) for group in groups])
    made = _Groups(tiles, scored.index[tiles], np.cumsum(sizes) - sizes, sizes)
    return made.regions(scored, values, score)


@dataclass(frozen=True)
class _Groups:
    """Flagged tiles [K], region after region; a region's tiles stay row by row."""

    tiles: NDArray[np.int64]
    cells: NDArray[np.int64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def n(self) -> int:
        return len(self.starts)

    @classmethod
    def touching(
        cls, tiles: NDArray[np.int64], cells: NDArray[np.int64], min_tiles: int
    ) -> _Groups:
        """Label the cells on the part of the grid that they cover."""
        if not len(tiles):
            none = np.zeros(0, np.int64)
            return cls(none, none.reshape(0, 2), none, none)
        row, col = (cells - cells.min(axis=0)).T
        grid = np.zeros((row.max() + 1, col.max() + 1), bool)
        grid[row, col] = True
        label = ndimage.label(grid, np.ones((3, 3), int))[0][row, col]
        sizes = np.bincount(label)
        large = sizes[label] >= min_tiles
        tiles, cells, label = tiles[large], cells[large], label[large]
        # Regions are numbered by their first tile, whatever order the labels came in.
        labels, first, of_tile = np.unique(label, return_index=True, return_inverse=True)
        by_first = np.argsort(first)
        rank = np.empty_like(by_first)
        rank[by_first] = np.arange(len(by_first))
        order = np.argsort(rank[of_tile], kind="stable")
        sizes = sizes[labels[by_first]]
        return cls(tiles[order], cells[order], np.cumsum(sizes) - sizes, sizes)

    def regions(self, scored: ScoredRun, all_values: Any, name: str) -> tuple[Region, ...]:
        values = all_values[self.tiles]
        peak = np.maximum.reduceat(values, self.starts)
        mean = np.add.reduceat(values, self.starts, dtype=np.float64) / self.sizes
        at_peak = np.flatnonzero(values == np.repeat(peak, self.sizes))
        peak_cell = self.cells[at_peak[np.searchsorted(at_peak, self.starts)]]
        box = self._boxes(scored)
        labels, shares = self._majority(scored)
        stops = self.starts + self.sizes
        area = scored.mm2_per_tile
        return tuple(
            Region(
                number, self.cells[start:stop], self.tiles[start:stop], name, top, middle,
                stop - start, (y, x, h, w), (y + h / 2, x + w / 2),
                None if area is None else area * (stop - start), scored.classes[label], share,
                (row, col),
            )
            for number, (start, stop, top, middle, (y, x, h, w), label, share, (row, col))
            in enumerate(
                zip(self.starts.tolist(), stops.tolist(), peak.tolist(), mean.tolist(),
                    box.tolist(), labels.tolist(), shares.tolist(), peak_cell.tolist(),
                    strict=True),
                start=1,
            )
        )  # fmt: skip

    def _boxes(self, scored: ScoredRun) -> NDArray[np.float64]:
        """Box around the tiles of each region; [n, 4] float64."""
        first = scored.run.grid.boxes(np.minimum.reduceat(self.cells, self.starts, axis=0))
        last = scored.run.grid.boxes(np.maximum.reduceat(self.cells, self.starts, axis=0))
        size = last[:, :2] + last[:, 2:] - first[:, :2]
        return np.concatenate([first[:, :2], size], axis=1)

    def _majority(self, scored: ScoredRun) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Most frequent class of each region and its share; [n] and [n]."""
        n_classes = len(scored.classes)
        region = np.repeat(np.arange(self.n), self.sizes)
        pairs = region * n_classes + scored.prediction()[self.tiles]
        counts = np.bincount(pairs, minlength=self.n * n_classes).reshape(self.n, n_classes)
        return counts.argmax(axis=1), counts.max(axis=1) / self.sizes


def rank_regions(regions: Sequence[Region], by: Order, scored: ScoredRun) -> tuple[Region, ...]:
    """Put regions in the order in which they are to be looked at.

    Parameters
    ----------
    regions : sequence of Region
    by : ``score``, ``area`` or ``diversity``
        The highest peak first; the largest first; or the highest peak, then always the region that
        is least like any before it (farthest-first traversal, Gonzalez 1985), so that many crops
        of one pen mark don't fill the beginning of the list. Diversity is sought among the
        ``N_CANDIDATES`` highest peaks for the first ``N_DIVERSE`` places; the others follow by
        score.
    scored : ScoredRun
        Of whose tiles diversity compares mean features; where the run has none, probabilities.

    Raises
    ------
    ValueError
        For another order.
    """
    if by not in ORDERS:
        raise ValueError(f"regions are ranked by {', '.join(ORDERS)}, not {by!r}")
    if by == "area":
        return tuple(sorted(regions, key=lambda r: (-r.n_tiles, -r.peak, r.number)))
    ranked = sorted(regions, key=lambda r: (-r.peak, -r.mean, r.number))
    if by == "diversity" and len(ranked) > 2:
        candidates = ranked[:N_CANDIDATES]
        picked = _farthest_first(_descriptions(candidates, scored), N_DIVERSE)
        chosen = set(picked)
        rest = (region for i, region in enumerate(ranked) if i not in chosen)
        ranked = [*(candidates[i] for i in picked), *rest]
    return tuple(ranked)


def _descriptions(regions: Sequence[Region], scored: ScoredRun) -> NDArray[np.float32]:
    """What regions are compared by, on one scale; [R, D] float32."""
    chosen = [_spread_out(region.tiles) for region in regions]
    starts = np.cumsum([0, *map(len, chosen[:-1])])
    sizes = np.array([len(tiles) for tiles in chosen])
    for values in _comparable(scored, np.concatenate(chosen)):
        means = (np.add.reduceat(values, starts, axis=0) / sizes[:, None]).astype(np.float32)
        means = np.where(np.isfinite(means), means, np.float32(0))
        spread = means.std(axis=0)
        told_apart = spread > 0
        if told_apart.any():
            kept = means[:, told_apart]
            return np.asarray((kept - kept.mean(axis=0)) / spread[told_apart], np.float32)
    return np.array([region.centre for region in regions], np.float32)


def _comparable(scored: ScoredRun, tiles: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """Features, then probabilities: the second is only computed if the first tell nothing."""
    try:
        features = scored.run.features_of(tiles)
    except RunError:  # damaged on disk: the queue still has an order
        pass
    else:
        yield features
    yield scored.probabilities()[tiles]


def _spread_out(tiles: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(tiles) <= TILES_PER_MEAN:
        return tiles
    return tiles[np.linspace(0, len(tiles) - 1, TILES_PER_MEAN).astype(np.int64)]


def _farthest_first(points: NDArray[np.float32], n: int) -> list[int]:
    """Row 0, then always the row farthest from those taken; ties by row. Indices of ≤ n rows."""
    taken = [0]
    nearest = ((points - points[0]) ** 2).sum(axis=1)
    while len(taken) < min(n, len(points)):
        nearest[taken[-1]] = -1.0  # never again, even where all points are one
        farthest = int(nearest.argmax())
        taken.append(farthest)
        np.minimum(nearest, ((points - points[farthest]) ** 2).sum(axis=1), out=nearest)
    return taken
