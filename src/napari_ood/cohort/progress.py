"""What a cohort tells its listener."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class CohortProgress:
    """State of a cohort.

    Attributes
    ----------
    n_slides, n_done, n_failed : slides in all, complete, given up
    n_tiles : tiles that this call computed and stored, those of tasks under way included
    n_workers : workers that are connected now
    seconds : wall seconds since the first task was handed out
    tiles_per_s : of all workers together
    seconds_left : by the bytes of slides that are left; None before any tile was stored
    """

    n_slides: int
    n_done: int
    n_failed: int
    n_tiles: int
    n_workers: int
    seconds: float
    tiles_per_s: float
    seconds_left: float | None


Listener = Callable[[CohortProgress], None]
"""Called in the thread that called ``run_cohort``."""
