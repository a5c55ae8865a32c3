from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_ood.errors import TrainingError
from napari_ood.evaluation import ood_auroc
from napari_ood.models import Card, save_bundle
from napari_ood.training import (
    TrainProgress,
    fit_reference,
    head_usage,
    round_to_half,
    run_network,
    train,
)
from napari_ood.training.fit import balanced_sample
from napari_ood.training.losses import ensemble_nll
from napari_ood.training.schedule import Schedule


@pytest.fixture(scope="module")
def seen() -> list[TrainProgress]:
    return []


@pytest.fixture(scope="module")
def trained(data, config, seen):
    return train(*data, config, seen.append)


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_training_learns_is_kept_at_its_best_and_repeats_exactly(trained, data, config):
    assert len(trained.history) == 3
    best = min(trained.history, key=lambda record: record.nll)
    assert best.accuracy > 0.9
    logits, _ = run_network(trained.net, trained.mean, trained.std, data[2])
    nll = ensemble_nll(torch.from_numpy(logits), torch.from_numpy(data[3]))
    assert float(nll) == pytest.approx(best.nll, abs=1e-3)
    usage = head_usage(logits, data[3], trained.temperature)
    assert trained.usage.nll == pytest.approx(usage.nll, abs=1e-3)
    assert (trained.precision, trained.learning_rate) == ("fp32", 3e-3)
    assert same_weights(trained.net, train(*data, config).net)
    assert not same_weights(trained.net, train(*data, replace(config, seed=1)).net)


def test_progress_tells_where_a_training_is(trained, seen):
    records = [p.record for p in seen if p.record is not None]
    assert tuple(records) == trained.history
    last = seen[-1]
    assert (last.stage, last.epoch, last.n_epochs) == ("all", 3, 3)
    assert last.step == last.n_steps == 8
    assert last.seconds_left == 0
    assert last.loss == records[-1].train_loss
    places = [(p.epoch, p.step) for p in seen]
    assert places == sorted(set(places))
    times = [p.seconds for p in seen if p.record is None]
    assert all(b - a >= 0.2 for a, b in pairwise(times))


def test_training_leaves_the_global_generator_alone(data, config):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(*data, replace(config, epochs=1))
    assert torch.equal(torch.rand(1), expected)


def test_a_second_training_starts_from_the_first(trained, data, config):
    config = replace(config, epochs=1, learning_rate=1e-6, ema=0.5, crop=24, dropout=0.3)
    second = train(*data, config, init=trained.net)
    assert second.net.heads.dropout.p == 0.3
    assert second.history[0].accuracy >= trained.history[-1].accuracy - 0.1
    a, b = trained.net.trunk.conv1[0].weight, second.net.trunk.conv1[0].weight
    assert 0 < float((a - b).detach().abs().max()) < 1e-3


def test_early_stopping_ends_after_patience(data, config):
    config = replace(config, epochs=6, learning_rate=1e-12, patience=1)
    assert len(train(*data, config).history) < 6


@pytest.mark.parametrize("loss", ["wta_batch", "annealed"])
def test_the_kept_epoch_is_the_best_of_the_ensemble_whatever_the_loss(data, config, loss):
    config = replace(config, loss=loss, mixup=0.2, random_winner=0.5, learning_rate=1e-2)
    trained = train(*data, config)
    logits, _ = run_network(trained.net, trained.mean, trained.std, data[2])
    nll = ensemble_nll(torch.from_numpy(logits), torch.from_numpy(data[3]))
    assert float(nll) == pytest.approx(min(r.nll for r in trained.history), abs=1e-3)


def test_few_tiles_one_head_and_a_class_that_is_not_held_out(data, config):
    images, labels, val_images, val_labels = data
    few = (images[:10], labels[:10], val_images[val_labels == 0], val_labels[val_labels == 0])
    config = replace(config, n_heads=1, loss="wta_batch", epochs=1, balance="dynamic")
    trained = train(*few, config)
    assert trained.history[0].auroc is None
    assert trained.usage.win_share == (1.0,)


def test_a_diverging_loss_names_the_rate_and_keeps_the_best_epoch(data, config, monkeypatch):
    monkeypatch.setattr(Schedule, "rate", lambda self, step: 1.0 if step < 8 else 1e30)
    with pytest.raises(TrainingError, match=r"epoch [23] at learning rate 3e\+27") as caught:
        train(*data, config)
    assert caught.value.trained.history[0].accuracy > 0.4
    assert caught.value.trained.net.training is False


def test_tiles_that_cannot_be_trained_on_are_refused(data, config):
    images, labels, val_images, val_labels = data
    cases = [
        ((images[:, :20], labels, val_images, val_labels), "square uint8"),
        ((images / 255, labels, val_images, val_labels), "square uint8"),
        ((images, labels - 1, val_images, val_labels), "128 training tiles have no label"),
        ((images, labels[:9], val_images, val_labels), "256 integers"),
        ((images, labels, val_images, val_labels * 2), r"classes \[2\]"),
        ((images, labels * 0, val_images, val_labels * 0), "two classes"),
        ((images[:, :24, :24], labels, val_images, val_labels), "differ in size"),
        ((images, labels, val_images[:0], val_labels[:0]), "1 held out"),
    ]
    for tiles, text in cases:
        with pytest.raises(TrainingError, match=text):
            train(*tiles, config)
    with pytest.raises(TrainingError, match="units"):
        train(*data, replace(config, freeze=99))


def test_an_initial_network_must_fit(data, config, trained):
    with pytest.raises(TrainingError, match="3 heads"):
        train(*data, replace(config, n_heads=5), init=trained.net)
    images, labels, val_images, val_labels = data
    with pytest.raises(TrainingError, match="2 classes, the tiles 3"):
        train(images, labels * 2, val_images, val_labels * 2, config, init=trained.net)


def test_a_trained_bundle_scores_foreign_tiles_higher(trained, data, stripes, tmp_path: Path):
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


def test_the_reference_sample_is_as_balanced_as_the_classes_allow():
    labels = np.repeat([0, 1, 2], [5, 200, 300])
    kept = balanced_sample(labels, 105, np.random.default_rng(0))
    assert np.bincount(labels[kept]).tolist() == [5, 50, 50]
    assert len(np.unique(kept)) == 105
