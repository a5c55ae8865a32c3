"""Scores of the logits against direct formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logsumexp, softmax
from scipy.stats import entropy as scipy_entropy

from napari_ood.scores import (
    disagreement,
    dissent,
    dissenters,
    energy,
    entropy,
    maxlogit,
    mean_probability,
    msp,
)

LOGITS = arrays(
    np.float32,
    st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(2, 5)),
    elements=st.floats(-200, 200, width=32),
)


@given(LOGITS, st.floats(0.25, 4))
def test_scores_equal_direct_formulas(logits: np.ndarray, temperature: float) -> None:
    z = logits.astype(np.float64) / temperature
    p = softmax(z, axis=-1)
    mean = p.mean(axis=1)
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(mean_probability(logits, temperature), mean, **close)
    np.testing.assert_allclose(entropy(logits, temperature), scipy_entropy(mean, axis=-1), **close)
    np.testing.assert_allclose(msp(logits, temperature), 1 - mean.max(-1, initial=0), **close)
    information = scipy_entropy(mean, axis=-1) - scipy_entropy(p, axis=-1).mean(axis=1)
    np.testing.assert_allclose(disagreement(logits, temperature), information, **close)
    free = -temperature * logsumexp(z, axis=-1).mean(axis=1)
    np.testing.assert_allclose(energy(logits, temperature), free, rtol=1e-5, atol=1e-3)
    top = -z.mean(axis=1).max(-1, initial=-np.inf)
    np.testing.assert_allclose(maxlogit(logits, temperature), top, rtol=1e-5, atol=1e-4)


@given(LOGITS)
def test_scores_stay_within_their_bounds(logits: np.ndarray) -> None:
    n_classes = logits.shape[-1]
    for score, top in ((entropy, np.log(n_classes)), (disagreement, np.log(n_classes)), (msp, 1)):
        values = score(logits)
        assert values.dtype == np.float32
        assert np.all(values >= 0) and np.all(values <= top + 1e-5)


def test_one_head_never_disagrees() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 1, 3)) * 10
    assert np.all(disagreement(logits) < 1e-6)


def test_opposed_heads_disagree_fully_and_uniform_heads_not_at_all() -> None:
    opposed = np.array([[[50.0, -50.0], [-50.0, 50.0]]])
    unsure = np.zeros((1, 2, 2))
    np.testing.assert_allclose(disagreement(opposed), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(disagreement(unsure), 0, atol=1e-7)
    np.testing.assert_allclose(entropy(unsure), np.log(2), rtol=1e-6)


@given(LOGITS, st.floats(0.25, 4))
def test_dissent_counts_the_heads_that_choose_otherwise(logits: np.ndarray, t: float) -> None:
    """Tile by tile; a head for which the predicted class is among its best does not dissent."""
    found = dissent(logits, t)
    assert found.dtype == np.float32 and found.shape == (len(logits),)
    predicted = mean_probability(logits, t).argmax(axis=1)
    for tile, said, count in zip(logits, predicted, found, strict=True):
        chosen = [np.flatnonzero(head == head.max()) for head in tile]
        assert count == sum(said not in best for best in chosen)
    order = np.random.default_rng(0).permutation(logits.shape[1])
    np.testing.assert_array_equal(dissent(logits[:, order], t), found)


def test_one_sure_head_outvotes_two_that_waver_and_a_tie_goes_to_the_first_class() -> None:
    sure = [[9.0, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.1, 0.0]]
    spread = [[2.0, 1.9, 0.0], [0.0, 1.9, 2.0], [2.0, 1.9, 0.0]]
    tied = [[5.0, -5.0, -5.0], [-5.0, 5.0, -5.0], [0.0, 0.0, 0.0]]
    logits = np.array([sure, spread, tied])
    assert mean_probability(logits).argmax(axis=1).tolist() == [0, 1, 0]
    assert dissenters(logits).tolist() == [[False, True, True], [True] * 3, [False, True, False]]
    assert dissent(logits).tolist() == [2, 3, 1]


def test_nan_tiles_stay_nan_and_leave_others_alone() -> None:
    logits = np.zeros((2, 3, 2), np.float32)
    logits[0] = np.nan
    for score in (entropy, msp, disagreement, dissent, energy, maxlogit):
        assert np.isnan(score(logits)).tolist() == [True, False]


def test_wrong_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="N, M, C"):
        entropy(np.zeros((3, 2)))
