from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from napari_ood.evaluation import (
    auroc,
    expected_calibration_error,
    fpr_at_tpr,
    mean_auroc,
    negative_log_likelihood,
    ood_auroc,
    roc_curve,
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


def test_fpr_of_fifty_and_fifty_tiles_is_the_true_one():
    # The heatmap authors' code gave 0 for such sets: no threshold keeps between 94.95 and 95.05 %.
    rng = np.random.default_rng(3)
    inside, outside = rng.normal(size=50), rng.normal(size=50) - 0.5
    kept = np.sort(inside)[47]  # 48 of 50 tiles are 96 %, 47 would be 94 %
    assert fpr_at_tpr(inside, outside) == np.mean(outside <= kept) > 0.9
    assert fpr_at_tpr(inside, inside) == 0.96


@given(SCORES, SCORES)
def test_the_area_under_the_roc_points_is_the_auroc(inside: list[int], outside: list[int]):
    positive = np.r_[np.zeros(len(inside), bool), np.ones(len(outside), bool)]
    fpr, tpr = roc_curve(inside + outside, positive)
    assert np.trapezoid(tpr, fpr) == pytest.approx(ood_auroc(inside, outside))
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) + np.diff(tpr) > 0).all()


def test_auroc_of_many_classes_is_the_mean_of_one_against_the_rest():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 60)
    labels = np.arange(60) % 3
    assert mean_auroc(p, labels) == pytest.approx(roc_auc_score(labels, p, multi_class="ovr"))
    assert mean_auroc(p[:, :2], labels == 1) == pytest.approx(roc_auc_score(labels == 1, p[:, 1]))
    with pytest.raises(ValueError, match="of positives"):
        mean_auroc(p, np.arange(60) % 2)


def test_nll_is_finite_when_a_true_class_has_no_probability():
    p = [[0.5, 0.5], [1.0, 0.0]]
    assert negative_log_likelihood(p, [0, 1]) == pytest.approx((np.log(2) - np.log(1e-12)) / 2)


def test_scores_that_are_not_numbers_or_groups_without_tiles_are_refused():
    with pytest.raises(ValueError, match="without NaN"):
        auroc([0.1, np.nan], [True, False])
    with pytest.raises(ValueError, match="of negatives"):
        auroc([0.1, 0.2], [True, True])
    with pytest.raises(ValueError, match="FPR needs"):
        fpr_at_tpr([], [1.0])
    with pytest.raises(ValueError, match="without NaN"):
        fpr_at_tpr([0.0, np.nan], [1.0])


def test_calibration_error_of_known_cases():
    sure = np.array([[1.0, 0.0]] * 10)
    labels = np.array([0] * 7 + [1] * 3)
    assert expected_calibration_error(sure, labels) == pytest.approx(0.3)
    assert expected_calibration_error(np.array([[0.7, 0.3]] * 10), labels) == pytest.approx(0.0)
