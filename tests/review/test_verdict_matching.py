from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from drawn import DrawnRun
from napari_ood.analysis.regions import Region, find_regions
from napari_ood.review import Kind, Verdict, match_verdicts

GRIDS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.integers(0, 5).map(float),
)


def regions_of(run: DrawnRun, threshold: float) -> tuple[Region, ...]:
    return find_regions(run, run.values > threshold, "ood")  # type: ignore[arg-type]


def judged(regions: tuple[Region, ...]) -> list[Verdict]:
    return [Verdict.of(region, Kind.AGREE, reviewer="Ada") for region in regions]


@given(GRIDS, st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_matches_follow_the_rule(grid: np.ndarray, then: int, now: int, other: bool) -> None:
    run = DrawnRun(grid)
    # Another score moves the peaks, too.
    judged_on = DrawnRun(np.roll(grid, 1, axis=1)) if other else run
    regions, verdicts = regions_of(run, now), judged(regions_of(judged_on, then))

    matches = match_verdicts(regions, verdicts)

    matched = set()
    for region in regions:
        r = set(map(tuple, region.cells.tolist()))
        expected, seen = [], set()
        for number, verdict in enumerate(verdicts):
            v = set(verdict.tiles)
            most = 2 * len(r & v) > len(v) or 2 * len(r & v) > len(r)
            if most or verdict.peak_cell in r or region.peak_cell in v:
                expected.append((len(r & v) / len(r | v), verdict))
                seen |= r & v
                matched.add(number)
        found = [(match.overlap, match.verdict) for match in matches.of(region)]
        assert {id(verdict) for _, verdict in found} == {id(verdict) for _, verdict in expected}
        assert [x for x, _ in found] == sorted((x for x, _ in expected), reverse=True)
        assert matches.done(region) == (2 * len(seen) >= len(r))
        assert matches.seen.get(region.key, 0.0) == len(seen) / len(r)
        assert matches.verdict(region) is (found[0][1] if found else None)
    assert matches.unmatched == tuple(v for i, v in enumerate(verdicts) if i not in matched)


@given(GRIDS, st.integers(0, 5), st.integers(0, 5))
def test_no_place_that_is_flagged_loses_its_verdict(grid: np.ndarray, then: int, now: int) -> None:
    """One score, any two thresholds: what was judged and is still flagged keeps a verdict."""
    run = DrawnRun(grid)
    regions, verdicts = regions_of(run, now), judged(regions_of(run, then))
    matches = match_verdicts(regions, verdicts)
    if now >= then:  # regions shrank or fell to pieces: all of them were seen
        assert all(matches.seen[region.key] == 1 for region in regions)
    else:  # regions grew or merged: each verdict is found in the region that took it in
        assert matches.unmatched == ()
    if now == then:
        assert all(matches.of(region)[0].exact for region in regions)


def test_regions_that_merge_and_part_again() -> None:
    run = DrawnRun([[9, 8, 2, 5, 6, 5, 1, 4]])
    left, right, _ = regions_of(run, 2)
    ada = [
        Verdict.of(left, Kind.AGREE, reviewer="Ada"),
        Verdict.of(right, Kind.SKIP, reviewer="Ada"),
    ]
    merged, alone = regions_of(run, 1)
    matches = match_verdicts((merged, alone), ada)
    # The larger part of the merged region comes first; a place that nobody saw has no verdict.
    assert [m.verdict.kind for m in matches.of(merged)] == [Kind.SKIP, Kind.AGREE]
    assert matches.seen[merged.key] == 5 / 6 and matches.done(merged)
    assert matches.verdict(alone) is None and not matches.done(alone)

    ada.append(Verdict.of(merged, Kind.UNKNOWN_TISSUE, reviewer="Ada"))
    assert match_verdicts((merged,), ada).verdict(merged) is ada[2]
    # Parted again, each part has what was said of itself, before what was said of the whole.
    back = match_verdicts((left, right), ada)
    assert back.verdict(left) is ada[0] and back.verdict(right) is ada[1]
    assert back.of(left)[1].verdict is ada[2]


def test_a_region_that_outgrew_what_was_seen_is_not_done() -> None:
    run = DrawnRun([[1, 1, 1, 1, 1, 9]])
    (small,) = regions_of(run, 1)
    (large,) = regions_of(run, 0)
    matches = match_verdicts([large], judged((small,)))
    assert matches.verdict(large) is not None
    assert not matches.done(large) and matches.seen[large.key] == 1 / 6


def test_of_equal_verdicts_the_latest_counts_and_none_needs_regions() -> None:
    run = DrawnRun([[1.0]])
    (region,) = regions_of(run, 0)
    first = Verdict("0-0", region.box, ((0, 0),), Kind.AGREE, time="2026-01-01T00:00:00+00:00")
    second = Verdict("0-0", region.box, ((0, 0),), Kind.SKIP, time="2026-01-02T00:00:00+00:00")
    for given_in_order in ([first, second], [second, first]):
        assert match_verdicts([region], given_in_order).verdict(region) is second
    assert match_verdicts([], [first]).unmatched == (first,)
    assert match_verdicts([region], []).of(region) == ()


def test_a_million_tiles_are_matched() -> None:
    scores = np.random.default_rng(0).normal(size=(1000, 1000))
    run = DrawnRun(scores)
    pieces, (whole,) = regions_of(run, 1.65), regions_of(run, -np.inf)
    verdicts = [*judged((whole,)), *judged(pieces[:1000])]
    matches = match_verdicts(pieces, verdicts)
    assert all(map(matches.done, pieces))
    assert [len(matches.of(region)) for region in pieces[999:1001]] == [2, 1]
