"""The read-out of a threshold against plain counting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_ood.analysis import ScoredRun, summarise
from napari_ood.inference import Run
from napari_ood.models import Bundle
from napari_ood.scores.thresholds import Meaning, value_threshold

StoreRun = Callable[..., Run]


@given(st.integers(0, 70), st.integers(0, 2**32 - 1), st.floats(-0.1, 1.2), st.booleans())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_counts_add_up(
    store_run: StoreRun, tiny_bundle: Bundle, n: int, seed: int, value: float, of_logits: bool
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 3, 3)).astype(np.float32)
    held_out = tiny_bundle.require_reference().validation_features
    features = held_out[rng.integers(0, len(held_out), n)]
    logits[rng.random(n) < 0.1] = np.nan
    features[rng.random(n) < 0.1] = np.nan
    done = rng.random(n) < 0.8
    scored = ScoredRun(store_run(logits, features, done))
    name = "entropy" if of_logits else "mahalanobis@layer1"
    familiar = scored.familiar(name)
    assert familiar is not None
    low, high = familiar[0], familiar[-1]
    threshold = value_threshold(name, float(low + value * (high - low)))

    summary = summarise(scored, threshold)
    scores, prediction = scored.score(name), scored.prediction()
    flagged, classed = scores > np.float32(threshold.value), ~np.isnan(scored.confidence())
    assert summary.n_tiles == done.sum() and summary.n_unfinished == (~done).sum()
    assert summary.n_flagged == flagged.sum()
    assert summary.n_unscored == np.isnan(scores).sum()
    assert summary.n_kept == (scores <= np.float32(threshold.value)).sum()
    for c, (label, n_tiles, n_flagged) in enumerate(summary.per_class):
        own = classed & (prediction == c)
        assert label == scored.classes[c]
        assert (n_tiles, n_flagged) == (own.sum(), (own & flagged).sum())
    if done.any():
        assert summary.share_flagged == pytest.approx(flagged.mean())
        total = summary.coverage + summary.share_flagged + summary.n_unscored / summary.n_tiles
        assert total == pytest.approx(1)
    assert summary.mm2 == pytest.approx(done.sum() * 0.032**2)
    assert summary.mm2_flagged == pytest.approx(flagged.sum() * 0.032**2)
    left = scored.validation_scores(name) <= np.float32(threshold.value)
    wrong = scored.validation_errors()
    assert wrong is not None and summary.n_held_out_kept == left.sum()
    if left.any():
        assert summary.expected_risk == pytest.approx(wrong[left].mean())
    else:
        assert summary.expected_risk is None


def test_no_tiles_and_no_scale(store_run: StoreRun) -> None:
    scored = ScoredRun(store_run(np.zeros((0, 3, 3), np.float32), mpp=None))
    summary = summarise(scored, scored.threshold("ood"))
    assert (summary.n_tiles, summary.n_flagged) == (0, 0)
    assert summary.mm2 is None and summary.mm2_flagged is None
    assert summary.share_flagged == summary.coverage == 0.0
    assert summary.words() == "no tiles yet"


def test_words(store_run: StoreRun) -> None:
    logits = np.random.default_rng(0).normal(size=(2000, 3, 3)).astype(np.float32)
    scored = ScoredRun(store_run(logits))
    summary = summarise(scored, scored.threshold("entropy", Meaning.COVERAGE, 0.75))
    assert summary.coverage == 0.75
    assert summary.words() == "500 of 2,000 tiles, 0.51 of 2.05 mm² deferred (25.0 % of the tissue)"
