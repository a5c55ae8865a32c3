from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ood.evaluation import augrc, aurc, auroc, risk_coverage

TILES = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=25)


def columns(tiles: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s for s, _ in tiles], float), np.array([e for _, e in tiles], bool)


@given(TILES)
def test_aurc_is_the_mean_risk_at_each_tiles_score(tiles: list[tuple[int, bool]]):
    s, wrong = columns(tiles)
    risks = [wrong[s <= threshold].mean() for threshold in s]
    assert aurc(s, wrong) == pytest.approx(np.mean(risks))


@given(TILES)
def test_augrc_is_the_chance_of_an_accepted_error(tiles: list[tuple[int, bool]]):
    s, wrong = columns(tiles)
    # A wrong tile, and a threshold from another: accepted when below it, half when tied with it.
    pairs = [w * ((a < b) + 0.5 * (a == b)) for a, w in zip(s, wrong, strict=True) for b in s]
    assert augrc(s, wrong) == pytest.approx(np.mean(pairs))


@given(TILES, st.randoms(use_true_random=False))
def test_order_does_not_matter(tiles: list[tuple[int, bool]], random: object):
    shuffled = tiles.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert aurc(*columns(tiles)) == pytest.approx(aurc(*columns(shuffled)), abs=1e-12)
    assert augrc(*columns(tiles)) == pytest.approx(augrc(*columns(shuffled)), abs=1e-12)


@given(TILES)
def test_augrc_follows_from_error_rate_and_auroc(tiles: list[tuple[int, bool]]):
    s, wrong = columns(tiles)
    e = wrong.mean()
    telling = auroc(s, wrong) if 0 < e < 1 else 0.5
    assert augrc(s, wrong) == pytest.approx((1 - telling) * e * (1 - e) + e**2 / 2)


def test_optimum_worst_case_and_a_score_that_says_nothing():
    wrong = np.arange(10) >= 6
    assert augrc(np.arange(10), wrong) == pytest.approx(0.4**2 / 2)
    assert augrc(-np.arange(10), wrong) == pytest.approx(0.4 - 0.4**2 / 2)
    assert augrc(np.zeros(10), wrong) == pytest.approx(0.4 / 2)
    assert aurc(np.zeros(10), wrong) == pytest.approx(0.4)
    # Errors come in at coverages 0.7, 0.8, 0.9 and 1.
    assert aurc(np.arange(10), wrong) == pytest.approx((1 / 7 + 2 / 8 + 3 / 9 + 4 / 10) / 10)


def test_the_curve_has_one_point_per_score_and_ends_at_the_error_rate():
    curve = risk_coverage([0.3, 0.1, 0.1, 0.9], [True, False, True, False])
    np.testing.assert_allclose(curve.coverage, [0.5, 0.75, 1.0])
    np.testing.assert_allclose(curve.risk, [0.5, 2 / 3, 0.5])
    np.testing.assert_allclose(curve.generalised_risk, [0.25, 0.5, 0.5])
    with pytest.raises(ValueError, match="without NaN"):
        risk_coverage([np.nan], [True])
    with pytest.raises(ValueError, match="one error flag"):
        risk_coverage([0.1, 0.2], [True])
