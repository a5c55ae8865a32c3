"""Matching a changed verdict alone comes to what matching all verdicts comes to."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from drawn import DrawnRun
from napari_ood.analysis.regions import Region, find_regions
from napari_ood.review import Kind, Verdict, match_verdicts
from napari_ood.viewer.rematch import by_region, owners_of, rematch

GRIDS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.integers(0, 5).map(float),
)
LEVELS = st.integers(0, 5)


def regions_of(run: DrawnRun, threshold: float) -> tuple[Region, ...]:
    return find_regions(run, run.values > threshold, "ood")  # type: ignore[arg-type]


def judged(regions: tuple[Region, ...], kind: Kind) -> list[Verdict]:
    return [Verdict.of(region, kind, reviewer="Ada") for region in regions]


@given(GRIDS, LEVELS, LEVELS, LEVELS, st.data())
def test_a_changed_verdict_comes_to_the_same_as_all_anew(
    grid: np.ndarray, first: int, second: int, now: int, data: st.DataObject
) -> None:
    run = DrawnRun(grid)
    regions = regions_of(run, now)
    older = by_region(judged(regions_of(run, first), Kind.AGREE))
    newer = by_region(judged(regions_of(run, second), Kind.UNKNOWN_TISSUE))
    taken = data.draw(st.sets(st.sampled_from(sorted(newer)))) if newer else set()
    before = older
    after = {**older, **{key: newer[key] for key in taken}}
    owners = owners_of(regions, grid.shape)
    for old, new in ((before, after), (after, before)):
        start = match_verdicts(regions, old.values())
        found = rematch(start, regions, owners, old, new)
        wanted = match_verdicts(regions, new.values())
        assert found.seen == wanted.seen
        assert {v.key for v in found.unmatched} == {v.key for v in wanted.unmatched}
        assert found.by_key.keys() == wanted.by_key.keys()
        for key, matches in wanted.by_key.items():
            assert {(m.overlap, m.verdict.key) for m in found.by_key[key]} == {
                (m.overlap, m.verdict.key) for m in matches
            }
            assert found.by_key[key][0].overlap == matches[0].overlap


def test_owners_say_which_region_a_tile_is_in() -> None:
    run = DrawnRun([[9, 9, 0, 5], [0, 0, 0, 5]])
    owners = owners_of(regions_of(run, 1), (2, 4))
    assert owners.tolist() == [[0, 0, -1, 1], [-1, -1, -1, 1]]
