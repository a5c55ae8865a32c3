"""A scored run: every score from what is stored, at any temperature, with or without a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_ood.analysis import ScoredRun
from napari_ood.analysis.memo import Memo, RecentMemos
from napari_ood.errors import BundleError, RunError, ThresholdError
from napari_ood.evaluation import risk_coverage
from napari_ood.inference import Run, open_run
from napari_ood.inference.reading import TileArrays
from napari_ood.models import Bundle, Reference, open_bundle, save_bundle
from napari_ood.scores import HEAD_SCORES, ScoreSpec, entropy, mean_probability
from napari_ood.scores.thresholds import Meaning, value_threshold

StoreRun = Callable[..., Run]


def random_logits(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (n, 3, 3)).astype(np.float32)


@pytest.fixture
def scored(store_run: StoreRun, two_kinds_bundle: Bundle) -> ScoredRun:
    return ScoredRun(store_run(random_logits(40), bundle=two_kinds_bundle))


@pytest.fixture
def orphan(store_run: StoreRun, tiny_bundle: Bundle, tmp_path: Path) -> ScoredRun:
    """A run whose bundle was deleted."""
    copy = open_bundle(shutil.copytree(tiny_bundle.path, tmp_path / "copy"))
    run = store_run(random_logits(40), bundle=copy)
    shutil.rmtree(copy.path)
    return ScoredRun(run)


@pytest.fixture
def bare(store_run: StoreRun, tiny_bundle: Bundle, tmp_path: Path) -> ScoredRun:
    """A run whose bundle has no reference."""
    card, net = tiny_bundle.card, tiny_bundle.trained_network()
    bundle = save_bundle(tmp_path / "bare", net, card)
    features = np.zeros((40, card.n_features), np.float32)
    return ScoredRun(store_run(random_logits(40), features, bundle=bundle))


def test_every_offered_score_is_what_the_run_and_the_reference_say(scored: ScoredRun) -> None:
    names = scored.names()
    assert list(names[:4]) == list(dict.fromkeys(scored.roles.values()))
    assert set(HEAD_SCORES) < set(names) and len(set(names)) == len(names)
    for method in ("mahalanobis", "relative", "invariant", "vim", "residual"):
        assert {f"{method}@layer1", f"{method}@penultimate"} <= set(names)
    assert "multilayer@layer1+penultimate" in names
    for name in names:
        score = scored.score(name)
        assert score.dtype == np.float32 and score.shape == (40,)
        np.testing.assert_array_equal(score, scored.run.score(name), name)
        assert not score.flags.writeable
    for role, name in scored.roles.items():
        assert scored.score(role) is scored.score(name) and scored.score_name(role) == name
    np.testing.assert_array_equal(scored.probabilities(), scored.run.probabilities())
    np.testing.assert_array_equal(scored.prediction(), scored.run.prediction())
    np.testing.assert_array_equal(scored.confidence(), scored.run.probabilities().max(axis=1))


def test_another_temperature_changes_what_depends_on_it_and_nothing_else(
    scored: ScoredRun,
) -> None:
    warm = scored.with_temperature(2.5)
    assert (scored.temperature, warm.temperature) == (1.0, 2.5)
    np.testing.assert_array_equal(warm.score("entropy"), entropy(scored.run.logits, 2.5))
    np.testing.assert_array_equal(warm.probabilities(), mean_probability(warm.run.logits, 2.5))
    assert not np.array_equal(warm.score("entropy"), scored.score("entropy"))
    assert warm.score("ood") is scored.score("ood")
    assert warm.validation_scores("ood") is scored.validation_scores("ood")
    held_out = scored.bundle.require_reference().validation_logits  # type: ignore[union-attr]
    expected = np.sort(entropy(held_out, 2.5))
    np.testing.assert_array_equal(warm.familiar("uncertainty"), expected)
    assert warm.with_temperature(1.0).score("entropy") is scored.score("entropy")


def test_a_mixed_score_at_another_temperature_is_that_of_such_a_reference(
    scored: ScoredRun,
) -> None:
    name, bundle = "max(entropy,mahalanobis@layer1)", scored.bundle
    assert bundle is not None
    tensors = bundle.require_reference().tensors()
    cold = Reference.from_tensors(tensors, bundle.card.blocks, 0.4)
    expected = cold.score(name, scored.run.logits, scored.run.features)
    np.testing.assert_array_equal(scored.with_temperature(0.4).score(name), expected)
    assert not np.array_equal(scored.score(name), expected)


def test_scores_of_the_logits_never_read_the_features(
    scored: ScoredRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = TileArrays.pieces

    def refuse(arrays: TileArrays, name: str, *wanted: Any) -> Any:
        assert name != "features", "features were read"
        return pieces(arrays, name, *wanted)

    monkeypatch.setattr(TileArrays, "pieces", refuse)
    for name in HEAD_SCORES:
        scored.score(name)
        scored.with_temperature(3.0).ranked(name)
    scored.threshold("uncertainty", Meaning.RISK, 0.99)
    with pytest.raises(BundleError, match="stores no features 'nowhere'"):
        scored.score("mahalanobis@nowhere")
    with pytest.raises(AssertionError, match="features were read"):
        scored.score("ood")


def test_the_parts_of_a_large_run_s_score_are_computed_in_one_reading(
    store_run: StoreRun, two_kinds_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store_run(random_logits(40), bundle=two_kinds_bundle)
    expected = {role: ScoredRun(run).score(role) for role in ("ood", "appearance", "tissue")}
    monkeypatch.setattr("napari_ood.inference.run.KEEP_BYTES", 0)
    pieces, read = TileArrays.pieces, []

    def count(arrays: TileArrays, name: str, *wanted: Any) -> Any:
        read.append(name)
        return pieces(arrays, name, *wanted)

    monkeypatch.setattr(TileArrays, "pieces", count)
    scored = ScoredRun(open_run(run.path))
    for role, values in expected.items():
        np.testing.assert_allclose(scored.score(role), values, rtol=1e-5)
    assert read == ["features"]


def test_without_its_bundle_a_run_has_the_scores_of_its_logits(orphan: ScoredRun) -> None:
    assert orphan.bundle is None and orphan.reference is None
    assert dict(orphan.roles) == {"uncertainty": "entropy"}
    assert orphan.names() == tuple(HEAD_SCORES)
    assert orphan.familiar("uncertainty") is None and orphan.risk_curve("entropy") is None
    np.testing.assert_array_equal(orphan.score("uncertainty"), entropy(orphan.run.logits))
    with pytest.raises(RunError, match="is not at hand"):
        orphan.score("ood")
    for meaning in (Meaning.KEEP, Meaning.RISK):
        with pytest.raises(ThresholdError, match=r"not at hand.*or choose coverage or a plain"):
            orphan.threshold("uncertainty", meaning, 0.5)
    with pytest.raises(ThresholdError, match=r"prediction sets need held-out.*not at hand"):
        orphan.conformal(0.1)
    flagged = orphan.flagged(orphan.threshold("uncertainty", Meaning.COVERAGE, 0.75))
    assert flagged.sum() == 10


def test_without_a_reference_nothing_is_compared(bare: ScoredRun) -> None:
    assert bare.bundle is not None and bare.reference is None
    assert bare.names() == tuple(HEAD_SCORES)
    with pytest.raises(BundleError, match="has no reference"):
        bare.score("ood")
    with pytest.raises(ThresholdError, match="take a bundle with a reference"):
        bare.threshold("uncertainty")
    with pytest.raises(ThresholdError, match="'tiny' has no reference"):
        bare.conformal(0.1)
    assert bare.threshold("entropy", Meaning.COVERAGE, 1.0).value == bare.score("entropy").max()


def test_another_bundle_is_refused(
    store_run: StoreRun, tiny_bundle: Bundle, two_kinds_bundle: Bundle
) -> None:
    run = store_run(random_logits(3))
    assert ScoredRun(run, tiny_bundle).bundle is tiny_bundle
    with pytest.raises(RunError, match="not made with this 'tiny-two'"):
        ScoredRun(run, two_kinds_bundle)


@pytest.mark.parametrize("name", ["etropy", "tissue", "max(entropy)", "entropy@layer1"])
def test_unknown_scores_and_roles(store_run: StoreRun, name: str) -> None:
    with pytest.raises(RunError):
        ScoredRun(store_run(random_logits(2))).score(name)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_temperatures(scored: ScoredRun, temperature: float) -> None:
    with pytest.raises(ThresholdError, match="must be above 0"):
        scored.with_temperature(temperature)


def test_the_risk_curve_is_that_of_the_held_out_tiles(scored: ScoredRun) -> None:
    reference = scored.reference
    assert reference is not None
    for view, t in ((scored, 1.0), (scored.with_temperature(4.0), 4.0)):
        p = mean_probability(reference.validation_logits, t)
        wrong = p.argmax(axis=1) != reference.validation_labels
        assert 0 < wrong.sum() < len(wrong)
        scores = entropy(reference.validation_logits, t)
        curve, expected = view.risk_curve("uncertainty"), risk_coverage(scores, wrong)
        assert curve is not None
        np.testing.assert_array_equal(curve.risk, expected.risk)
        np.testing.assert_array_equal(curve.coverage, expected.coverage)
        for i in (0, len(curve.risk) // 2, -1):  # every threshold lies on its curve
            point = view.held_out(value_threshold("entropy", float(np.unique(scores)[i])))
            assert point is not None
            assert point.coverage == pytest.approx(curve.coverage[i])
            assert point.risk == pytest.approx(curve.risk[i])
    nothing = scored.held_out(value_threshold("entropy", -1.0))
    assert nothing == (0.0, None, 0, len(reference.validation_labels))


def test_thresholds_keep_their_meaning_when_score_or_temperature_change(
    scored: ScoredRun,
) -> None:
    keep = scored.threshold("uncertainty", Meaning.KEEP, 0.8)
    warm = scored.with_temperature(3.0)
    for view, name in ((warm, None), (warm, "ood"), (scored, "mahalanobis@layer1")):
        renewed = view.renewed(keep, name)
        assert (renewed.meaning, renewed.parameter) == (Meaning.KEEP, 0.8)
        familiar = view.familiar(renewed.score)
        assert familiar is not None
        assert (familiar <= renewed.value32).mean() == pytest.approx(0.8, abs=1 / len(familiar))
    assert warm.renewed(keep).value != keep.value
    by_hand = value_threshold("entropy", 0.5)
    assert warm.renewed(by_hand) == by_hand
    with pytest.raises(ThresholdError, match="belongs to 'entropy'"):
        warm.renewed(by_hand, "ood")


def test_prediction_sets_cover_the_held_out_tiles(scored: ScoredRun) -> None:
    reference = scored.reference
    assert reference is not None
    rule = scored.conformal(0.2)
    inside = rule.sets(mean_probability(reference.validation_logits, scored.temperature))
    hit = inside[np.arange(rule.n), reference.validation_labels]
    assert rule.n == 50 and hit.mean() >= 0.8
    assert rule.sets(scored.probabilities()).shape == (40, 3)
    assert scored.conformal(0.2) is rule
    assert scored.with_temperature(2.0).conformal(0.2) is not rule


@pytest.mark.parametrize("n", [0, 1])
def test_runs_of_hardly_any_tile(store_run: StoreRun, n: int) -> None:
    scored = ScoredRun(store_run(random_logits(n)))
    for name in scored.names():
        assert scored.score(name).shape == (n,)
    assert scored.probabilities().shape == (n, 3) and scored.boxes.shape == (n, 4)
    assert scored.flagged(scored.threshold("ood")).shape == (n,)
    assert scored.ranked("ood").n_scored == n
    if not n:
        with pytest.raises(ThresholdError, match="no finished tile"):
            scored.threshold("entropy", Meaning.COVERAGE, 0.5)


def test_only_finished_tiles_count(store_run: StoreRun) -> None:
    done = np.arange(70) % 3 == 0
    logits = random_logits(70)
    scored = ScoredRun(store_run(logits, done=done))
    np.testing.assert_array_equal(scored.score("entropy"), entropy(logits[done]))
    assert scored.n_unfinished == (~done).sum()
    grid = scored.on_grid(scored.score("entropy"), np.float32(np.nan))
    np.testing.assert_array_equal(~np.isnan(grid[0]), done)
    assert scored.index[:, 1].tolist() == np.flatnonzero(done).tolist()


def test_area_of_a_tile_is_that_of_its_stride(store_run: StoreRun) -> None:
    # 64 px of 0.5 µm by 64 px of 0.25 µm
    area = ScoredRun(store_run(random_logits(1), mpp=(0.5, 0.25))).mm2_per_tile
    assert area == pytest.approx(0.032 * 0.016)
    assert ScoredRun(store_run(random_logits(1), mpp=None)).mm2_per_tile is None


def test_nan_and_constant_scores(store_run: StoreRun) -> None:
    logits = np.tile(np.array([2.0, 0.0, 0.0], np.float32), (30, 3, 1))
    logits[:6] = np.nan
    scored = ScoredRun(store_run(logits))
    assert np.isnan(scored.score("entropy")[:6]).all() and np.isnan(scored.confidence()[:6]).all()
    assert scored.class_counts() == (24, 0, 0)
    threshold = scored.threshold("entropy", Meaning.COVERAGE, 0.5)
    assert not scored.flagged(threshold).any()
    assert scored.flagged(value_threshold("entropy", 0.0)).tolist() == [False] * 6 + [True] * 24
    ranked = scored.ranked("entropy")
    assert [len(s) for s in (*ranked.by_class, ranked.unclassed)] == [24, 0, 0, 0]
    # Features are fine, so that foreignness is known, but no class is.
    assert [len(s) for s in scored.ranked("ood").by_class] == [24, 0, 0]
    assert len(scored.ranked("ood").unclassed) == 6


def test_threads_compute_a_score_once(scored: ScoredRun, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    compute, by_features = ScoredRun._compute, Run.feature_scores

    def counted(self: ScoredRun, spec: ScoreSpec) -> np.ndarray:
        if spec.parts or not spec.needs_features:
            computed.append(str(spec))
        return compute(self, spec)

    def counted_by_features(self: Run, reference: Reference, names: Sequence[str]) -> Any:
        computed.extend(names)
        return by_features(self, reference, names)

    monkeypatch.setattr(ScoredRun, "_compute", counted)
    monkeypatch.setattr(Run, "feature_scores", counted_by_features)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(scored.score, ["ood", "appearance", "entropy"] * 8))
    assert len({id(f) for f in found}) == 3
    # "ood" is the larger of "appearance" and "tissue": no distance is computed twice.
    assert sorted(computed) == sorted({*computed}) and len(computed) == 4


def test_a_memo_forgets_errors_and_old_temperatures() -> None:
    memo = Memo()
    with pytest.raises(ZeroDivisionError):
        memo.get("x", lambda: 1 / 0)
    assert memo.get("x", lambda: 1) == 1 and memo.get("x", lambda: 2) == 1
    recent = RecentMemos(2)
    first = recent.of(1.0)
    assert recent.of(2.0) is not first and recent.of(1.0) is first
    recent.of(3.0)
    assert recent.of(1.0) is first
    second = recent.of(2.0)  # had gone for 3.0
    assert second.get("x", lambda: "new") == "new" and recent.of(1.0) is first
