"""Bounds on the CPU time of a thread that neither a slow machine nor a busy one can break.

Other programs make the CPU time of the same work longer, through caches and cores that they share,
never shorter: of several tries the best counts. And what a slow machine takes is held against what
it takes for work that is always the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import numpy as np

REFERENCE_S = 0.0020
"""CPU seconds of ``_work`` on the machine that the bounds were set on: one core of an AMD EPYC."""
TRIES = 4


def best(
    measure: Callable[[], Mapping[str, float]],
    bound: float,
    pace: Callable[[], float] | None = None,
) -> dict[str, float]:
    """The least CPU seconds of each part, of as many tries as it takes to be below a bound.

    Parameters
    ----------
    measure : does the work anew and returns CPU seconds of the calling thread by part
    bound : seconds on a machine at least as fast as the reference
    pace : by what the seconds are divided after each try; ``slowness`` by default

    Returns
    -------
    dict
        Seconds as they would be on the reference machine, where this one is slower.
    """
    found: dict[str, float] = {}
    for _ in range(TRIES):
        took, slow = measure(), (pace or slowness)()
        for part, seconds in took.items():
            found[part] = min(found.get(part, math.inf), seconds / slow)
        if max(found.values()) < bound:
            break
    return found


def slowness() -> float:
    """How much longer than the reference machine this one takes now; 1 where it is faster."""
    return max(1.0, min(_seconds(_work) for _ in range(5)) / REFERENCE_S)


def _seconds(do: Callable[[], object]) -> float:
    began = time.thread_time()
    do()
    return time.thread_time() - began


class _Thing:
    def __init__(self, number: int) -> None:
        self.number = number

    def put(self, into: dict[int, int]) -> list[int]:
        into[self.number % 97] = self.number
        return [self.number, *into][:3]


def _work() -> None:
    """What windows are made of: objects, calls, dicts and small arrays."""
    into: dict[int, int] = {}
    array = np.arange(64.0)
    for i in range(2000):
        _Thing(i).put(into)
        if i % 8 == 0:
            array = np.sqrt(array * array + 1)
