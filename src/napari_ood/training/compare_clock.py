"""How far a comparison has come, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from napari_ood.training.config import TrainProgress


class Clock:
    """Counts networks, each once, whichever methods use it.

    Parameters
    ----------
    owners : key of every network → method, in the order in which they are trained
    known : key → training time of those that are there already
    """

    def __init__(self, owners: Mapping[str, str], known: Mapping[str, float]) -> None:
        self._owners = dict(owners)
        self._seconds = {key: s for key, s in known.items() if key in self._owners}

    def end(self, key: str, seconds: float) -> None:
        """Note how long a network took to train."""
        self._seconds[key] = seconds

    def place(self, key: str) -> tuple[int, int]:
        """Number of a network, from 1, and of all."""
        return list(self._owners).index(key) + 1, len(self._owners)

    def left(self, key: str, progress: TrainProgress) -> float | None:
        """Seconds for the rest of this network and all that follow; None before its first step.

        What follows is taken to last as networks of the same method did, else as all did on
        average, else as this one.
        """
        if progress.seconds_left is None:
            return None
        taken: dict[str, list[float]] = {}
        for done, seconds in self._seconds.items():
            taken.setdefault(self._owners[done], []).append(seconds)
        every = [seconds for of_method in taken.values() for seconds in of_method]
        usual = float(np.mean(every or [progress.seconds + progress.seconds_left]))
        todo = [k for k in self._owners if k != key and k not in self._seconds]
        means = {owner: float(np.mean(of_method)) for owner, of_method in taken.items()}
        return progress.seconds_left + sum(means.get(self._owners[k], usual) for k in todo)
