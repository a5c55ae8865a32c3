from __future__ import annotations

import numpy as np
import pytest

from napari_ood.errors import BundleError
from napari_ood.models import FeatureBlock, Reference

BLOCKS = (
    FeatureBlock("early", "layer1", "mean", 0, 4),
    FeatureBlock("penultimate", "penultimate", "mean", 4, 10),
)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    features = rng.normal(size=(500, 10)) @ rng.normal(size=(10, 10))
    features[:300] += 5 * labels[:, None]
    return {
        "train_features": features[:300],
        "train_labels": labels,
        "head_weight": rng.normal(size=(3, 2, 6)),
        "head_bias": rng.normal(size=(3, 2)),
        "validation_logits": rng.normal(size=(200, 3, 2)) * 2,
        "validation_features": features[300:],
        "validation_labels": np.arange(200) % 2,
    }


def test_mahalanobis_reads_only_its_block_and_matches_the_formula(arrays: dict[str, np.ndarray]):
    from sklearn.covariance import ledoit_wolf

    reference = Reference(**arrays, blocks=BLOCKS)
    x, y = reference.train_features[:, 4:].astype(float), reference.train_labels
    means = np.stack([x[y == c].mean(0) for c in range(2)])
    inverse = np.linalg.inv(ledoit_wolf(x - means[y], assume_centered=True)[0])
    tiles = reference.validation_features[:20]
    d = tiles[:, None, 4:] - means
    expected = np.sqrt(np.einsum("nci,ij,ncj->nc", d, inverse, d)).min(axis=1)
    for name in ("mahalanobis", "mahalanobis@penultimate"):
        np.testing.assert_allclose(reference.score(name, None, tiles), expected, rtol=1e-4)
    changed = tiles.copy()
    changed[:, :4] = 1e3
    np.testing.assert_array_equal(
        reference.score("mahalanobis", None, changed), reference.score("mahalanobis", None, tiles)
    )
    assert reference.score("mahalanobis@early", None, changed).min() > 100


def test_ranges_come_from_validation_tiles(arrays: dict[str, np.ndarray]):
    reference = Reference(**arrays, blocks=BLOCKS)
    scores = reference.validation_scores("mahalanobis@early")
    assert (np.diff(scores) >= 0).all()
    low, high = reference.display_range("mahalanobis@early")
    p5, p95 = np.quantile(scores, [0.05, 0.95])
    assert low == pytest.approx(p5)
    assert (low + high) / 2 == pytest.approx(p95)
    assert reference.quantile("mahalanobis@early", 0.95) == pytest.approx(p95)
    assert reference.validation_scores("mahalanobis@early") is scores


def test_ranges_stay_within_what_a_score_can_be(arrays: dict[str, np.ndarray]):
    reference = Reference(**arrays, blocks=BLOCKS)
    low, high = reference.display_range("entropy")
    assert 0 <= low < high <= np.log(2)
    assert reference.display_range("msp")[1] <= 0.5
    constant = arrays | {"validation_logits": np.zeros((200, 3, 2))}
    low, high = Reference(**constant, blocks=BLOCKS).display_range("disagreement")
    assert low < high


def test_temperature_softens_the_scores_of_logits(arrays: dict[str, np.ndarray]):
    sharp = Reference(**arrays, blocks=BLOCKS).quantile("msp", 0.5)
    soft = Reference(**arrays, blocks=BLOCKS, temperature=4.0).quantile("msp", 0.5)
    assert soft > sharp


def test_the_stored_tensors_give_the_reference_back(arrays: dict[str, np.ndarray]):
    reference = Reference(**arrays, blocks=BLOCKS)
    again = Reference.from_tensors(reference.tensors(), BLOCKS)
    twice = Reference.from_tensors(again.tensors(), BLOCKS)
    np.testing.assert_allclose(again.train_features, reference.train_features, rtol=1e-3)
    np.testing.assert_array_equal(twice.train_features, again.train_features)
    np.testing.assert_array_equal(again.validation_logits, reference.validation_logits)


def test_features_too_large_for_half_precision_are_kept(arrays: dict[str, np.ndarray]):
    large = arrays | {"train_features": arrays["train_features"] * 1e6}
    reference = Reference(**large, blocks=BLOCKS)
    again = Reference.from_tensors(reference.tensors(), BLOCKS)
    np.testing.assert_array_equal(again.train_features, reference.train_features)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"train_labels": np.zeros(3, int)}, r"train\.labels"),
        ({"head_bias": np.zeros((2, 2))}, r"head\.bias"),
        ({"validation_features": np.zeros((200, 9))}, r"validation\.features"),
        ({"train_features": np.full((300, 10), np.nan)}, "not finite"),
        ({"validation_labels": np.full(200, -1)}, "negative"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    arrays: dict[str, np.ndarray], change: dict[str, np.ndarray], match: str
):
    with pytest.raises(BundleError, match=match):
        Reference(**(arrays | change), blocks=BLOCKS)


@pytest.mark.parametrize(
    ("name", "match"),
    [("magic", "unknown score"), ("mahalanobis@nowhere", "no features 'nowhere'")],
)
def test_scores_that_do_not_exist_are_named(arrays: dict[str, np.ndarray], name: str, match: str):
    reference = Reference(**arrays, blocks=BLOCKS)
    with pytest.raises(BundleError, match=match):
        reference.validation_scores(name)
    with pytest.raises(BundleError, match="do not belong to this bundle"):
        reference.score("mahalanobis", None, np.zeros((2, 3)))
