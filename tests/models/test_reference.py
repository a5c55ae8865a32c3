from __future__ import annotations

import numpy as np
import pytest

from napari_ood.errors import BundleError
from napari_ood.models import FeatureBlock, Reference
from napari_ood.slides.appearance import STATISTICS

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


ALL = (
    *("mahalanobis@early", "mahalanobis++", "relative@early+penultimate", "knn", "residual@early"),
    *("vim", "vim@early", "multilayer@early+penultimate", "invariant@early", "invariant_knn"),
    *("max(mahalanobis@early,entropy)", "max(vim,max(knn@early,invariant))"),
)


@pytest.fixture
def full(arrays: dict[str, np.ndarray]) -> Reference:
    rng = np.random.default_rng(3)
    return Reference(
        **arrays,
        blocks=BLOCKS,
        nuisance_features=rng.normal(size=(300, 10)),
        statistics=rng.random((300, len(STATISTICS))),
    )


@pytest.mark.parametrize("name", ALL)
def test_every_score_has_a_range_and_a_threshold(full: Reference, name: str):
    scores = full.validation_scores(name)
    assert scores.shape == (200,) and np.isfinite(scores).all() and (np.diff(scores) >= 0).all()
    low, high = full.display_range(name)
    assert low == pytest.approx(full.quantile(name, 0.05))
    assert (low + high) / 2 == pytest.approx(full.quantile(name, 0.95), rel=1e-5)
    direct = full.score(name, full.validation_logits, full.validation_features)
    np.testing.assert_array_equal(np.sort(direct), scores)


def test_max_takes_the_larger_after_each_part_got_its_threshold_at_one(full: Reference):
    a, b = "mahalanobis@early", "msp"
    logits, features = full.validation_logits, full.validation_features * 1.5
    z = []
    for name in (a, b):
        q50, q95 = np.quantile(full.validation_scores(name).astype(np.float64), [0.5, 0.95])
        z.append((full.score(name, logits, features).astype(np.float64) - q50) / (q95 - q50))
    found = full.score(f"max({a},{b})", logits, features)
    np.testing.assert_allclose(found, np.maximum(*z), rtol=1e-5, atol=1e-5)
    flagged = np.maximum(*z) > 1
    parts = [full.score(n, logits, features) > full.quantile(n, 0.95) for n in (a, b)]
    np.testing.assert_array_equal(flagged, parts[0] | parts[1])


def test_max_of_a_score_that_never_varies_stays_finite(arrays: dict[str, np.ndarray]):
    constant = arrays | {"validation_logits": np.zeros((200, 3, 2))}
    reference = Reference(**constant, blocks=BLOCKS)
    scores = reference.score("max(msp,knn)", np.ones((200, 3, 2)), reference.validation_features)
    assert np.isfinite(scores).all()


def test_a_part_that_cannot_be_scored_makes_the_max_nan(full: Reference):
    features = full.validation_features[:4].copy()
    features[1, 0] = np.nan
    found = full.score("max(entropy,mahalanobis@early)", full.validation_logits[:4], features)
    assert np.isnan(found).tolist() == [False, True, False, False]


def test_changed_tiles_are_stored_and_read_back(full: Reference):
    stored = full.tensors()
    assert stored["nuisance.features"].dtype == np.float16
    again = Reference.from_tensors(stored, BLOCKS)
    np.testing.assert_allclose(
        again.nuisance_features, full.nuisance_features, rtol=1e-3, atol=1e-6
    )
    np.testing.assert_array_equal(again.statistics, full.statistics)
    tiles = full.validation_features
    np.testing.assert_allclose(
        again.score("invariant@early", None, tiles),
        full.score("invariant@early", None, tiles),
        rtol=5e-3,
    )


def test_an_older_reference_loads_and_says_what_it_lacks(arrays: dict[str, np.ndarray]):
    stored = Reference(**arrays, blocks=BLOCKS).tensors()
    assert "nuisance.features" not in stored
    reference = Reference.from_tensors(stored, BLOCKS)
    assert reference.statistics is None
    assert np.isfinite(reference.quantile("mahalanobis@early", 0.5))
    for name in ("invariant@early", "invariant_knn", "max(entropy,invariant)"):
        with pytest.raises(BundleError, match=r"changed tiles.*fit the reference anew"):
            reference.validation_scores(name)


@pytest.mark.parametrize(
    ("nuisance", "match"),
    [
        (np.zeros((300, 9)), r"nuisance\.features"),
        (np.zeros((4, 10)), r"nuisance\.features"),
        (np.full((300, 10), np.inf), "not finite"),
    ],
)
def test_changed_tiles_that_do_not_fit_are_refused(
    arrays: dict[str, np.ndarray], nuisance: np.ndarray, match: str
):
    with pytest.raises(BundleError, match=match):
        Reference(**arrays, blocks=BLOCKS, nuisance_features=nuisance)


def test_missing_arrays_are_named(full: Reference):
    with pytest.raises(BundleError, match="needs logits"):
        full.score("vim", None, full.validation_features)
    with pytest.raises(BundleError, match="needs features"):
        full.score("max(knn,msp)", full.validation_logits, None)
    with pytest.raises(BundleError, match="no features 'nowhere'"):
        full.score("max(msp,knn@nowhere)", full.validation_logits, full.validation_features)


def test_nobody_can_change_the_scores_of_another(full: Reference):
    """SF-Visuals hands one cached table to all its scores, which write into it."""
    before = full.validation_scores("knn").copy()
    with pytest.raises(ValueError, match="read-only"):
        full.validation_scores("knn")[:] = 0
    full.score("knn", None, full.validation_features)[:] = 0
    full.validation_scores("max(knn,msp)")
    np.testing.assert_array_equal(full.validation_scores("knn"), before)


def test_what_several_scores_share_is_computed_once(
    full: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("max(mahalanobis@early,knn)", "msp", "knn", "mahalanobis@early")
    logits, features = full.validation_logits[:9], full.validation_features[:9]
    expected = [full.score(name, logits, features) for name in names]
    computed: list[str] = []
    alone = Reference._feature_score

    def counted(self: Reference, spec, *arrays):
        computed.append(str(spec))
        return alone(self, spec, *arrays)

    monkeypatch.setattr(Reference, "_feature_score", counted)
    found = full.scores(names, logits, features)
    assert len(found) == len(names)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert sorted(computed) == sorted(set(computed)) and len(computed) == 2
