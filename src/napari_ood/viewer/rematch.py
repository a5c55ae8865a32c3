"""Verdicts sorted to regions anew after one of them has changed, without looking at all regions.

Matching 40,000 regions takes half a second, and undo must not stop the window for that. Which
verdicts apply to a region depends on those alone that share tiles with it, so only regions that
share tiles with a changed verdict are matched again; the outcome is that of matching all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.review.matching import Matches, match_verdicts

if TYPE_CHECKING:
    from napari_ood.analysis.regions import Region
    from napari_ood.review.verdicts import Verdict

Ints = NDArray[np.integer]
Given = Mapping[str, "Verdict"]
"""One reviewer's latest verdicts by the key of their region."""

NOWHERE = -1


def by_region(verdicts: Iterable[Verdict]) -> dict[str, Verdict]:
    """Verdicts by the key of the region that they were given on."""
    return {verdict.key: verdict for verdict in verdicts}


def owners_of(regions: tuple[Region, ...], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Which region each tile of a run's grid is in, as its place in ``regions``, −1 for none."""
    owners = np.full(shape, NOWHERE, np.int32)
    if regions:
        cells = np.concatenate([region.cells for region in regions])
        sizes = [region.n_tiles for region in regions]
        owners[tuple(cells.T)] = np.repeat(np.arange(len(regions)), sizes)
    return owners


def places_of(verdict: Verdict, owners: Ints) -> Ints:
    """Places of the regions that a verdict shares tiles with; tiles off the grid are in none."""
    cells = verdict.cells
    inside = ((cells >= 0) & (cells < owners.shape)).all(axis=1)
    places = np.unique(owners[tuple(cells[inside].T)])
    return np.asarray(places[places != NOWHERE])


def rematch(
    matches: Matches, regions: tuple[Region, ...], owners: Ints, before: Given, after: Given
) -> Matches:
    """Matches of ``after``, from those of ``before``; as ``match_verdicts`` would have them.

    Parameters
    ----------
    matches : of ``regions`` with the verdicts of ``before``
    regions, owners : see :func:`owners_of`
    before, after : verdicts by key
    """
    changed = [
        verdict
        for key in before.keys() | after.keys()
        if not _same(before.get(key), after.get(key))
        for verdict in (before.get(key), after.get(key))
        if verdict is not None
    ]
    places = np.unique(np.concatenate([[NOWHERE], *(places_of(v, owners) for v in changed)]))
    touched = [regions[place] for place in places.astype(int).tolist() if place != NOWHERE]
    applying = [v for v in after.values() if any(_meet(v.box, region.box) for region in touched)]
    part = match_verdicts(touched, applying)
    keys = {region.key for region in touched}
    by_key = {key: found for key, found in matches.by_key.items() if key not in keys}
    seen = {key: share for key, share in matches.seen.items() if key not in keys}
    by_key |= part.by_key
    matched = {match.verdict.key for found in by_key.values() for match in found}
    unmatched = tuple(v for key, v in after.items() if key not in matched)
    return Matches(by_key, {**seen, **part.seen}, unmatched)


def _same(a: Verdict | None, b: Verdict | None) -> bool:
    return a is b or (a is not None and b is not None and _identity(a) == _identity(b))


def _identity(verdict: Verdict) -> tuple[object, ...]:
    return verdict.time, verdict.reviewer, verdict.category, verdict.comment, verdict.box


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two level-0 boxes y, x, h, w have more than an edge in common."""
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
