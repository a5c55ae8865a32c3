"""Every score of the features against a direct formula in float64, and what all have in common."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf

from napari_ood.scores import (
    FEATURE_SCORES,
    NEED_CHANGED_TILES,
    NUISANCE_WEIGHT,
    Bank,
    HeadSample,
    NearestNeighbours,
    Residual,
    ViM,
    parse_score,
)
from napari_ood.scores.subspace import principal_dimension

WIDTHS = (5, 7)
D, C, M = sum(WIDTHS), 3, 4
METHODS = list(FEATURE_SCORES)


def make_bank(n: int = 400, seed: int = 0, linear: bool = True, n_classes: int = C) -> Bank:
    """Correlated classes, heads on these very features (or elsewhere), and changed tiles."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(D, D))
    labels = np.arange(n) % n_classes
    x = (rng.normal(size=(n, D)) @ mix + 2 * labels[:, None] + 3).astype(np.float32)
    held = (rng.normal(size=(90, D)) @ mix + 4).astype(np.float32)
    weight = rng.normal(size=(M, C, D)).astype(np.float32)
    bias = rng.normal(size=(M, C)).astype(np.float32)
    logits = np.einsum("nd,mcd->nmc", held, weight) + bias
    if not linear:
        logits = np.tanh(logits) * 3
    nuisance = rng.normal(size=(n, D)) * np.r_[np.full(3, 20), np.full(D - 3, 0.1)]
    head = HeadSample(weight, bias, held, logits.astype(np.float32))
    return Bank(x, labels, WIDTHS, nuisance.astype(np.float32), head)


def probes(n: int = 70, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, D)) * 6).astype(np.float32)
    return x, rng.normal(size=(n, M, C)).astype(np.float32)


def squared(x: np.ndarray, y: np.ndarray, test: np.ndarray, extra: np.ndarray | float = 0.0):
    """min_c (t − μ_c)ᵀ Σ⁻¹ (t − μ_c), Σ shrunk around the class means, plus ``extra``."""
    means = np.stack([x[y == c].mean(axis=0) for c in np.unique(y)])
    sigma = ledoit_wolf(x - means[np.searchsorted(np.unique(y), y)], assume_centered=True)[0]
    away = test[:, None] - means[None]
    return np.einsum("ncd,de,nce->nc", away, np.linalg.inv(sigma + extra), away).min(axis=1)


def direct(method: str, bank: Bank, test: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The scores by their formulas, written out plainly."""
    x, y, t = bank.features.astype(np.float64), bank.labels, test.astype(np.float64)
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, t)]
    if method == "mahalanobis":
        return np.sqrt(squared(x, y, t))
    if method == "mahalanobis++":
        return np.sqrt(squared(unit[0], y, unit[1]))
    if method == "relative":
        return squared(x, y, t) - squared(x, np.zeros_like(y), t)
    if method == "knn":
        distances = np.linalg.norm(unit[1][:, None] - unit[0][None], axis=2)
        return np.sort(distances, axis=1)[:, min(50, len(x)) - 1]
    if method == "multilayer":
        total = np.zeros(len(t))
        for block in (slice(0, 5), slice(5, 12)):
            own = np.sqrt(squared(x[:, block], y, x[:, block]))
            total += (np.sqrt(squared(x[:, block], y, t[:, block])) - own.mean()) / own.std()
        return total
    if method == "invariant":
        scale = x.std(axis=0)
        d = bank.nuisance.astype(np.float64) / scale
        extra = NUISANCE_WEIGHT * np.mean([np.outer(v, v) for v in d], axis=0)
        return np.sqrt(squared(x / scale, y, t / scale, extra))
    if method in ("invariant_nn", "invariant_knn"):
        halves = (slice(0, 5), slice(5, 12))
        x, moved, t = (
            np.concatenate(
                [a[:, h] / np.linalg.norm(a[:, h], axis=1, keepdims=True) for h in halves], 1
            )
            for a in (x, x + bank.nuisance, t)
        )
        scale = x.std(axis=0)
        d = (moved - x) / scale
        means = np.stack([(x / scale)[y == c].mean(axis=0) for c in np.unique(y)])
        sigma = ledoit_wolf(
            x / scale - means[np.searchsorted(np.unique(y), y)], assume_centered=True
        )[0]
        inverse = np.linalg.inv(sigma + NUISANCE_WEIGHT * d.T @ d / len(d))
        away = (t[:, None] - x[None]) / scale
        distances = np.sqrt(np.einsum("nmd,de,nme->nm", away, inverse, away))
        return np.sort(distances, axis=1)[:, 0 if method == "invariant_nn" else min(10, len(x)) - 1]
    assert bank.head is not None
    w, b = (a.astype(np.float64).mean(axis=0) for a in (bank.head.weight, bank.head.bias))
    origin = -np.linalg.pinv(w) @ b
    values, vectors = np.linalg.eigh((x - origin).T @ (x - origin))
    rest = vectors[:, np.argsort(values)[: D - D // 2]]

    def residual(rows: np.ndarray) -> np.ndarray:
        return np.sqrt((((rows - origin) @ rest) ** 2).sum(axis=1))

    if method == "residual":
        return residual(t)
    alpha = (x @ w.T + b).max(axis=1).mean() / residual(x).mean()
    return alpha * residual(t) - logsumexp(logits.astype(np.float64).mean(axis=1), axis=1)


@pytest.mark.parametrize("method", METHODS)
def test_equals_the_direct_formula(method: str) -> None:
    bank, (x, z) = make_bank(), probes()
    found = FEATURE_SCORES[method](bank).score(x, z)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, direct(method, bank, x, z), rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_far_tiles_score_higher_than_held_out_ones(method: str) -> None:
    bank = make_bank(600)
    first = {name: getattr(bank, name)[:400] for name in ("features", "labels", "nuisance")}
    inside = replace(bank, **first)
    detector = FEATURE_SCORES[method](inside)
    near = bank.features[400:]
    far = near * np.where(np.arange(D) % 2, -9.0, 9.0)
    z = np.zeros((len(near), M, C), np.float32)
    assert np.quantile(detector.score(near, z), 0.98) < detector.score(far, z).mean()


@pytest.mark.parametrize("method", METHODS)
def test_a_row_gets_the_same_score_in_any_company(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, (x, z) = FEATURE_SCORES[method](make_bank()), probes()
    whole = detector.score(x, z)
    order = np.random.default_rng(0).permutation(len(x))
    close = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(detector.score(x[order], z[order]), whole[order], **close)
    one_by_one = [detector.score(x[i : i + 1], z[i : i + 1])[0] for i in range(len(x))]
    np.testing.assert_allclose(one_by_one, whole, **close)
    monkeypatch.setattr("napari_ood.scores.detector.CHUNK_BYTES", 7 * 8 * D)
    np.testing.assert_allclose(detector.score(x, z), whole, **close)


@pytest.mark.parametrize("method", METHODS)
def test_nan_tiles_are_nan_and_leave_others_alone(method: str) -> None:
    detector, (x, z) = FEATURE_SCORES[method](make_bank()), probes()
    whole = detector.score(x, z)
    x[3, 5] = np.nan
    z[7] = np.nan
    lost = [3, 7] if parse_score(method).needs_logits else [3]
    found = detector.score(x, z)
    assert np.flatnonzero(np.isnan(found)).tolist() == lost
    np.testing.assert_allclose(np.delete(found, lost), np.delete(whole, lost), rtol=1e-6, atol=1e-6)
    assert detector.score(x[:0], z[:0]).shape == (0,)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", ["few tiles", "one class", "constant feature", "all constant"])
def test_poor_references_still_give_finite_scores(method: str, case: str) -> None:
    bank = make_bank(8 if case == "few tiles" else 100, n_classes=1 if case == "one class" else C)
    features = bank.features.copy()
    if case == "constant feature":
        features[:, 2] = 1.0
    elif case == "all constant":
        features[:] = 1.0
    poor = replace(bank, features=features)
    x, z = probes()
    assert np.isfinite(FEATURE_SCORES[method](poor).score(x, z)).all()


@pytest.mark.parametrize("method", ["mahalanobis", "multilayer", "invariant"])
def test_a_feature_that_never_varied_flags_any_departure(method: str) -> None:
    bank = make_bank()
    features = bank.features.copy()
    features[:, 8] = 1.0
    nuisance = bank.nuisance.copy()
    nuisance[:, 8] = 0.0
    detector = FEATURE_SCORES[method](replace(bank, features=features, nuisance=nuisance))
    inside = features[:50].copy()
    outside = inside.copy()
    outside[:, 8] += features[:, [0, 1, 2, 3]].std()
    assert detector.score(outside).min() > detector.score(inside).max()


@pytest.mark.parametrize("method", METHODS)
def test_many_rows_take_bounded_memory(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_ood.scores.detector.CHUNK_BYTES", 1 << 20)
    detector = FEATURE_SCORES[method](make_bank(120))
    x = np.zeros((100_000, D), np.float32)  # 9.6 MB in float64
    z = np.broadcast_to(np.zeros((1, M, C), np.float32), (len(x), M, C))
    detector.score(x[:10], z[:10])
    tracemalloc.start()
    detector.score(x, z)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 7 << 20


def test_knn_searches_every_training_tile() -> None:
    """FD-Shifts looks at the first thousand only."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1400, D))
    x[1200:] = np.eye(D)[0] + rng.normal(size=(200, D)) * 1e-3
    assert NearestNeighbours.fit(x).score(np.eye(D)[:1]) < 0.01
    few = NearestNeighbours.fit(x[:9])
    far = np.linalg.norm(x[:9] / np.linalg.norm(x[:9], axis=1)[:, None] - np.eye(D)[0], axis=1)
    np.testing.assert_allclose(few.score(np.eye(D)[:1]), far.max(), rtol=1e-6)


def test_mahalanobis_centres_each_class() -> None:
    """FD-Shifts takes the covariance of all tiles, whose spread is mostly that of the classes."""
    bank, (x, _) = make_bank(), probes()
    own = FEATURE_SCORES["mahalanobis"](bank).score(x)
    total = np.cov(bank.features.T.astype(np.float64))
    means = np.stack([bank.features[bank.labels == c].mean(axis=0) for c in range(C)])
    away = x[:, None] - means
    wrong = np.sqrt(np.einsum("ncd,de,nce->nc", away, np.linalg.inv(total), away).min(axis=1))
    assert np.abs(own / wrong - 1).mean() > 0.05


def test_vim_agrees_with_pytorch_ood_where_that_applies() -> None:
    import torch
    from pytorch_ood.detector import ViM as Other

    bank, (x, _) = make_bank(), probes()
    assert bank.head is not None
    w, b = bank.head.weight.mean(axis=0), bank.head.bias.mean(axis=0)
    other = Other(None, D // 2, torch.from_numpy(w), torch.from_numpy(b))
    other.fit_features(torch.from_numpy(bank.features), torch.from_numpy(bank.labels))
    z = np.einsum("nd,mcd->nmc", x, bank.head.weight) + bank.head.bias
    expected = other.predict_features(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ViM.fit(bank).score(x, z), expected, rtol=2e-4, atol=2e-3)


@pytest.mark.parametrize("hidden", ["as wide as the block", "narrower"])
def test_vim_of_heads_with_hidden_layers_uses_the_held_out_logits(hidden: str) -> None:
    bank, (x, z) = make_bank(linear=False), probes()
    assert bank.head is not None
    if hidden == "narrower":
        head = replace(bank.head, weight=bank.head.weight[..., :4])
        bank = replace(bank, head=head)
    rows, held = bank.features.astype(np.float64), bank.head.features.astype(np.float64)
    origin = rows.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    rest = vectors[:, np.argsort(values)[: D - D // 2]]
    top = bank.head.logits.astype(np.float64).mean(axis=1).max(axis=1).mean()
    alpha = top / np.linalg.norm((held - origin) @ rest, axis=1).mean()
    length = np.linalg.norm((x - origin) @ rest, axis=1)
    np.testing.assert_allclose(Residual.fit(bank).score(x), length, rtol=1e-5)
    energy = logsumexp(z.astype(np.float64).mean(axis=1), axis=1)
    np.testing.assert_allclose(ViM.fit(bank).score(x, z), alpha * length - energy, rtol=1e-4)


def test_the_principal_dimension_follows_the_paper_and_few_tiles_lower_it() -> None:
    widths = (2048, 2000, 768, 767, 12)
    assert [principal_dimension(9999, w) for w in widths] == [1000, 512, 512, 383, 6]
    assert principal_dimension(20, 512) == 10


def test_invariant_forgets_the_directions_in_which_appearance_moves_tiles() -> None:
    bank = make_bank()
    plain, invariant = (FEATURE_SCORES[m](bank) for m in ("mahalanobis", "invariant"))
    inside = bank.features[:100]
    shift = np.zeros(D, np.float32)
    shift[:3] = 15  # the columns that changed tiles move in
    other = np.zeros(D, np.float32)
    other[6:9] = 15
    assert invariant.score(inside + shift).mean() < 1.5 * invariant.score(inside).mean()
    assert plain.score(inside + shift).mean() > 3 * plain.score(inside).mean()
    assert invariant.score(inside + other).mean() > 3 * invariant.score(inside).mean()


def test_what_is_missing_is_named() -> None:
    bank = make_bank()
    bare = Bank(bank.features, bank.labels, WIDTHS)
    for method in NEED_CHANGED_TILES:
        with pytest.raises(ValueError, match="changed tiles"):
            FEATURE_SCORES[method](bare)
    with pytest.raises(ValueError, match="last layer"):
        FEATURE_SCORES["vim"](bare)
    with pytest.raises(ValueError, match="needs logits"):
        FEATURE_SCORES["vim"](bank).score(probes()[0])
