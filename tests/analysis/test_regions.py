from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from drawn import DrawnRun
from napari_ood.analysis.regions import ORDERS, Region, find_regions, rank_regions

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)
LEVELS = st.sampled_from([0.0, 0.25, 0.5, 1.0, float("nan")])


def regions_of(run: DrawnRun, threshold: float = 0.5, min_tiles: int = 1) -> tuple[Region, ...]:
    return find_regions(run, run.values > threshold, "ood", min_tiles)  # type: ignore[arg-type]


def ranked(regions: tuple[Region, ...], by: Any, run: DrawnRun) -> list[int]:
    return [region.number for region in rank_regions(regions, by, run)]  # type: ignore[arg-type]


def flood(cells: set[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Components of cells that touch, by walking from cell to cell; row by row."""
    found, left = [], sorted(cells, reverse=True)
    rest = set(cells)
    while left:
        start = left.pop()
        if start not in rest:
            continue
        rest.discard(start)
        stack, component = [start], [start]
        while stack:
            row, col = stack.pop()
            near = {(row + i, col + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & rest
            rest -= near
            stack += near
            component += near
        found.append(sorted(component))
    return found


@given(st.data(), hnp.arrays(np.float32, SHAPES, elements=LEVELS), st.integers(1, 3))
def test_regions_are_what_walking_from_tile_to_tile_finds(
    data: st.DataObject, scores: np.ndarray, min_tiles: int
) -> None:
    done = data.draw(hnp.arrays(bool, scores.shape))
    predicted = data.draw(hnp.arrays(np.int64, scores.shape, elements=st.integers(0, 1)))
    run = DrawnRun(scores, done, predicted=predicted)
    flagged = run.values > 0.25

    regions = regions_of(run, 0.25, min_tiles)

    cells = {(int(r), int(c)) for r, c in run.index[flagged]}
    expected = [component for component in flood(cells) if len(component) >= min_tiles]
    assert [list(map(tuple, region.cells.tolist())) for region in regions] == expected
    assert [region.number for region in regions] == list(range(1, len(expected) + 1))
    for region, component in zip(regions, expected, strict=True):
        values = [float(scores[cell]) for cell in component]
        labels = Counter(int(predicted[cell]) for cell in component)
        rows, cols = zip(*component, strict=True)
        np.testing.assert_array_equal(run.index[region.tiles], region.cells)
        assert region.peak == max(values)
        assert region.peak_cell == component[values.index(max(values))]
        assert region.key == f"{region.peak_cell[0]}-{region.peak_cell[1]}"
        assert region.mean == pytest.approx(np.mean(values))
        assert region.n_tiles == len(component)
        assert region.area_mm2 == 0.25 * len(component)
        assert region.label == run.classes[max((0, 1), key=lambda label: labels[label])]
        assert region.label_share == max(labels.values()) / len(component)
        top, left = 10 * min(rows), 20 * min(cols)
        height, width = 10 * (max(rows) + 1) - top, 20 * (max(cols) + 1) - left
        assert region.box == (top, left, height, width)
        assert region.centre == (top + height / 2, left + width / 2)
        assert region.score == "mahalanobis@early"


def test_a_flagged_tile_without_a_score_parts_regions() -> None:
    run = DrawnRun([[1.0, np.nan, 1.0]])
    regions = find_regions(run, np.ones(3, bool), "ood")  # type: ignore[arg-type]
    assert [region.cells.tolist() for region in regions] == [[[0, 0]], [[0, 2]]]


@pytest.mark.parametrize("by", ORDERS)
def test_no_tile_one_tile_and_scores_that_are_all_alike(by: str) -> None:
    nothing = DrawnRun([[1.0]], done=[[False]])
    assert ranked(regions_of(nothing), by, nothing) == []
    assert regions_of(DrawnRun([[0.5]])) == ()
    one = DrawnRun([[1.0]], mm2_per_tile=None)
    assert [region.area_mm2 for region in regions_of(one)] == [None]
    assert ranked(regions_of(one), by, one) == [1]
    alike = DrawnRun([[1.0, 0, 1.0, 0, 1.0, 0, 1.0]])
    assert sorted(ranked(regions_of(alike), by, alike)) == [1, 2, 3, 4]


def test_flags_of_another_run_and_unknown_orders_are_refused() -> None:
    run = DrawnRun([[1.0, 0.0]])
    with pytest.raises(ValueError, match="one flag per tile"):
        find_regions(run, np.ones(3, bool), "ood")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="score, area, diversity"):
        ranked(regions_of(run), "size", run)


def test_order_by_score_and_by_area() -> None:
    run = DrawnRun([[0.7, 0.7, 0, 0.9, 0, 0.8, 0.8, 0.8, 0, 0.9, 0.7]])
    regions = regions_of(run)
    # Equal peaks: the higher mean first. Equal areas: the higher peak first.
    assert ranked(regions, "score", run) == [2, 4, 3, 1]
    assert ranked(regions, "area", run) == [3, 4, 1, 2]


def test_diversity_shows_other_things_before_more_of_one_pen_mark() -> None:
    rng = np.random.default_rng(0)
    n_pen, n_features = 20, 8
    kinds = [0] * n_pen + [1, 2, 3]  # the pen marks have the highest scores
    scores = np.zeros((1, 2 * len(kinds)), np.float32)
    scores[0, ::2] = np.linspace(5, 3, len(kinds))
    centres = rng.normal(0, 10, (4, n_features))
    features = np.zeros((scores.size, n_features), np.float32)
    features[::2] = centres[kinds] + rng.normal(0, 0.5, (len(kinds), n_features))
    features[:, 0] *= 1e-4  # a feature counts by its spread, not by its unit
    run = DrawnRun(scores, features=features)
    regions = regions_of(run)
    order = ranked(regions, "diversity", run)
    assert order[0] == 1
    assert {kinds[number - 1] for number in order[:4]} == {0, 1, 2, 3}
    assert sorted(order) == list(range(1, len(kinds) + 1))
    assert {kinds[n - 1] for n in ranked(regions, "score", run)[:4]} == {0}


def test_diversity_without_features_goes_by_class_then_by_place() -> None:
    scores = np.zeros((1, 41), np.float32)
    scores[0, ::2] = np.linspace(2, 1, 21)
    by_class = DrawnRun(scores, predicted=np.arange(41).reshape(1, 41) == 38)
    assert ranked(regions_of(by_class), "diversity", by_class)[:2] == [1, 20]
    by_place = DrawnRun(scores)
    assert ranked(regions_of(by_place), "diversity", by_place)[:3] == [1, 21, 11]


@pytest.mark.parametrize("smooth", [False, True])
def test_a_million_tiles(smooth: bool) -> None:
    scores = np.random.default_rng(0).normal(size=(1000, 1000))
    if smooth:
        scores = ndimage.gaussian_filter(scores, 3)
    features = np.random.default_rng(1).normal(size=(1_000_000, 8)).astype(np.float32)
    run = DrawnRun(scores, features=features)
    regions = regions_of(run, float(np.quantile(run.values, 0.95)))
    for by in ORDERS:
        rank_regions(regions, by, run)  # type: ignore[arg-type]
    assert sum(region.n_tiles for region in regions) == 50_000
    everything = regions_of(run, -np.inf)
    assert [region.n_tiles for region in everything] == [1_000_000]
