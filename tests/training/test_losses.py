from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ood.training.config import TrainConfig
from napari_ood.training.losses import (
    LOSSES,
    Relaxation,
    annealing_temperature,
    fit_temperature,
    head_cross_entropy,
    head_loss,
    win_share,
)


@pytest.fixture
def losses() -> torch.Tensor:
    logits = torch.randn(7, 4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    losses = head_cross_entropy(logits, labels)
    direct = -torch.log_softmax(logits, -1)[torch.arange(7), :, labels]
    torch.testing.assert_close(losses, direct)
    return losses


def loss(name: str, losses: torch.Tensor, **relaxation: float) -> torch.Tensor:
    return head_loss(name, losses, torch.ones_like(losses), Relaxation(**relaxation))


def test_losses_follow_their_formulas(losses):
    torch.testing.assert_close(loss("mean", losses, epsilon=0.2), losses.mean())
    best = losses.min(1).values
    others = (losses.sum(1) - best) / 3
    expected = (0.8 * best + 0.2 * others).mean()
    torch.testing.assert_close(loss("wta_sample", losses, epsilon=0.2), expected)
    per_head = losses.mean(0)
    rest = (per_head.sum() - per_head.min()) / 3
    expected = 0.8 * per_head.min() + 0.2 * rest
    torch.testing.assert_close(loss("wta_batch", losses, epsilon=0.2), expected)
    q = torch.softmax(-losses / 0.5, 1)
    expected = (losses * (0.8 * q + 0.2 * (1 - q) / 3)).sum(1).mean()
    torch.testing.assert_close(loss("annealed", losses, epsilon=0.2, temperature=0.5), expected)


def test_annealed_goes_from_the_mean_to_winner_takes_all(losses):
    hot = loss("annealed", losses, epsilon=0.1, temperature=1e4)
    cold = loss("annealed", losses, epsilon=0.1, temperature=1e-4)
    torch.testing.assert_close(hot, loss("mean", losses), rtol=1e-3, atol=0)
    torch.testing.assert_close(cold, loss("wta_sample", losses, epsilon=0.1))
    assert annealing_temperature(1.0, 0.01, 0.5) == pytest.approx(0.1)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(sorted(LOSSES)),
    st.integers(1, 6),
    st.floats(0, 0.99),
    st.floats(1e-3, 10),
    st.integers(0, 99),
)
def test_every_tile_is_shared_out_in_full(name, m, epsilon, temperature, seed):
    values = torch.rand(5, m, generator=torch.Generator().manual_seed(seed)) * 3
    winner = seed % m if seed % 2 else None
    shares = LOSSES[name](values, Relaxation(epsilon, temperature, winner))
    assert shares.shape == values.shape
    assert float(shares.min()) >= 0
    torch.testing.assert_close(shares.sum(1), torch.ones(5))


def test_a_random_winner_learns_whatever_its_loss(losses):
    worst = int(losses.mean(0).argmax())
    shares = LOSSES["wta_batch"](losses, Relaxation(0.3, winner=worst))
    assert shares[:, worst].tolist() == pytest.approx([0.7] * 7)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_one_head_has_a_plain_loss(name):
    values = torch.tensor([[1.0], [3.0]])
    assert loss(name, values, epsilon=0.3) == pytest.approx(2.0)


def test_shares_carry_no_gradient():
    values = torch.tensor([[0.5, 1.0]], requires_grad=True)
    loss("annealed", values, epsilon=0.0, temperature=1.0).backward()
    torch.testing.assert_close(values.grad, torch.softmax(-values.detach(), 1))


def test_weights_of_the_bootstrap_leave_tiles_out(losses):
    weights = torch.zeros_like(losses)
    weights[2] = 1
    expected = losses[2].mean()
    torch.testing.assert_close(head_loss("mean", losses, weights, Relaxation()), expected)


def test_win_shares_count_the_best_head():
    values = torch.tensor([[0.1, 0.2], [0.1, 0.2], [0.1, 0.2], [0.2, 0.1]])
    assert win_share(values).tolist() == [0.75, 0.25]


def test_temperature_undoes_a_known_overconfidence():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 1, 3, generator=generator)
    labels = torch.multinomial(torch.softmax(logits[:, 0], -1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits * 3, labels) == pytest.approx(3.0, rel=0.1)


def test_the_config_names_every_loss():
    for name in LOSSES:
        assert TrainConfig(loss=name).loss == name
