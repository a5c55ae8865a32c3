from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ood.training import train
from napari_ood.training.order import epoch_order
from napari_ood.training.parameters import parameter_units
from napari_ood.training.precision import choose_precision
from napari_ood.training.session import new_network
from napari_ood.training.stepper import Stepper
from napari_ood.training.tilecheck import channel_statistics


def stepper(data, config) -> Stepper:
    images, labels = data[:2]
    torch.manual_seed(0)
    return Stepper(
        torch.from_numpy(images),
        torch.from_numpy(labels),
        channel_statistics(images),
        new_network(config, images, labels),
        config,
        torch.device("cpu"),
        "fp32",
    )


def changed(before: dict[str, torch.Tensor], after: torch.nn.Module) -> set[str]:
    return {name for name, value in after.state_dict().items() if not before[name].equal(value)}


def snapshot(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("head_blocks", [0, 1])
def test_the_first_stage_trains_the_heads_alone(data, config, head_blocks):
    s = stepper(data, replace(config, head_blocks=head_blocks, blocks=config.blocks[1:]))
    before = snapshot(s.live)
    s.begin("heads")
    for rows in s.batches()[:2]:
        s.step(rows, 1e-2, 0.0)
    names = changed(before, s.live)
    assert names
    assert not any(name.startswith("trunk.") for name in names)  # nor its batch-norm statistics
    heads = {name for name in before if not name.startswith("trunk.")}
    assert {n for n in heads if before[n].is_floating_point()} <= names
    s.begin("all")
    for rows in s.batches()[:1]:
        s.step(rows, 1e-2, 0.0)
    assert any(name.startswith("trunk.") for name in changed(before, s.live))


def test_frozen_units_never_change(data, config):
    s = stepper(data, replace(config, freeze=2))
    before = snapshot(s.live)
    s.begin("all")
    for rows in s.batches()[:2]:
        s.step(rows, 1e-2, 0.0)
    frozen = tuple(f"trunk.{name}" for name, _ in s.live.trunk_units()[:2])
    names = changed(before, s.live)
    assert not any(name.startswith(frozen) for name in names)
    assert any("running_mean" in name for name in names)  # of the units that learn


def test_rates_fall_towards_the_input(data, config):
    s = stepper(data, replace(config, layer_decay=0.5))
    s.begin("all")
    s.step(s.batches()[0], 1.0, 0.0)
    rates = {id(p): g["lr"] for g in s.optimizer.param_groups for p in g["params"]}
    units = parameter_units(s.live)
    assert sum(len(unit) for unit in units) == len(list(s.live.parameters())) == len(rates)
    for depth, unit in enumerate(reversed(units)):
        assert {rates[id(p)] for p in unit} == {0.5**depth}
    assert units[-1] == s.live.head_parameters()


def test_only_matrices_decay_and_each_heads_own_bias_is_none(data, config):
    s = stepper(data, replace(config, weight_decay=0.3, head_depth=1))
    s.begin("all")
    decay = {id(p): g["weight_decay"] for g in s.optimizer.param_groups for p in g["params"]}
    assert {decay[id(p)] for p in s.live.heads.biases} == {0.0}
    assert {decay[id(p)] for p in s.live.heads.weights} == {0.3}
    for module in s.live.trunk.modules():
        if isinstance(module, torch.nn.Conv2d):
            assert decay[id(module.weight)] == 0.3
        if isinstance(module, torch.nn.BatchNorm2d):
            assert decay[id(module.weight)] == decay[id(module.bias)] == 0.0


def test_each_step_applies_the_cycles_rate_times_the_units(data, config, monkeypatch):
    config = replace(
        config, head_epochs=1, epochs=3, cycles=2, layer_decay=0.5, warmup=0.0, learning_rate=0.01
    )
    applied = []

    class Noting(torch.optim.AdamW):
        def step(self, *args, **options):
            applied.append({g["scale"]: g["lr"] for g in self.param_groups})
            return super().step(*args, **options)

    monkeypatch.setattr(torch.optim, "AdamW", Noting)
    train(*data, config)
    n = len(data[0]) // config.batch_size  # steps per epoch
    assert len(applied) == 4 * n
    units = len(parameter_units(new_network(config, *data[:2])))
    for step, rates in enumerate(applied):
        # One epoch of the heads alone, then cycles of 1 and 2 epochs: each falls as a half cosine.
        first, length = ((0, n), (n, n), (2 * n, 2 * n))[min(step // n, 2)]
        highest = 0.01 * (1 + np.cos(np.pi * (step - first) / length)) / 2
        depths = range(1) if step < n else range(units)
        expected = {0.5**depth: highest * 0.5**depth for depth in depths}
        assert rates == pytest.approx(expected)


def test_validation_draws_nothing_at_random(data, config):
    s = stepper(data, replace(config, loss="wta_batch", random_winner=0.99, dropout=0.5))
    state, whole = s.generator.get_state(), torch.get_rng_state()
    first = s.logits(torch.from_numpy(data[2]))
    assert torch.equal(first, s.logits(torch.from_numpy(data[2])))
    assert torch.equal(state, s.generator.get_state())
    assert torch.equal(whole, torch.get_rng_state())


def test_weights_and_batch_norm_statistics_are_averaged_by_the_formula(data, config):
    config = replace(config, ema=0.3)
    s = stepper(data, config)
    expected = {k: v.double() for k, v in snapshot(s.averaged).items()}
    s.begin("all")
    for t, rows in enumerate([*s.batches(), *s.batches()], start=1):
        s.step(rows, 1e-2, 0.0)
        decay = min(0.3, t / (t + 50))
        for name, value in s.live.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value.double()
    averaged = s.averaged.state_dict()
    names = [name for name, value in averaged.items() if value.is_floating_point()]
    assert {name.rpartition(".")[2] for name in names} >= {"weight", "running_mean", "running_var"}
    for name in names:
        torch.testing.assert_close(averaged[name].double(), expected[name], rtol=1e-4, atol=1e-6)
        assert not torch.equal(averaged[name], s.live.state_dict()[name])


def test_mixed_tiles_have_mixed_targets(data, config, monkeypatch):
    # Zhang et al. 2018: x = λ a + (1 − λ) b,  y = λ onehot(a) + (1 − λ) onehot(b).
    s = stepper(data, replace(config, mixup=0.4, augment=0.0, bootstrap=False))
    for _ in range(20):
        share, other = s._mixture(32)
        assert 0.5 <= share <= 1
        assert sorted(other.tolist()) == list(range(32))
    monkeypatch.setattr(s, "_mixture", lambda n: (0.7, torch.arange(n - 1, -1, -1)))
    s.begin("all")
    rows = s.batches()[0]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in channel_statistics(data[0]))
    x = (s.images[rows].permute(0, 3, 1, 2).float() / 255 - mean) / std
    y = torch.nn.functional.one_hot(s.labels[rows], 2).float()
    x, y = (0.7 * v + 0.3 * v.flip(0) for v in (x, y))
    # Augmentation turns and mirrors tiles even at strength 0, so its tiles are given.
    monkeypatch.setattr(s, "_augment", lambda tiles: tiles.permute(0, 3, 1, 2).float() / 255)
    log_p = torch.log_softmax(s.live.logits(x), dim=-1)  # batch norm: of this batch
    loss, _ = s._forward(rows, 0.0)
    torch.testing.assert_close(loss, -(y[:, None] * log_p).sum(dim=-1).mean())


def test_both_stages_and_cycles_are_in_the_history(data, config):
    config = replace(config, head_epochs=1, cycles=2, cycle_epochs=1, layer_decay=0.8)
    history = train(*data, config).history
    assert [r.stage for r in history] == ["heads", "all", "all", "all"]
    assert [r.epoch for r in history] == [0, 1, 2, 3]
    assert history[-1].nll < history[0].nll
    # A cycle's last rate is near 0; that of the second one is not yet half way down.
    assert history[1].learning_rate < 0.2 * history[2].learning_rate


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=2, max_size=5), st.integers(0, 9))
def test_a_balanced_epoch_has_as_many_tiles_of_every_class(counts, seed):
    labels = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
    if not len(labels):
        return
    rows = epoch_order(labels, "dynamic", torch.Generator().manual_seed(seed))
    drawn = torch.bincount(labels[rows], minlength=len(counts))
    there = [int(k) for k, n in zip(drawn, counts, strict=True) if n]
    assert sum(there) == len(rows) == len(labels)
    assert max(there) - min(there) <= 1
    # No tile comes twice more often than another of its class.
    times = torch.bincount(rows, minlength=len(labels))
    for c, n in enumerate(counts):
        if n:
            assert int(times[labels == c].max() - times[labels == c].min()) <= 1


def test_an_epoch_without_balancing_has_every_tile_once():
    rows = epoch_order(torch.tensor([0, 0, 0, 1]), "none", torch.Generator().manual_seed(0))
    assert sorted(rows.tolist()) == [0, 1, 2, 3]


def test_the_faster_precision_is_chosen_on_a_copy(data, config, monkeypatch):
    s = stepper(data, config)
    before = snapshot(s.live)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    for fast in ("fp32", "bf16"):
        monkeypatch.setattr(
            "napari_ood.training.precision._seconds",
            lambda net, x, labels, precision, fast=fast: 1.0 if precision == fast else 2.0,
        )
        assert choose_precision(s.live, *s.example()) == fast
    monkeypatch.undo()
    assert choose_precision(s.live, *s.example()) in ("fp32", "bf16")
    assert not changed(before, s.live)
