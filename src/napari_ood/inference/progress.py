"""What the engine tells its listener."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

STAGES = ("read", "forward", "write")


@dataclass
class StageClock:
    """Busy seconds of each stage. Stages overlap, so they add up to more than the wall time."""

    read: float = 0.0
    forward: float = 0.0
    write: float = 0.0

    def to_dict(self) -> dict[str, float]:
        """Seconds per stage."""
        return {stage: getattr(self, stage) for stage in STAGES}


@dataclass(frozen=True)
class Progress:
    """State of a run after a shard became durable.

    Attributes
    ----------
    n_done, n_total : tiles, those of earlier sessions of the same run included
    seconds : wall seconds since this session's first tile was asked for
    tiles_per_s : tiles of this session per second
    seconds_left : None before the speed is known
    stage_seconds : busy seconds of the stages read, forward, write
    index : [n, 2] row and column of the tiles that just became durable
    logits : [n, M, C] float32 of these tiles
    features : [n, D] float32 of these tiles
    """

    n_done: int
    n_total: int
    seconds: float
    tiles_per_s: float
    seconds_left: float | None
    stage_seconds: dict[str, float]
    index: NDArray[np.int64] = field(repr=False)
    logits: NDArray[np.float32] = field(repr=False)
    features: NDArray[np.float32] = field(repr=False)


Listener = Callable[[Progress], None]
"""Called in the thread that called the engine."""
