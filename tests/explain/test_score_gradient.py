"""Central differences of scores against their formulas, and against changes of pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hand_made import colours, engine_of, noise_tiles

from napari_ood.errors import ExplainError
from napari_ood.explain import Explainer, Target
from napari_ood.explain.objective import entropy
from napari_ood.explain.progress import Steps
from napari_ood.explain.score_gradient import PIECE_BYTES, DifferentiableScore
from napari_ood.models import Bundle, load_bundle
from napari_ood.scores import parse_score


def points(bundle: Bundle, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Held-out logits and features, and the same moved away from the training tiles."""
    reference = bundle.require_reference()
    z, x = reference.validation_logits[:n], reference.validation_features[:n]
    rng = np.random.default_rng(0)
    far = x + rng.normal(0, 3, x.shape) * reference.train_features.std(axis=0)
    return np.concatenate([z, z]), np.concatenate([x, far]).astype(np.float32)


@pytest.mark.parametrize("name", ["synthetic-he", "lymph-node-he", "dermoscopy"])
@pytest.mark.parametrize("normalise", [False, True])
def test_mahalanobis_gradient_is_the_formula(name, normalise) -> None:
    """d = ‖W (x − μ)‖, ∂d/∂x = Wᵀ W (x − μ) / d; features of unit length: by their Jacobian."""
    bundle = load_bundle(name)
    block = bundle.card.blocks[1]
    score = f"mahalanobis{'++' * normalise}@{block.name}"
    logits, features = points(bundle)
    differences = DifferentiableScore.of(bundle, parse_score(score), 1.0)
    by_logits, found = differences.gradient(logits, features)
    assert not by_logits.any()
    columns = slice(block.start, block.stop)
    outside = np.ones(features.shape[1], bool)
    outside[columns] = False
    assert not found[:, outside].any()
    detector = bundle.require_reference()._fit(parse_score(score))
    spread = differences.steps[columns].astype(float)
    for x, gradient in zip(features[:, columns].astype(float), found[:, columns], strict=True):
        norm = np.linalg.norm(x) if normalise else 1.0
        away = x / norm @ detector.whitening - detector.means
        away = away[np.argmin((away**2).sum(axis=1))]
        expected = detector.whitening @ away / np.linalg.norm(away)
        if normalise:
            unit = x / norm
            expected = (expected - unit * (unit @ expected)) / norm
        # Where features differ in scale by orders of magnitude only this comparison is fair.
        error = np.linalg.norm((gradient - expected) * spread)
        assert error < 0.02 * np.linalg.norm(expected * spread)


def test_entropy_by_differences_is_entropy_by_autograd(tiny_bundle) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4, 3, 3)).astype(np.float32)
    score = DifferentiableScore.of(tiny_bundle, parse_score("entropy"), 0.8)
    found, _ = score.gradient(logits, np.zeros((4, 0), np.float32))
    z = torch.from_numpy(logits).requires_grad_()
    (expected,) = torch.autograd.grad(entropy(z, 0.8).sum(), z)
    np.testing.assert_allclose(found, expected, atol=2e-3 * float(expected.abs().max()))


def test_entropy_of_a_sure_model_has_a_finite_gradient() -> None:
    z = torch.tensor([[[500.0, -500.0]]], requires_grad=True)
    (gradient,) = torch.autograd.grad(entropy(z, 1.0).sum(), z)
    assert torch.isfinite(gradient).all()


def test_vim_is_differentiated_by_logits_and_features(tiny_bundle) -> None:
    """−logsumexp(z̄) has the derivative −softmax(z̄) / M by each head's logits."""
    logits, features = points(tiny_bundle)
    score = DifferentiableScore.of(tiny_bundle, parse_score("vim"), 1.0)
    by_logits, by_features = score.gradient(logits, features)
    mean = torch.from_numpy(logits).mean(dim=1)
    expected = -torch.softmax(mean, dim=1)[:, None] / 3
    np.testing.assert_allclose(by_logits, expected.expand(-1, 3, -1), rtol=0.05)
    assert by_features.any()


def test_pieces_do_not_change_the_gradient(tiny_bundle, monkeypatch) -> None:
    logits, features = points(tiny_bundle)
    score = DifferentiableScore.of(tiny_bundle, parse_score("mahalanobis@layer1"), 1.0)
    _, whole = score.gradient(logits, features)
    sizes = []
    seen = DifferentiableScore(
        lambda z, x: (sizes.append(len(x)), score.score(z, x))[1], score.columns, score.steps, 0.0
    )
    monkeypatch.setattr("napari_ood.explain.score_gradient.PIECE_BYTES", 8 * 7 * features.shape[1])
    _, pieces = seen.gradient(logits, features)
    np.testing.assert_allclose(whole, pieces, rtol=1e-6)
    assert max(sizes) == 14
    assert PIECE_BYTES < 1 << 30


SCORES = [
    "entropy",
    "msp",
    "disagreement",
    "maxlogit",
    "energy",
    "mahalanobis@layer1",
    "mahalanobis++@penultimate",
    "relative@layer1",
    "knn@layer1",
    "vim",
    "residual",
    "multilayer@layer1+penultimate",
    "invariant@penultimate",
    "invariant_nn@layer1+penultimate",
    "invariant_knn@penultimate",
    "max(mahalanobis@layer1,entropy)",
]


@pytest.mark.parametrize("name", SCORES)
def test_gradient_of_any_score_predicts_what_a_small_change_of_pixels_does(
    name, two_kinds_bundle
) -> None:
    explainer = Explainer(two_kinds_bundle, "cpu")
    engine = engine_of(explainer)
    objective = engine.objective(Target.of_score(name), Steps())
    rgb = colours(noise_tiles(1, 32, seed=5)).requires_grad_()
    (gradient,) = torch.autograd.grad(objective(rgb).sum(), rgb)
    assert gradient.any()
    # Along the gradient the change is largest, so rounding of float32 counts least.
    direction = gradient / gradient.norm()
    step = 0.005  # farther on, scores of neighbours have a kink: another neighbour counts
    with torch.no_grad():
        change = objective(rgb + step * direction) - objective(rgb - step * direction)
    assert float(change) / (2 * step) == pytest.approx(float(gradient.norm()), rel=0.1)


def test_roles_mean_the_cards_scores(two_kinds_bundle) -> None:
    explainer, tiles = Explainer(two_kinds_bundle, "cpu"), noise_tiles(2)
    for role in ("appearance", "tissue", "ood"):
        by_role = explainer.explain(tiles, "gradient", Target.of_score(role)).values
        name = Target.of_score(two_kinds_bundle.card.scores[role])
        np.testing.assert_array_equal(by_role, explainer.explain(tiles, "gradient", name).values)
    expected = ["appearance score", "tissue score", "OOD score"]
    words = [
        Target.of_score(r).words(two_kinds_bundle.card) for r in ("appearance", "tissue", "ood")
    ]
    assert words == expected


def test_a_count_has_no_gradient_but_can_be_occluded(tiny_bundle) -> None:
    explainer, target = Explainer(tiny_bundle, "cpu"), Target.of_score("dissent")
    with pytest.raises(ExplainError, match="choose Occlusion, RISE"):
        explainer.explain(noise_tiles(1), "gradient", target)
    found = explainer.explain(noise_tiles(1), "occlusion", target).values
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", ["nonsense", "mahalanobis@", "max(entropy)"])
def test_unknown_scores_are_refused(name, tiny_bundle) -> None:
    with pytest.raises(ExplainError):
        Explainer(tiny_bundle, "cpu").explain(noise_tiles(1), "gradient", Target.of_score(name))
