"""Thresholds keep what they promise, on any data, and say so when they can't."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_ood.errors import ThresholdError
from napari_ood.evaluation import risk_coverage
from napari_ood.scores.thresholds import (
    MIN_KEPT,
    Meaning,
    Threshold,
    coverage_threshold,
    cumulative_risk,
    keep_threshold,
    risk_threshold,
    value_threshold,
)

TIED = st.sampled_from([-2.0, 0.0, 0.1, 0.3, 7.5])
VALUES = st.one_of(st.floats(-1e3, 1e3, width=32), TIED)
SCORES = arrays(np.float32, st.integers(1, 80), elements=VALUES)
HOLED = arrays(np.float32, st.integers(1, 80), elements=st.one_of(VALUES, st.just(np.nan)))
SHARES = st.one_of(
    st.floats(0, 1, exclude_min=True, allow_subnormal=False), st.sampled_from([0.05, 0.55, 0.95, 1])
)


def kept(threshold: Threshold, scores: np.ndarray) -> int:
    """Tiles with a score that are not flagged."""
    return int((~threshold.flags(scores) & ~np.isnan(scores)).sum())


@settings(deadline=None)
@given(HOLED, SHARES)
def test_keep_keeps_at_least_the_share_and_no_lower_score_would(
    familiar: np.ndarray, share: float
) -> None:
    known = familiar[~np.isnan(familiar)]
    assume(len(known))
    threshold = keep_threshold("entropy", familiar, share)
    assert threshold.parameter == share and threshold.meaning is Meaning.KEEP
    assert kept(threshold, known) / len(known) >= share - 1e-8
    lower = known[known < threshold.value32]
    if len(lower):
        assert kept(value_threshold("entropy", lower.max()), known) < share * len(known)


@settings(deadline=None)
@given(HOLED, SHARES)
def test_coverage_counts_tiles_without_a_score_as_not_kept(
    values: np.ndarray, coverage: float
) -> None:
    n_known = int((~np.isnan(values)).sum())
    try:
        threshold = coverage_threshold("entropy", values, coverage)
    except ThresholdError:
        assert n_known == 0 or n_known / len(values) < coverage
    else:
        assert kept(threshold, values) / len(values) >= coverage - 1e-8


@settings(deadline=None)
@given(HOLED, st.data(), st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5]), st.integers(1, 20))
def test_risk_is_kept_on_the_data_and_no_larger_threshold_would_keep_it(
    scores: np.ndarray, data: st.DataObject, target: float, min_kept: int
) -> None:
    errors = data.draw(arrays(bool, len(scores)))

    def reached(value: float) -> bool:
        left = scores <= np.float32(value)
        return bool(left.sum() >= min_kept and errors[left].mean() <= target)

    candidates = [float(s) for s in np.unique(scores[~np.isnan(scores)]) if reached(float(s))]
    if not candidates:
        with pytest.raises(ThresholdError):
            risk_threshold("entropy", scores, errors, target, min_kept)
    else:
        threshold = risk_threshold("entropy", scores, errors, target, min_kept)
        assert threshold.value == max(candidates)


@settings(deadline=None)
@given(SCORES, st.data())
def test_cumulative_risk_is_the_risk_coverage_curve(
    scores: np.ndarray, data: st.DataObject
) -> None:
    errors = data.draw(arrays(bool, len(scores)))
    values, n_kept, risk = cumulative_risk(scores, errors)
    curve = risk_coverage(scores, errors)
    np.testing.assert_array_equal(values, np.unique(scores))
    np.testing.assert_allclose(n_kept / len(scores), curve.coverage)
    np.testing.assert_allclose(risk, curve.risk)


def test_a_risk_that_rises_and_falls_is_judged_over_the_whole_curve() -> None:
    scores = np.arange(100.0)
    errors = np.zeros(100, bool)
    errors[30:34] = True  # 12 % of the first 34, 4 % of all
    assert risk_threshold("msp", scores, errors, 0.05).value == 99
    errors[90:95] = True  # 4 of 90, then 9 of 95, 9 of 100
    assert risk_threshold("msp", scores, errors, 0.05).value == 89
    assert risk_threshold("msp", scores, errors, 0.09).value == 99


def test_few_lucky_tiles_are_no_evidence() -> None:
    scores, errors = np.arange(100.0), np.arange(100) >= MIN_KEPT - 1
    assert errors[: MIN_KEPT - 1].sum() == 0
    with pytest.raises(ThresholdError, match=r"can be reached is 3\.34 % \(30 of 100"):
        risk_threshold("msp", scores, errors, 0.0)
    with pytest.raises(ThresholdError, match=r"at least 30 held-out tiles .* the bundle has 29"):
        risk_threshold("msp", scores[:29], errors[:29], 0.1)


def test_the_reachable_risk_that_an_error_names_is_reachable() -> None:
    rng = np.random.default_rng(0)
    scores, errors = rng.random(300), rng.random(300) < 0.3
    with pytest.raises(ThresholdError) as caught:
        risk_threshold("msp", scores, errors, 0.0)
    least = float(str(caught.value).split("can be reached is ")[1].split(" %")[0]) / 100
    threshold = risk_threshold("msp", scores, errors, least)
    assert errors[scores.astype(np.float32) <= threshold.value32].mean() <= least


@pytest.mark.parametrize("meaning", [Meaning.KEEP, Meaning.COVERAGE])
def test_constant_scores_flag_nothing(meaning: Meaning) -> None:
    constant = np.full(50, 0.7, np.float32)
    choose = keep_threshold if meaning is Meaning.KEEP else coverage_threshold
    threshold = choose("entropy", constant, 0.5)
    assert not threshold.flags(constant).any()
    assert threshold.flags(np.nextafter(constant, np.float32(1))).all()


def test_one_tile_is_kept() -> None:
    assert coverage_threshold("entropy", [0.25], 0.01).value == 0.25
    assert keep_threshold("entropy", [0.25], 1).value == 0.25


def test_flags_are_strict_in_the_precision_of_scores() -> None:
    scores = np.array([0.1, np.nan, 0.2, np.inf, -np.inf], np.float32)
    # As float64, 0.1 lies below the float32 0.1: no comparison may depend on who casts what.
    flags = value_threshold("entropy", 0.1).flags(scores)
    assert flags.tolist() == [False, False, True, True, False]
    assert not value_threshold("entropy", 1e300).flags([1e30]).any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: keep_threshold("msp", None, 0.95), "take a bundle with a reference"),
        (lambda: keep_threshold("msp", [np.nan], 0.95), "choose coverage or a plain value"),
        (lambda: keep_threshold("msp", [1.0], 0.0), "above 0"),
        (lambda: keep_threshold("msp", [1.0], 95), "at most 1"),
        (lambda: keep_threshold("msp", [1.0], float("nan")), "above 0"),
        (lambda: risk_threshold("msp", None, None, 0.05), "held-out tiles with labels"),
        (lambda: risk_threshold("msp", np.ones(40), np.zeros(40), 1.5), "from 0 to below 1"),
        (lambda: coverage_threshold("msp", [], 0.9), "no finished tile"),
        (lambda: coverage_threshold("msp", [1, np.nan, 2], 0.9), r"at most 66\.6 %"),
        (lambda: value_threshold("msp", float("inf")), "finite"),
        (lambda: value_threshold("msp", float("nan")), "finite"),
        (lambda: Threshold("msp", 1.0, Meaning.KEEP), "needs a share"),
        (lambda: Threshold("msp", 1.0, Meaning.VALUE, 0.5), "no share"),
        (lambda: Threshold.from_dict({"score": "msp"}), "not a threshold"),
        (lambda: Threshold.from_dict({"score": "m", "value": 1, "meaning": "x"}), "not a thresh"),
        (lambda: Threshold.from_dict([]), "not a threshold"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_done_is_said_in_words(call: object, words: str) -> None:
    with pytest.raises(ThresholdError, match=words):
        call()  # type: ignore[operator]


@settings(deadline=None)
@given(VALUES, st.sampled_from(list(Meaning)), SHARES)
def test_json_round_trip(value: float, meaning: Meaning, share: float) -> None:
    parameter = None if meaning is Meaning.VALUE else share
    threshold = Threshold("max(a,b)", value, meaning, parameter)
    stored = json.loads(json.dumps(threshold.as_dict()))
    assert Threshold.from_dict(stored) == threshold
    assert stored["words"] == threshold.words()


def test_words() -> None:
    assert Threshold("s", 1, Meaning.KEEP, 0.95).words() == "keeps 95 % of in-distribution tiles"
    assert Threshold("s", 1, Meaning.RISK, 0.025).words().startswith("at most 2.5 % errors among")
    assert Threshold("s", 1, Meaning.COVERAGE, 0.8).words() == "keeps 80 % of this slide's tiles"
    assert Threshold("s", 1).words() == "value set by hand"
