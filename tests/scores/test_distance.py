"""Mahalanobis distance against a direct formula in float64."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from napari_ood.scores import Mahalanobis


def _data(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 400)
    x = rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12)) + 3.0 * labels[:, None]
    return x.astype(np.float32), labels, (rng.normal(size=(60, 12)) * 9).astype(np.float32)


@pytest.mark.parametrize("normalise", [False, True])
def test_equals_the_direct_formula(normalise: bool) -> None:
    x, y, test = (a.astype(np.float64) for a in _data())
    if normalise:
        unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, test)]
    else:
        unit = [x, test]
    means = np.stack([unit[0][y == c].mean(axis=0) for c in range(3)])
    fit = LedoitWolf(assume_centered=True).fit(unit[0] - means[y.astype(int)])
    precision = np.linalg.inv(fit.covariance_)
    diff = unit[1][:, None] - means[None]
    expected = np.sqrt(np.einsum("ncd,de,nce->nc", diff, precision, diff).min(axis=1))
    np.testing.assert_allclose(Mahalanobis.fit(x, y, normalise).score(test), expected, rtol=1e-5)


def test_far_points_score_higher_than_training_points() -> None:
    x, y, _ = _data()
    held, far = x[300:], x[300:] + 40 * np.sign(np.arange(12) % 2 - 0.5)
    detector = Mahalanobis.fit(x[:300], y[:300])
    values = np.r_[detector.score(held), detector.score(far)]
    assert roc_auc_score(np.r_[np.zeros(100), np.ones(100)], values) > 0.99


def test_a_feature_that_never_varies_in_training_flags_any_departure() -> None:
    x, y, _ = _data()
    x[:, 0] = 1.0
    probe = x[:1].copy()
    detector = Mahalanobis.fit(x, y)
    inside = detector.score(probe)
    probe[0, 0] = 2.0
    assert np.isfinite(inside) and detector.score(probe) > inside


def test_mismatched_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        Mahalanobis.fit(np.zeros((4, 2)), np.zeros(3))
