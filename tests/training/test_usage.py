from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import log_softmax

from napari_ood.training import head_usage


def noisy_heads(m: int = 5, n: int = 400, own: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Heads that share a signal and have noise of their own."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    shared = np.eye(3)[labels] * 3 + rng.normal(0, 1, (n, 3))
    return shared[:, None] + rng.normal(0, own, (n, m, 3)), labels


def test_numbers_follow_their_definitions():
    logits, labels = noisy_heads()
    usage = head_usage(logits, labels, temperature=2.0)
    log_p = log_softmax(logits / 2.0, axis=-1)
    prediction = log_p.argmax(-1)
    true = log_p[np.arange(400), :, labels]
    assert usage.accuracy == pytest.approx((prediction == labels[:, None]).mean(0))
    assert usage.nll == pytest.approx(-true.mean(0))
    assert usage.agreement[1][3] == pytest.approx((prediction[:, 1] == prediction[:, 3]).mean())
    assert usage.win_share[2] == pytest.approx((true.argmax(1) == 2).mean())
    mean = np.exp(log_p).mean(1)
    assert usage.ensemble_nll == pytest.approx(-np.log(mean[np.arange(400), labels]).mean())
    assert usage.ensemble_accuracy == pytest.approx((mean.argmax(1) == labels).mean())
    others = np.where(np.eye(3, dtype=bool)[labels][:, None], -np.inf, log_p).max(-1)
    expected = np.corrcoef((true - others).T)
    np.testing.assert_allclose(usage.margin_correlation, expected)
    assert not usage.collapsed
    assert usage.warning == ""
    assert json.loads(json.dumps(usage.as_dict()))["win_share"] == list(usage.win_share)


def test_a_head_that_wins_alone_is_a_collapse():
    logits, labels = noisy_heads()
    logits[:, 2] = np.eye(3)[labels] * 20
    usage = head_usage(logits, labels)
    assert usage.collapsed
    assert "head 2 is the best" in usage.warning


def test_heads_that_learnt_nothing_are_a_collapse():
    logits, labels = noisy_heads()
    logits[:, 3:] = np.random.default_rng(1).normal(0, 1, (400, 2, 3))
    assert "2 of 5 heads are far less accurate than the best" in head_usage(logits, labels).warning


def test_copies_are_a_collapse():
    logits, labels = noisy_heads(own=0.01)
    assert "copies" in head_usage(logits, labels).warning


def test_one_head_and_constant_heads_are_described_without_a_warning_of_numpy():
    logits, labels = noisy_heads(m=1)
    assert not head_usage(logits, labels).collapsed
    with np.errstate(all="raise"):
        usage = head_usage(np.zeros((10, 3, 2)), np.zeros(10, int))
    assert usage.margin_correlation[0] == (1.0, 0.0, 0.0)
