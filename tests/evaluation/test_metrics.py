from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from napari_ood.evaluation import (
    auroc,
    bootstrap_interval,
    expected_calibration_error,
    fpr_at_tpr,
    ood_auroc,
)

SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=40)


@given(SCORES, SCORES)
def test_auroc_agrees_with_scikit_learn_ties_and_all(inside: list[int], outside: list[int]):
    labels = [0] * len(inside) + [1] * len(outside)
    expected = roc_auc_score(labels, inside + outside)
    assert ood_auroc(inside, outside) == pytest.approx(expected)
    assert auroc(inside + outside, np.array(labels) == 1) == pytest.approx(expected)


@given(SCORES, SCORES)
def test_fpr_is_the_lowest_at_which_enough_tiles_are_kept(inside: list[int], outside: list[int]):
    values = [t for t in sorted(set(inside)) if np.mean(np.array(inside) <= t) >= 0.95]
    assert fpr_at_tpr(inside, outside) == np.mean(np.array(outside) <= min(values))


def test_fpr_of_a_small_set_is_not_falsely_zero():
    # No threshold of 19 tiles keeps exactly 95 %: FD-Shifts' and OpenOOD's ancestors gave 0 here.
    inside, outside = np.arange(19), np.arange(19) - 0.5
    assert fpr_at_tpr(inside, outside) == 1.0
    assert fpr_at_tpr(np.arange(100), np.full(10, 94.5)) == 0.0
    assert fpr_at_tpr(np.arange(100), np.full(10, 93.5)) == 1.0


def test_scores_that_are_not_numbers_or_groups_without_tiles_are_refused():
    with pytest.raises(ValueError, match="without NaN"):
        auroc([0.1, np.nan], [True, False])
    with pytest.raises(ValueError, match="of negatives"):
        auroc([0.1, 0.2], [True, True])
    with pytest.raises(ValueError, match="FPR needs"):
        fpr_at_tpr([], [1.0])


def test_calibration_error_of_known_cases():
    sure = np.array([[1.0, 0.0]] * 10)
    labels = np.array([0] * 7 + [1] * 3)
    assert expected_calibration_error(sure, labels) == pytest.approx(0.3)
    assert expected_calibration_error(np.array([[0.7, 0.3]] * 10), labels) == pytest.approx(0.0)


def test_the_interval_holds_the_value_and_shrinks_with_more_tiles():
    rng = np.random.default_rng(0)
    widths = []
    for n in (30, 1000):
        inside, outside = rng.normal(size=n), rng.normal(size=n) + 1
        low, high = bootstrap_interval(inside, outside)
        assert low <= ood_auroc(inside, outside) <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3
