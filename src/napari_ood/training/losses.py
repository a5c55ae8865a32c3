"""Losses of M heads on a shared trunk (torch).

Every loss is a weighted mean of the heads' cross-entropies ``[B, M]``. They differ in the *shares*
``[B, M]``, which say how much each head learns from each tile, and sum to 1 over the heads. Shares
carry no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Relaxation:
    """How strictly the winner takes all.

    Attributes
    ----------
    epsilon : share of the loss that the other heads have together, ε / (M − 1) each
    temperature : of ``annealed``, in nats
    winner : a head that wins whatever its loss (``wta_batch``, drawn at random now and then)
    """

    epsilon: float = 0.0
    temperature: float = 1.0
    winner: int | None = None


Shares = Callable[[Tensor, Relaxation], Tensor]


def head_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of every head, ``[B, M]``, for logits ``[B, M, C]`` and labels ``[B]``."""
    b, m, c = logits.shape
    repeated = labels.unsqueeze(1).expand(b, m).reshape(-1)
    losses = cross_entropy(
        logits.reshape(b * m, c).float(), repeated, reduction="none", label_smoothing=smoothing
    )
    return losses.view(b, m)


def head_loss(name: str, losses: Tensor, weights: Tensor, relaxation: Relaxation) -> Tensor:
    """Loss of a batch.

    Parameters
    ----------
    name : a key of ``LOSSES``
    losses : [B, M] cross-entropies
    weights : [B, M], of the bootstrap (ones without it)
    relaxation : Relaxation
    """
    shares = LOSSES[name](losses.detach(), relaxation) * weights
    return (losses * shares).sum() / shares.sum().clamp_min(1e-6)


def mean(losses: Tensor, relaxation: Relaxation) -> Tensor:
    """All heads alike."""
    return torch.full_like(losses, 1 / losses.shape[1])


def wta_sample(losses: Tensor, relaxation: Relaxation) -> Tensor:
    """The head that is best on a tile learns it; the others share ``epsilon`` of its loss.

    The relaxed meta-loss of Rupprecht et al., *Learning in an uncertain world*, ICCV 2017, with
    the winner picked for each tile.
    """
    winners = losses.argmin(dim=1, keepdim=True)
    return _relax(torch.zeros_like(losses).scatter(1, winners, 1.0), relaxation.epsilon)


def wta_batch(losses: Tensor, relaxation: Relaxation) -> Tensor:
    """As ``wta_sample``, with one winner per batch: the released code of Linmans et al. 2020.

    On real data one head tends to win always.
    """
    shares = torch.zeros_like(losses)
    winner = relaxation.winner
    shares[:, losses.mean(dim=0).argmin() if winner is None else winner] = 1.0
    return _relax(shares, relaxation.epsilon)


def annealed(losses: Tensor, relaxation: Relaxation) -> Tensor:
    """Softmin over the heads' losses at a temperature that falls, relaxed as ``wta_sample``.

    Perera et al., *Annealed multiple choice learning*, NeurIPS 2024: a hot start treats all heads
    alike, a cold end is winner-takes-all, reached without its poor local minima.
    """
    return _relax(torch.softmax(-losses / relaxation.temperature, dim=1), relaxation.epsilon)


def _relax(shares: Tensor, epsilon: float) -> Tensor:
    """Give each head its share of 1 − ε, and of the ε that the others leave (sums stay 1)."""
    m = shares.shape[1]
    if m == 1:
        return torch.ones_like(shares)
    return (1 - epsilon) * shares + epsilon * (1 - shares) / (m - 1)


LOSSES: dict[str, Shares] = {
    "mean": mean,
    "wta_batch": wta_batch,
    "wta_sample": wta_sample,
    "annealed": annealed,
}


def annealing_temperature(first: float, last: float, progress: float) -> float:
    """Temperature that falls exponentially from ``first`` to ``last`` as progress goes 0 → 1."""
    return float(first * (last / first) ** progress)


def win_share(losses: Tensor) -> Tensor:
    """Share of the tiles on which each head has the lowest loss, ``[M]``; uneven = collapsed."""
    return torch.bincount(losses.argmin(dim=1), minlength=losses.shape[1]) / len(losses)


def ensemble_nll(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """Negative log-likelihood of p̄, the mean over heads of the softmax, in nats."""
    log_p = torch.log_softmax(logits.double() / temperature, dim=-1)
    log_mean = torch.logsumexp(log_p, dim=1) - torch.log(torch.tensor(float(logits.shape[1])))
    return -log_mean.gather(1, labels.unsqueeze(1)).mean()


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Temperature that minimises the ensemble's NLL on held-out tiles (0.05 to 20).

    Guo et al., *On calibration of modern neural networks*, ICML 2017, applied to p̄.
    """
    from scipy.optimize import minimize_scalar

    def nll(log_t: float) -> float:
        return float(ensemble_nll(logits, labels, float(torch.tensor(log_t).exp())))

    best = minimize_scalar(nll, bounds=(-3.0, 3.0), method="bounded")
    return float(torch.tensor(best.x).exp())
