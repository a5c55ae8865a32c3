from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ood.evaluation import (
    Resampler,
    bootstrap_interval,
    fpr_at_tpr,
    ood_auroc,
    separation_intervals,
)
from napari_ood.evaluation import bootstrap as module

SCORES = st.lists(st.integers(-5, 5), min_size=2, max_size=25)


@settings(deadline=None)
@given(SCORES, SCORES)
def test_each_resample_equals_the_metrics_of_the_tiles_drawn(inside: list[int], outside: list[int]):
    a, b = np.array(inside, float), np.array(outside, float)
    draws = [Resampler(len(s), None, 20, 1, name) for s, name in ((a, "a"), (b, "b"))]
    w_a, w_b = (draw.weights(slice(0, 20)).astype(int) for draw in draws)
    assert (w_a.sum(axis=1) == len(a)).all()
    pairs = [(np.repeat(a, i), np.repeat(b, o)) for i, o in zip(w_a, w_b, strict=True)]
    expected = [
        tuple(np.quantile([metric(*pair) for pair in pairs], [0.025, 0.975]))
        for metric in (ood_auroc, fpr_at_tpr)
    ]
    found = separation_intervals(draws[0], [a], [(draws[1], [b])])[0][0]
    assert found.auroc == pytest.approx(expected[0])
    assert found.fpr95 == pytest.approx(expected[1])


def test_groups_are_drawn_whole_and_tiles_without_a_group_alone():
    draw = Resampler(6, ["a", "a", "b", "b", "", ""], 200)
    weights = draw.weights(slice(0, 200))
    assert draw.n_groups == 4
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    np.testing.assert_array_equal(weights[:, 2], weights[:, 3])
    assert (weights[:, 4] != weights[:, 5]).any()
    assert set(weights[:, 0] + weights[:, 2] + weights[:, 4] + weights[:, 5]) == {4.0}


def test_alike_tiles_of_few_slides_give_wide_intervals():
    rng = np.random.default_rng(0)
    groups = [f"slide {i // 100}" for i in range(1000)]
    inside = np.repeat(rng.normal(size=10), 100) + rng.normal(size=1000) / 10
    outside = rng.normal(size=300) + 0.5

    def width(by_group: list[str] | None) -> float:
        inner, outer = Resampler(1000, by_group, 400), Resampler(300, None, 400)
        interval = separation_intervals(inner, [inside], [(outer, [outside])])[0][0].auroc
        assert interval is not None
        return interval[1] - interval[0]

    assert width(groups) > 3 * width(None)


def test_one_group_gives_no_interval_and_does_not_spoil_other_sets():
    inside = Resampler(10, None, 50)
    one, many = Resampler(4, ["p"] * 4, 50), Resampler(4, None, 50)
    scores = [np.arange(10.0)]
    found = separation_intervals(inside, scores, [(one, [np.ones(4)]), (many, [np.arange(4)])])
    assert found[0][0] == module.Intervals(None, None)
    assert found[1][0].auroc is not None
    with pytest.raises(ValueError, match="two tiles"):
        bootstrap_interval([1.0], [2.0, 3.0])


def test_draws_depend_on_seed_and_name_not_on_blocks(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=80), rng.normal(size=30) + 1

    def interval(seed: int) -> tuple[float, float]:
        return bootstrap_interval(inside, outside, n=100, seed=seed)

    whole = interval(0)
    assert whole != interval(1)
    monkeypatch.setattr(module, "BLOCK_CELLS", 560)
    assert interval(0) == whole
    first, second = (Resampler(80, None, 5, 0, name).weights(slice(0, 5)) for name in "ab")
    assert (first != second).any()


def test_the_interval_holds_the_value_and_shrinks_with_more_tiles():
    rng = np.random.default_rng(0)
    widths = []
    for n in (30, 1000):
        inside, outside = rng.normal(size=n), rng.normal(size=n) + 1
        low, high = bootstrap_interval(inside, outside)
        assert low <= ood_auroc(inside, outside) <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3
