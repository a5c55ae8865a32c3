"""Losses of M heads on a shared trunk (torch). Each takes cross-entropies ``[B, M]``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

HeadLoss = Callable[[Tensor, Tensor, float], Tensor]


def head_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of every head, ``[B, M]``, for logits ``[B, M, C]`` and labels ``[B]``."""
    b, m, c = logits.shape
    repeated = labels.unsqueeze(1).expand(b, m).reshape(-1)
    losses = cross_entropy(
        logits.reshape(b * m, c).float(), repeated, reduction="none", label_smoothing=smoothing
    )
    return losses.view(b, m)


def mean(losses: Tensor, weights: Tensor, epsilon: float) -> Tensor:
    """All heads alike; ``weights`` ``[B, M]`` are those of the bootstrap (ones without it)."""
    return (losses * weights).sum() / weights.sum().clamp_min(1e-6)


def wta_sample(losses: Tensor, weights: Tensor, epsilon: float) -> Tensor:
    """The head that is best on a tile learns it; the others share ``epsilon`` of its loss.

    The relaxed meta-loss of Rupprecht et al., *Learning in an uncertain world*, ICCV 2017, with
    the winner picked for each tile.
    """
    return _relaxed(losses, losses.argmin(dim=1, keepdim=True), weights, epsilon)


def wta_batch(losses: Tensor, weights: Tensor, epsilon: float) -> Tensor:
    """As ``wta_sample``, with one winner per batch: the released code of Linmans et al. 2020.

    On real data one head tends to win always; kept for comparison.
    """
    winner = losses.mean(dim=0).argmin().expand(len(losses), 1)
    return _relaxed(losses, winner, weights, epsilon)


def _relaxed(losses: Tensor, winner: Tensor, weights: Tensor, epsilon: float) -> Tensor:
    m = losses.shape[1]
    if m == 1:
        return mean(losses, weights, epsilon)
    share = torch.full_like(losses, epsilon / (m - 1)).scatter(1, winner, 1.0 - epsilon)
    return (losses * share * weights).sum() / (share * weights).sum().clamp_min(1e-6)


LOSSES: dict[str, HeadLoss] = {"mean": mean, "wta_sample": wta_sample, "wta_batch": wta_batch}


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
