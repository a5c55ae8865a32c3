"""Scores by name: ``entropy``, ``mahalanobis``, ``mahalanobis@layer1``, ``mahalanobis++@a+b``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_ood.scores import heads
from napari_ood.scores.distance import Mahalanobis

HeadScore = Callable[..., NDArray[np.float32]]

HEAD_SCORES: dict[str, HeadScore] = {
    "entropy": heads.entropy,
    "msp": heads.msp,
    "disagreement": heads.disagreement,
    "maxlogit": heads.maxlogit,
    "energy": heads.energy,
}
"""Scores that need logits only: ``f(logits [N, M, C], temperature) -> [N] float32``."""

FEATURE_SCORES: dict[str, Callable[[NDArray[np.float32], NDArray[np.int64]], Mahalanobis]] = {
    "mahalanobis": Mahalanobis.fit,
    "mahalanobis++": lambda x, y: Mahalanobis.fit(x, y, normalise=True),
}
"""Scores that need features and a reference: ``fit(features, labels)`` gives a detector."""

DEFAULT_BLOCK = "penultimate"


@dataclass(frozen=True)
class ScoreSpec:
    """A parsed score name: the method and, for feature scores, the feature blocks it reads."""

    method: str
    blocks: tuple[str, ...] = ()

    @property
    def needs_features(self) -> bool:
        """Whether the score reads features and a reference, not logits alone."""
        return self.method in FEATURE_SCORES

    def __str__(self) -> str:
        return f"{self.method}@{'+'.join(self.blocks)}" if self.blocks else self.method


def parse_score(name: str) -> ScoreSpec:
    """Parse ``method[@block[+block]]``.

    Raises
    ------
    ValueError
        For an unknown method, an empty block, or blocks given to a score of the logits.
    """
    method, at, blocks = name.partition("@")
    if method in FEATURE_SCORES:
        names = tuple(blocks.split("+")) if at else (DEFAULT_BLOCK,)
        if not all(names):
            raise ValueError(f"score {name!r} names an empty feature block")
        return ScoreSpec(method, names)
    if method not in HEAD_SCORES:
        known = ", ".join([*HEAD_SCORES, *FEATURE_SCORES])
        raise ValueError(f"unknown score {name!r}; known: {known} (feature scores take @block)")
    if at:
        raise ValueError(f"score {method!r} reads logits, not feature blocks: drop '@{blocks}'")
    return ScoreSpec(method)


def score_bounds(name: str, n_classes: int) -> tuple[float, float]:
    """Theoretical (lowest, highest) value of a score; infinite where there is none."""
    highest = {
        "entropy": float(np.log(n_classes)),
        "disagreement": float(np.log(n_classes)),
        "msp": 1.0 - 1.0 / n_classes,
    }
    spec = parse_score(name)
    lowest = -np.inf if spec.method in ("maxlogit", "energy") else 0.0
    return lowest, highest.get(spec.method, np.inf)
