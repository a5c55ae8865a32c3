from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_ood.evaluation import ood_auroc
from napari_ood.models import Card, save_bundle
from napari_ood.training import (
    TrainConfig,
    fit_reference,
    round_to_half,
    run_network,
    train,
)
from napari_ood.training.fit import balanced_sample
from napari_ood.training.losses import (
    ensemble_nll,
    fit_temperature,
)

CONFIG = TrainConfig(
    architecture="timm:test_resnet",
    blocks=(("layer1", "layer1", "mean_std"), ("penultimate", "penultimate", "mean")),
    n_heads=3,
    head_depth=1,
    head_width=16,
    epochs=3,
    batch_size=32,
    learning_rate=3e-3,
    precision="fp32",
    device="cpu",
)


def stripes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tiles whose class is the width of their stripes, in any direction and shade."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    y, x = np.mgrid[:32, :32]
    period = np.where(labels == 0, 4, 12)[:, None, None]
    phase = rng.uniform(0, 6, n)[:, None, None]
    along = np.where(rng.random(n)[:, None, None] < 0.5, x, y)
    wave = np.sin(2 * np.pi * along / period + phase)[..., None] * 40
    shade = rng.uniform(130, 190, (n, 1, 1, 3))
    return (shade + wave + rng.normal(0, 8, (n, 32, 32, 3))).clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, ...]:
    return (*stripes(256, 0), *stripes(64, 1))


@pytest.fixture(scope="module")
def trained(data: tuple[np.ndarray, ...]):
    return train(*data, CONFIG)


def test_training_learns_is_kept_at_its_best_and_repeats_exactly(trained, data):
    assert len(trained.history) == 3
    best = min(trained.history, key=lambda record: record.nll)
    assert best.accuracy > 0.9
    logits, _ = run_network(trained.net, trained.mean, trained.std, data[2])
    nll = ensemble_nll(torch.from_numpy(logits), torch.from_numpy(data[3]))
    assert float(nll) == pytest.approx(best.nll, abs=1e-3)
    again = train(*data, CONFIG)
    for a, b in zip(
        trained.net.state_dict().values(), again.net.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


def test_training_leaves_the_global_generator_alone(data):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(*data, dataclasses.replace(CONFIG, epochs=1))
    assert torch.equal(torch.rand(1), expected)


def test_a_second_stage_starts_from_the_first(trained, data):
    config = dataclasses.replace(CONFIG, epochs=1, learning_rate=1e-6, ema=0.5, crop=24)
    second = train(*data, dataclasses.replace(config, dropout=0.3), init=trained.net)
    assert second.net.heads.dropout.p == 0.3
    assert second.history[0].accuracy >= trained.history[-1].accuracy - 0.1
    a, b = trained.net.trunk.conv1[0].weight, second.net.trunk.conv1[0].weight
    assert 0 < float((a - b).detach().abs().max()) < 1e-3


def test_early_stopping_ends_after_patience(data):
    config = dataclasses.replace(CONFIG, epochs=6, learning_rate=1e-12, patience=1)
    assert len(train(*data, config).history) < 6


def test_a_trained_bundle_scores_foreign_tiles_higher(trained, data, tmp_path: Path):
    net = round_to_half(trained.net)
    reference = fit_reference(
        net, trained.mean, trained.std, *data, temperature=trained.temperature, device="cpu"
    )
    card = Card(
        name="stripes",
        classes=("fine", "coarse"),
        architecture=net.architecture,
        tile_size=32,
        mpp=None,
        mean=trained.mean,
        std=trained.std,
        n_heads=3,
        blocks=net.blocks,
        scores={"uncertainty": "entropy", "ood": "mahalanobis@layer1"},
        temperature=trained.temperature,
    )
    bundle = save_bundle(tmp_path / "stripes", net, card, reference)
    inside, _ = stripes(100, 2)
    foreign = np.random.default_rng(3).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    network = bundle.network("cpu")
    with torch.inference_mode():
        outs = [network(torch.from_numpy(t)) for t in (inside, foreign)]
    stored = bundle.require_reference()
    scores = [stored.score("mahalanobis@layer1", z.numpy(), f.numpy()) for z, f in outs]
    assert ood_auroc(*scores) > 0.99
    kept = float((scores[0] <= stored.quantile("mahalanobis@layer1", 0.95)).mean())
    assert kept > 0.8
    direct = reference.score("mahalanobis@layer1", outs[0][0].numpy(), outs[0][1].numpy())
    np.testing.assert_allclose(scores[0], direct, rtol=0.02)


def test_temperature_undoes_a_known_overconfidence():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 1, 3, generator=generator)
    labels = torch.multinomial(torch.softmax(logits[:, 0], -1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits * 3, labels) == pytest.approx(3.0, rel=0.1)


def test_the_reference_sample_is_as_balanced_as_the_classes_allow():
    labels = np.repeat([0, 1, 2], [5, 200, 300])
    kept = balanced_sample(labels, 105, np.random.default_rng(0))
    assert np.bincount(labels[kept]).tolist() == [5, 50, 50]
    assert len(np.unique(kept)) == 105
