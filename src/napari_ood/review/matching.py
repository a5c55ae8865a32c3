"""Which verdicts apply to which regions, when the threshold has moved since they were given.

The rule: a verdict and a region belong together when the peak tile, or more than half of the tiles,
of either lies in the other. So a verdict stays with a region that grew, shrank, took others in
(several verdicts then apply) or fell to pieces (each piece that was looked at keeps the verdict).
Of several verdicts the one whose tiles agree best with the region's comes first (intersection over
union), then the latest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

if TYPE_CHECKING:
    from napari_ood.analysis.regions import Region
    from napari_ood.review.verdicts import Verdict

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Match:
    """A verdict that applies to a region.

    Attributes
    ----------
    verdict : Verdict
    overlap : intersection over union of the tiles; 1 where nothing has changed since
    """

    verdict: Verdict
    overlap: float

    @property
    def exact(self) -> bool:
        """Whether the region has the very tiles that the verdict was given for."""
        return self.overlap == 1.0


@dataclass(frozen=True)
class Matches:
    """Verdicts sorted to regions.

    Attributes
    ----------
    by_key : region key → verdicts that apply, best first; regions without any are absent
    seen : region key → share of its tiles that those verdicts were given for
    unmatched : verdicts that apply to no region, of places that are below the threshold now
    """

    by_key: Mapping[str, tuple[Match, ...]]
    seen: Mapping[str, float]
    unmatched: tuple[Verdict, ...]

    def of(self, region: Region) -> tuple[Match, ...]:
        """All verdicts that apply to a region, best first."""
        return self.by_key.get(region.key, ())

    def verdict(self, region: Region) -> Verdict | None:
        """The verdict that applies to a region best."""
        matches = self.of(region)
        return matches[0].verdict if matches else None

    def done(self, region: Region) -> bool:
        """Whether a verdict applies and at least half of the region was seen when it was given.

        A region that has grown beyond what was looked at is to be looked at again: it has a
        verdict, but isn't done.
        """
        return self.seen.get(region.key, 0.0) >= 0.5


def match_verdicts(regions: Sequence[Region], verdicts: Iterable[Verdict]) -> Matches:
    """Sort verdicts to regions, of the same run, by the rule above.

    Parameters
    ----------
    regions : sequence of Region, each tile in at most one
    verdicts : iterable of Verdict, of one reviewer or of several
    """
    verdicts = tuple(verdicts)
    if not regions or not verdicts:
        return Matches({}, {}, verdicts)
    tiles = _Tiles(regions, verdicts)
    v, r, shared = tiles.shared()
    n_v = np.array([len(verdict.tiles) for verdict in verdicts])[v]
    n_r = np.array([region.n_tiles for region in regions])[r]
    most = (2 * shared > n_v) | (2 * shared > n_r)
    applies = most | (tiles.region_of_peak(verdicts)[v] == r) | tiles.have_peak(regions, v, r)
    v, r, overlap = v[applies], r[applies], (shared / (n_v + n_r - shared))[applies]
    found: dict[int, list[Match]] = {}
    for i, j, share in zip(v.tolist(), r.tolist(), overlap.tolist(), strict=True):
        found.setdefault(j, []).append(Match(verdicts[i], share))
    for matches in found.values():
        matches.sort(key=lambda match: (match.overlap, match.verdict.time), reverse=True)
    seen = tiles.seen(v, r)
    matched = set(v.tolist())
    return Matches(
        {regions[j].key: tuple(matches) for j, matches in found.items()},
        {regions[j].key: float(seen[j]) for j in found},
        tuple(verdict for i, verdict in enumerate(verdicts) if i not in matched),
    )


class _Tiles:
    """The tiles that verdicts and regions share; in time proportional to their number.

    A tile of the regions is told by its *slot*: its place in the row of all their tiles.
    """

    def __init__(self, regions: Sequence[Region], verdicts: Sequence[Verdict]) -> None:
        self._shape = len(verdicts), len(regions)
        cells, self._region = _concatenate([region.cells for region in regions])
        self._origin = cells.min(axis=0)
        self._slot = np.full(np.ptp(cells, axis=0) + 1, -1)
        self._slot[tuple((cells - self._origin).T)] = np.arange(len(cells))
        slots, verdict = _concatenate([self._slots(v.cells)[:, None] for v in verdicts])
        inside = slots[:, 0] >= 0
        self._at, self._verdict = slots[inside, 0], verdict[inside]

    def _slots(self, cells: Ints) -> Ints:
        """Slot of each tile [K, 2], −1 where it is in no region; [K]."""
        place = cells - self._origin
        inside = ((place >= 0) & (place < self._slot.shape)).all(axis=1)
        slots = np.full(len(cells), -1)
        slots[inside] = self._slot[tuple(place[inside].T)]
        return slots

    def shared(self) -> tuple[Ints, Ints, Ints]:
        """Verdict, region, and number of tiles of each pair that shares any."""
        return self._count(np.ones(len(self._at), bool))

    def _count(self, which: Bools) -> tuple[Ints, Ints, Ints]:
        place = self._verdict[which], self._region[self._at[which]]
        counts = sparse.csr_array((np.ones(which.sum(), np.int64), place), self._shape).tocoo()
        return counts.row.astype(np.int64), counts.col.astype(np.int64), counts.data

    def region_of_peak(self, verdicts: Sequence[Verdict]) -> Ints:
        """Region that has the peak of each verdict, −1 where none has; [V]."""
        slots = self._slots(np.array([verdict.peak_cell for verdict in verdicts]))
        return np.where(slots >= 0, self._region[slots], -1)

    def have_peak(self, regions: Sequence[Region], v: Ints, r: Ints) -> Bools:
        """Whether the region's peak is one of the verdict's tiles, for each pair."""
        is_peak = np.zeros(len(self._region), bool)
        is_peak[self._slots(np.array([region.peak_cell for region in regions]))] = True
        with_v, with_r, _ = self._count(is_peak[self._at])
        return np.isin(v * self._shape[1] + r, with_v * self._shape[1] + with_r)

    def seen(self, v: Ints, r: Ints) -> NDArray[np.float64]:
        """Share of each region's tiles that a verdict of these pairs was given for; [R]."""
        pair = self._verdict * self._shape[1] + self._region[self._at]
        seen = np.zeros(len(self._region), bool)
        seen[self._at[np.isin(pair, v * self._shape[1] + r)]] = True
        n_seen = np.bincount(self._region[seen], minlength=self._shape[1])
        return np.asarray(n_seen / np.bincount(self._region, minlength=self._shape[1]))


def _concatenate(parts: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Rows one after the other, and of which part each is."""
    sizes = [len(part) for part in parts]
    return np.concatenate(parts), np.repeat(np.arange(len(parts)), sizes)
