"""The number that is explained, as a function of the pixels (needs torch)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_ood.explain.progress import Steps
from napari_ood.models.network import MultiHeadNet

Readout = Callable[[Tensor, Tensor | None], Tensor]
"""Logits [N, M, C] and, where it asks for them, features [N, D] → [N]."""

PIXELS_PER_BATCH, MOST_PER_BATCH = 400_000, 32
"""Of tiles as the trunk sees them, and tiles, per forward batch: bounds the memory of backward
passes, and the time until a cancel is seen."""


class Objective:
    """Tiles → one number each, [N], open to autograd.

    Attributes
    ----------
    net : MultiHeadNet
    steps : polled and told before each forward batch
    low, high : what counts as none of it and as much of it, for :meth:`share`
    batch : tiles that one forward batch holds
    first : values of the first forward batch since it was set to None
    """

    def __init__(
        self,
        net: MultiHeadNet,
        mean: Tensor,
        std: Tensor,
        readout: Readout,
        needs_features: bool,
        steps: Steps,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        self.net, self.steps, self.low, self.high = net, steps, low, high
        self._mean, self._std = mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)
        self._readout, self._needs_features = readout, needs_features
        self.batch = min(MOST_PER_BATCH, max(1, PIXELS_PER_BATCH // net.input_size**2))
        self.first: Tensor | None = None

    def __call__(self, rgb: Tensor) -> Tensor:
        """Return the numbers ``[N]`` of colours ``[N, 3, t, t]`` in 0…1."""
        self.steps.tick()
        x = ((rgb - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        if self._needs_features:
            value = self._readout(*self.net(x))
        else:
            value = self._readout(self.net.logits(x), None)
        if self.first is None:
            self.first = value.detach()
        return value

    def share(self, value: Tensor, start: Tensor) -> Tensor:
        """Values ``[N]`` in about 0…1: 0 is ``low``, 1 is ``high`` or, if larger, the start."""
        return (value - self.low) / (start - self.low).clamp_min(self.high - self.low)


def mean_probability(logits: Tensor, temperature: float) -> Tensor:
    """p̄ ``[N, C]``: mean over heads of the softmax at this temperature."""
    return (logits.float() / temperature).softmax(dim=-1).mean(dim=1)


def entropy(logits: Tensor, temperature: float) -> Tensor:
    """H(p̄) in nats, ``[N]``."""
    p = mean_probability(logits, temperature)
    # 0 · log 0 = 0, in the derivative, too: a probability that underflows must not give NaN.
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum(dim=-1)
