"""Two runs of one slide: pairing of tiles, differences, agreement, regions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from napari_ood.analysis.difference import compare_runs, kappa
from napari_ood.analysis.diverging import By, as_regions, diverging_regions, threshold_of
from napari_ood.analysis.matching import match_tiles
from napari_ood.errors import RunError
from napari_ood.review import Kind, ReviewStore, Verdict
from napari_ood.slides import TileGrid

SLIDE = (4000, 6000)
HASHES = {"model": "1"}


def make_run(
    grid: TileGrid, done: np.ndarray | None = None, fingerprint: str = "f", name: str = "r"
) -> Any:
    """What the comparison reads of a run, on any grid."""
    done = np.ones((grid.rows, grid.cols), bool) if done is None else done
    index = np.argwhere(done)
    slide = {"name": "s", "fingerprint": fingerprint, "size": list(grid.shape), "mpp": [0.5, 0.5]}
    return SimpleNamespace(
        path=Path(f"{name}.ood.zarr"),
        provenance={"slide": slide, "bundle": {"hashes": HASHES}},
        grid=grid,
        done=done,
        index=index,
        boxes=grid.boxes(index),
        n_tiles=int(done.sum()),
    )


class Scored:
    """A scored run with values that the test chooses; the real one is tested in its own file."""

    def __init__(
        self,
        run: Any,
        values: np.ndarray,
        predicted: np.ndarray | None = None,
        classes: tuple[str, ...] = ("normal", "tumour"),
        familiar: np.ndarray | None = None,
        name: str = "mahalanobis@layer1",
    ) -> None:
        self.run, self.classes = run, classes
        self.card = SimpleNamespace(n_classes=len(classes), n_heads=3, scores={"ood": name})
        self.roles = {"ood": name}
        self.mm2_per_tile: float | None = 0.01
        self._values, self._familiar = values.astype(np.float32), familiar
        self._predicted = np.zeros(len(values), np.int64) if predicted is None else predicted

    @property
    def index(self) -> np.ndarray:
        return self.run.index

    def score_name(self, name: str) -> str:
        return self.roles.get(name, name)

    def score(self, name: str) -> np.ndarray:
        return self._values

    def familiar(self, name: str) -> np.ndarray | None:
        return self._familiar

    def prediction(self) -> np.ndarray:
        return self._predicted


GRID = TileGrid.over(SLIDE, 100, (2.0, 2.0))


def pair(delta: np.ndarray, **changes: Any) -> tuple[Any, Any]:
    """Two runs on one grid whose scores differ by ``delta`` (rows, cols)."""
    base = np.random.default_rng(0).uniform(1, 5, delta.size)
    familiar = np.linspace(0, 1, 101)
    a = Scored(make_run(GRID), base, familiar=familiar)
    b = Scored(make_run(GRID), base + delta.ravel(), familiar=familiar, **changes)
    return a, b


def zeros() -> np.ndarray:
    return np.zeros((GRID.rows, GRID.cols))


def test_rise_and_fall_are_found_where_they_were_planted() -> None:
    delta = zeros()
    delta[2:5, 3:7] = 2.0
    delta[3, 4] = 3.5
    delta[5, 7] = -2.5  # touches the rise at a corner and is another region all the same
    delta[12, 20] = 0.1  # too little
    delta[15, 1] = np.nan
    difference = compare_runs(*pair(delta), "ood")  # type: ignore[arg-type]
    assert difference.scale.limit == pytest.approx(0.9)
    assert difference.scale.fixed and not difference.scale.standardised
    np.testing.assert_allclose(difference.delta_map(), delta, atol=1e-5)
    first, second = diverging_regions(difference)
    assert (first.n_tiles, second.n_tiles) == (12, 1)
    assert first.key == "3-4" and first.peak == pytest.approx(3.5, abs=1e-4)
    assert second.peak == pytest.approx(-2.5, abs=1e-4)
    assert first.box == (400, 600, 600, 800)
    assert first.centre == (3.5 * 200, 4.5 * 200)
    assert first.area_mm2 == pytest.approx(0.12)
    assert diverging_regions(difference, most=1)[0].key == "3-4"
    assert diverging_regions(difference, at_least=10.0) == ()


def test_divergences_are_regions_of_either_run_that_take_verdicts(tmp_path: Path) -> None:
    fine = TileGrid.over(SLIDE, 100, (2.0, 2.0))
    coarse = TileGrid.over(SLIDE, 200, (2.0, 2.0))
    delta = zeros()
    delta[2:4, 3:7], delta[3, 4] = 2.0, 3.5
    delta[4, 4] = -3.0  # a fall beside it, in other tiles of the coarse run
    delta[7, 8], delta[6, 9] = 2.8, -2.5  # a rise and a fall in one tile of the coarse run
    familiar = np.linspace(0, 1, 101)
    a = Scored(make_run(fine), -delta.ravel(), familiar=familiar)
    b = Scored(make_run(coarse), np.zeros(coarse.rows * coarse.cols), familiar=familiar)
    difference = compare_runs(a, b, "ood")  # type: ignore[arg-type]
    found = diverging_regions(difference)
    assert [d.n_tiles for d in found] == [8, 1, 1, 1]
    on_a = as_regions(difference)
    assert [(r.key, r.n_tiles, r.peak) for r in on_a] == [
        (d.key, d.n_tiles, abs(d.peak)) for d in found
    ]
    assert all(np.array_equal(a.run.index[r.tiles], r.cells) for r in on_a)
    assert on_a[0].box == found[0].box and on_a[0].mean == pytest.approx(found[0].mean)
    on_b = as_regions(difference, found, "b")
    assert [(r.key, r.n_tiles) for r in on_b] == [("1-2", 3), ("2-2", 1), ("3-4", 1)]
    every = np.concatenate([r.tiles for r in on_b])
    assert len(set(every.tolist())) == len(every), "no tile is in two regions"
    store = ReviewStore(tmp_path, "run", "A")
    threshold = threshold_of(difference)
    store.add(Verdict.of(on_b[2], Kind.SKIP, reviewer="A", threshold=threshold))
    assert store.progress(on_b) == (1, 3) and store.match(on_b).done(on_b[2])
    assert as_regions(difference, ()) == ()


def test_agreement_counts_by_class_name_and_regions_go_by_pair() -> None:
    classes = ("tumour", "stroma", "normal")  # another order, and one class more
    predicted = np.full(zeros().shape, 2)
    predicted[0, :4] = 0
    predicted[8:10, 8:10] = 1
    a, b = pair(zeros(), predicted=predicted.ravel(), classes=classes)
    difference = compare_runs(a, b)
    assert difference.classes == ("normal", "tumour", "stroma")
    n = predicted.size
    np.testing.assert_array_equal(difference.agreement, [[n - 8, 4, 4], [0, 0, 0], [0, 0, 0]])
    assert difference.agreed == pytest.approx((n - 8) / n)
    assert difference.kappa == 0.0, "A says one thing everywhere: that is chance"
    regions = diverging_regions(difference, By.CLASS)
    assert {(r.label_a, r.label_b, r.n_tiles) for r in regions} == {
        ("normal", "tumour", 4),
        ("normal", "stroma", 4),
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=9, max_size=9))
def test_kappa_equals_sklearn(counts: list[int]) -> None:
    table = np.array(counts).reshape(3, 3)
    ours = kappa(table)
    rows, cols = np.repeat(np.argwhere(table >= 0), table.ravel(), axis=0).T
    if ours is None:
        assert len(set(rows)) < 2 and set(rows) == set(cols)
    else:
        assert ours == pytest.approx(cohen_kappa_score(rows, cols), abs=1e-9)


grids = st.builds(
    lambda tile, stride, step, y, x, h, w: TileGrid.over(
        (900, 1100), tile, (step, step), (y, x, h, w), stride
    ),
    st.integers(20, 90),
    st.integers(20, 110),
    st.sampled_from([0.7, 1.0, 1.37, 3.0]),
    st.integers(0, 400),
    st.integers(0, 400),
    st.integers(60, 800),
    st.integers(60, 800),
)


@settings(max_examples=80, deadline=None)
@given(grids, grids, st.integers(0, 2**32 - 1))
def test_pairs_lie_on_each_other_for_any_two_grids(a: TileGrid, b: TileGrid, seed: int) -> None:
    rng = np.random.default_rng(seed)
    runs = [make_run(g, rng.random((g.rows, g.cols)) < 0.8) for g in (a, b)]
    fine, coarse = sorted(runs, key=lambda r: (np.prod(r.grid.tile_size), np.prod(r.grid.pitch)))
    centres = fine.boxes[:, :2] + fine.boxes[:, 2:] / 2
    low, high = coarse.boxes[:, None, :2], coarse.boxes[:, None, :2] + coarse.boxes[:, None, 2:]
    inside = ((centres > low + 1e-3) & (centres < high - 1e-3)).all(axis=-1)  # [coarse, fine]
    try:
        match = match_tiles(*runs)
    except RunError:
        assert not inside.any() or coarse.grid.stride < coarse.grid.tile
        return
    ours = match.tiles_a if match.finer == "a" else match.tiles_b
    theirs = match.tiles_b if match.finer == "a" else match.tiles_a
    slack = 1e-3
    middle, boxes = centres[ours], coarse.boxes[theirs]
    assert (middle >= boxes[:, :2] - slack).all()
    assert (middle <= boxes[:, :2] + boxes[:, 2:] + slack).all()
    if coarse.grid.stride >= coarse.grid.tile:  # a centre lies in one tile or none
        missed = np.setdiff1d(np.flatnonzero(inside.any(axis=0)), ours)
        assert not len(missed)


def test_half_the_tile_size_pairs_four_to_one() -> None:
    fine = TileGrid.over(SLIDE, 50, (2.0, 2.0))
    match = match_tiles(make_run(GRID), make_run(fine))
    assert not match.same_grid and match.finer == "b"
    assert (np.bincount(match.tiles_a) == 4).all()
    assert (match.n_only_a, match.n_only_b) == (0, 0)
    assert "each tile of B" in match.words


def test_a_part_of_the_slide_is_on_the_grid_of_the_whole() -> None:
    part = TileGrid.over(SLIDE, 100, (2.0, 2.0), (400, 1000, 1000, 2000))
    match = match_tiles(make_run(GRID), make_run(part))
    assert match.same_grid
    np.testing.assert_array_equal(
        make_run(GRID).boxes[match.tiles_a], make_run(part).boxes[match.tiles_b]
    )
    assert match.n_only_a == GRID.rows * GRID.cols - part.rows * part.cols


def test_different_slides_and_parts_are_refused_in_words() -> None:
    values = np.zeros(GRID.rows * GRID.cols)
    a = Scored(make_run(GRID), values)
    other = Scored(make_run(GRID, fingerprint="g"), values)
    with pytest.raises(RunError, match=r"different files.*--copies"):
        compare_runs(a, other)  # type: ignore[arg-type]
    assert compare_runs(a, other, copies=True).n == len(values)  # type: ignore[arg-type]
    small = TileGrid.over((1000, 1000), 100)
    with pytest.raises(RunError, match="different slides"):
        compare_runs(a, Scored(make_run(small, fingerprint="g"), np.zeros(100)), copies=True)  # type: ignore[arg-type]
    left = TileGrid.over(SLIDE, 100, (2.0, 2.0), (0, 0, 1000, 1000))
    right = TileGrid.over(SLIDE, 100, (2.0, 2.0), (2000, 2000, 1000, 1000))
    with pytest.raises(RunError, match="no tile in common"):
        match_tiles(make_run(left), make_run(right))
    with pytest.raises(RunError, match=r"no 'tissue' at hand \(it has: ood\)"):
        compare_runs(a, a, "tissue")  # type: ignore[arg-type]


def test_other_bundles_are_compared_on_their_own_scales() -> None:
    a, b = pair(zeros(), name="knn@penultimate")
    b._values, b._familiar = a._values * 100 + 7, a._familiar * 100 + 7  # another unit, no change
    difference = compare_runs(a, b)
    assert difference.scale.standardised and difference.scale.limit == 2.0
    np.testing.assert_allclose(difference.delta, 0, atol=1e-4)
    assert difference.correlation == pytest.approx(1)
    assert diverging_regions(difference) == ()
    b._familiar = None
    with pytest.raises(RunError, match="no reference at hand"):
        compare_runs(a, b)


def test_no_tiles_one_tile_and_constant_scores() -> None:
    nothing = np.zeros(zeros().shape, bool)
    empty = Scored(make_run(GRID, nothing), np.zeros(0), familiar=np.linspace(0, 1, 9))
    difference = compare_runs(empty, empty)  # type: ignore[arg-type]
    assert (difference.n, difference.kappa, difference.agreed, difference.correlation) == (
        0,
        None,
        None,
        None,
    )
    assert diverging_regions(difference) == diverging_regions(difference, By.CLASS) == ()
    single = nothing.copy()
    single[3, 5] = True
    one = [Scored(make_run(GRID, single), np.array([v])) for v in (1.0, 4.0)]
    difference = compare_runs(*one)  # type: ignore[arg-type]
    assert not difference.scale.fixed, "no reference, and the score has no upper bound"
    (region,) = diverging_regions(difference)
    assert region.key == "3-5" and region.peak == 3.0
    assert difference.correlation is None
    constant = compare_runs(*pair(zeros()))  # type: ignore[arg-type]
    assert (constant.delta == 0).all() and diverging_regions(constant, at_least=0.0) == ()
