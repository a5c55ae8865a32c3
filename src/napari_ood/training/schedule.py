"""Stages, cycles and learning rates of a training (no torch)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_ood.training.config import TrainConfig

HEADS, ALL = "heads", "all"


def sgdr_cycles(epochs: int, mult: int = 2) -> int:
    """Return the largest number of cycles of 1, m, m² … epochs that fit into ``epochs``.

    With it as ``TrainConfig.cycles``, the first cycles are stretched evenly as far as they go, and
    the last one ends exactly at ``epochs``: 10 epochs are 1 + 2 + 7.
    """
    cycles, total, length = 0, 0, 1
    while total + length <= epochs:
        cycles, total, length = cycles + 1, total + length, length * max(mult, 1)
    return max(cycles, 1)


def cycle_lengths(config: TrainConfig) -> tuple[int, ...]:
    """Epochs of each cycle of the stage that trains all layers."""
    growth = [config.cycle_mult**i for i in range(config.cycles)]
    if config.cycle_epochs:
        return tuple(config.cycle_epochs * g for g in growth)
    while len(growth) > 1 and sum(growth) > config.epochs:
        growth.pop()
    base = config.epochs // sum(growth)
    lengths = [base * g for g in growth]
    lengths[-1] += config.epochs - sum(lengths)
    return tuple(lengths)


@dataclass(frozen=True)
class _Cycle:
    stage: str
    first_epoch: int
    n_epochs: int
    warms_up: bool


class Schedule:
    """Which stage an epoch belongs to, and the learning rate of each step.

    SGDR (Loshchilov & Hutter, ICLR 2017), with η_min = 0: within a cycle of n steps the rate is
    ½ (1 + cos(π s / n)) of the highest, after a linear rise in the first cycle of a stage.
    """

    def __init__(self, config: TrainConfig, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        self._warmup = config.warmup
        self._cycles: list[_Cycle] = []
        start = config.head_epochs
        if start:
            self._cycles.append(_Cycle(HEADS, 0, start, True))
        for i, n in enumerate(cycle_lengths(config)):
            self._cycles.append(_Cycle(ALL, start, n, i == 0))
            start += n
        self.n_epochs = start

    def stage(self, epoch: int) -> str:
        """Return "heads" or "all"."""
        return self._cycle(epoch).stage

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted over the whole training, as a share of the highest."""
        cycle = self._cycle(step // self.steps_per_epoch)
        n = cycle.n_epochs * self.steps_per_epoch
        s = step - cycle.first_epoch * self.steps_per_epoch
        rising = min(round(self._warmup * n), n - 1) if cycle.warms_up else 0
        if s < rising:
            return (s + 1) / (rising + 1)
        return 0.5 * (1 + math.cos(math.pi * (s - rising) / (n - rising)))

    def progress(self, step: int) -> float:
        """Share of the training that lies before a step."""
        return step / (self.n_epochs * self.steps_per_epoch)

    def _cycle(self, epoch: int) -> _Cycle:
        return next(c for c in reversed(self._cycles) if c.first_epoch <= epoch)
