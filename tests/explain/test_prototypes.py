"""Nearest reference tiles: against a plain search, and of tiles whose answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from napari_ood.errors import ExplainError
from napari_ood.explain.prototypes import Prototypes, nearest_tiles, prototypes_of
from napari_ood.models import Bundle, Card, Reference
from napari_ood.scores.distance import l2_normalised

BLIND = "the features of the last layer, blind to stain and focus, in standard deviations"


def test_the_shipped_bundle_finds_a_reference_tile_itself_first() -> None:
    from napari_ood.models import load_bundle

    bundle = load_bundle("lymph-node-he")
    reference = bundle.require_reference()
    for row in (0, 7, 1500):
        first, second = nearest_tiles(bundle, reference.train_features[row], k=2)
        assert (first.index, first.distance) == (row, 0.0)
        assert first.label == reference.train_labels[row]
        assert first.class_name == bundle.card.classes[first.label]
        # 0 would say: more typical than anything; what is known is where the next one lies
        assert first.percentile == second.percentile and second.distance > 0


def test_distances_are_those_of_the_detector() -> None:
    from napari_ood.models import load_bundle

    bundle = load_bundle("lymph-node-he")
    reference = bundle.require_reference()
    assert bundle.card.scores["tissue"].startswith("invariant_knn")  # the 10th nearest
    x = reference.validation_features[:40]
    _, distances = prototypes_of(bundle).search(x, 10)
    scores = reference.score(bundle.card.scores["tissue"], None, x)
    np.testing.assert_allclose(distances[:, 9], scores, rtol=1e-5)
    assert (np.diff(distances, axis=1) >= 0).all()


def test_any_batch_says_the_same(two_kinds_bundle: Bundle) -> None:
    x = two_kinds_bundle.require_reference().validation_features
    found = Prototypes(two_kinds_bundle)
    together = found.nearest_of_each(x, 5)
    for row, prototypes in zip(x, together, strict=True):
        alone = found.nearest(row, 5)
        assert [p.index for p in alone] == [p.index for p in prototypes]
        for a, b in zip(alone, prototypes, strict=True):
            assert a.distance == pytest.approx(b.distance, rel=1e-9)
            assert a.percentile == b.percentile


def test_percentiles_are_ranks_among_held_out_tiles(tiny_bundle: Bundle) -> None:
    """Of the held-out tiles' own nearest distances: 2, 4, …, 100 %, whatever the space."""
    found = Prototypes(tiny_bundle)
    x = tiny_bundle.require_reference().validation_features
    nearest = sorted(p[0].percentile for p in found.nearest_of_each(x, 1))
    np.testing.assert_allclose(nearest, np.arange(1, len(x) + 1) * 100 / len(x))
    assert found.percentile([0.0, np.inf]).tolist() == [0, 100]


def test_without_a_score_that_measures_distances_features_of_unit_length_are_compared(
    tiny_bundle: Bundle,
) -> None:
    bundle = _with_scores(tiny_bundle, {"uncertainty": "entropy", "ood": "vim"})
    found = Prototypes(bundle)
    reference = bundle.require_reference()
    assert found.space == "the features of the last layer, by direction"
    train, held = (
        l2_normalised(reference.select(x, ("penultimate",)).astype(float))
        for x in (reference.train_features, reference.validation_features)
    )
    plain = np.linalg.norm(held[:, None] - train[None], axis=2)
    rows, distances = found.search(reference.validation_features, 4)
    np.testing.assert_allclose(distances, np.sort(plain, axis=1)[:, :4], atol=1e-9)
    np.testing.assert_allclose(np.take_along_axis(plain, rows, 1), distances, atol=1e-9)


def test_the_part_that_looks_for_neighbours_comes_before_others(two_kinds_bundle: Bundle) -> None:
    assert Prototypes(two_kinds_bundle).space == BLIND
    scores = {"uncertainty": "entropy", "ood": "max(mahalanobis@layer1,invariant_nn@penultimate)"}
    bundle = _with_scores(two_kinds_bundle, scores)
    assert Prototypes(bundle).space == BLIND
    early = "the features of an early layer"
    assert Prototypes(bundle, "mahalanobis@layer1").space == f"{early}, in standard deviations"
    assert Prototypes(bundle, "knn@layer1").space == f"{early}, by direction"


def test_what_cannot_be_compared_is_refused(tiny_bundle: Bundle) -> None:
    d = tiny_bundle.card.n_features
    with pytest.raises(ExplainError, match="choose the bundle"):
        nearest_tiles(tiny_bundle, np.zeros(d + 1))
    with pytest.raises(ExplainError, match="not finite"):
        nearest_tiles(tiny_bundle, np.full(d, np.nan))
    with pytest.raises(ExplainError, match="one nearest tile or more"):
        nearest_tiles(tiny_bundle, np.zeros(d), k=0)
    with pytest.raises(ExplainError, match="reads no features"):
        nearest_tiles(tiny_bundle, np.zeros(d), score="entropy")
    with pytest.raises(ExplainError, match="unknown score"):
        nearest_tiles(tiny_bundle, np.zeros(d), score="nonsense")
    assert len(nearest_tiles(tiny_bundle, np.zeros(d), k=1000)) == 100  # all there are


class _Other(Bundle):
    """A bundle with another card and the same reference."""

    def __init__(self, bundle: Bundle, card: Card) -> None:
        super().__init__(bundle.path, card, bundle.hashes)
        self._of = bundle

    def require_reference(self) -> Reference:
        return self._of.require_reference()


def _with_scores(bundle: Bundle, scores: dict[str, str]) -> Bundle:
    return _Other(bundle, dataclasses.replace(bundle.card, scores=scores))
