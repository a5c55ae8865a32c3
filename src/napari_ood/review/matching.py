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

if TYPE_CHECKING:
    from napari_ood.analysis.regions import Region
    from napari_ood.review.verdicts import Verdict

Ints = NDArray[np.int64]


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
    lookup = _Lookup(regions)
    n = len(regions)
    verdict_tiles, verdict_of_tile = _concatenate([v.cells for v in verdicts])
    region_of_tile = lookup.region(verdict_tiles)
    inside = region_of_tile >= 0
    pair_of_tile = verdict_of_tile[inside] * max(n, 1) + region_of_tile[inside]
    pairs, shared = np.unique(pair_of_tile, return_counts=True)
    v, r = np.divmod(pairs, max(n, 1))
    size_v = np.bincount(verdict_of_tile, minlength=len(verdicts))[v]
    size_r = lookup.sizes[r]
    peak_v = lookup.region(np.array([x.peak_cell for x in verdicts], np.int64).reshape(-1, 2))
    has_peak = np.isin(pairs, _pairs_with_peak(verdict_tiles, verdict_of_tile, lookup, n))
    applies = (peak_v[v] == r) | has_peak | (2 * shared > size_v) | (2 * shared > size_r)
    found: dict[int, list[Match]] = {}
    overlap = shared / (size_v + size_r - shared)
    for i in np.flatnonzero(applies):
        found.setdefault(int(r[i]), []).append(Match(verdicts[v[i]], float(overlap[i])))
    seen = _seen(verdict_tiles[inside], pair_of_tile, pairs[applies], lookup, n)
    for matches in found.values():
        matches.sort(key=lambda m: m.verdict.time, reverse=True)
        matches.sort(key=lambda m: m.overlap, reverse=True)
    matched = set(v[applies].tolist())
    return Matches(
        {regions[i].key: tuple(matches) for i, matches in found.items()},
        {regions[i].key: float(seen[i]) for i in found},
        tuple(x for i, x in enumerate(verdicts) if i not in matched),
    )


class _Lookup:
    """From a tile's row and column to the region that has it."""

    def __init__(self, regions: Sequence[Region]) -> None:
        cells, of_tile = _concatenate([region.cells for region in regions])
        code = _code(cells)
        order = np.argsort(code)
        self._code, self._region = code[order], of_tile[order]
        self.sizes = np.array([region.n_tiles for region in regions], np.int64)
        self.peaks = _code(
            np.array([region.peak_cell for region in regions], np.int64).reshape(-1, 2)
        )

    def region(self, cells: Ints) -> Ints:
        """Region of each tile [K, 2], −1 where it is in none; [K] int64."""
        code = _code(cells)
        out = np.full(len(code), -1, np.int64)
        if len(self._code):
            place = np.minimum(np.searchsorted(self._code, code), len(self._code) - 1)
            found = self._code[place] == code
            out[found] = self._region[place[found]]
        return out


def _pairs_with_peak(tiles: Ints, of_tile: Ints, lookup: _Lookup, n: int) -> Ints:
    """Pairs, verdict · n + region, in which the region's peak is one of the verdict's tiles."""
    is_peak = np.isin(_code(tiles), lookup.peaks)
    return of_tile[is_peak] * max(n, 1) + lookup.region(tiles[is_peak])


def _seen(tiles: Ints, pair: Ints, applying: Ints, lookup: _Lookup, n: int) -> NDArray[np.float64]:
    """Share of each region's tiles that a verdict which applies to it was given for; [n]."""
    applies = np.isin(pair, applying)
    _, once = np.unique(_code(tiles[applies]), return_index=True)
    region = pair[applies][once] % max(n, 1)
    return np.asarray(np.bincount(region, minlength=n) / np.maximum(lookup.sizes, 1))


def _concatenate(parts: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Rows and columns one after the other [K, 2], and of which part each is [K]."""
    sizes = np.array([len(part) for part in parts], np.int64)
    cells = np.concatenate([np.zeros((0, 2), np.int64), *parts])
    return cells, np.repeat(np.arange(len(parts)), sizes)


def _code(cells: Ints) -> Ints:
    return (cells[:, 0] << 32) | cells[:, 1]
