"""Scores by name: ``entropy``, ``mahalanobis@layer1``, ``knn@a+b``, ``max(a,b)`` of two scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_ood.scores import heads
from napari_ood.scores.detector import Bank, Detector
from napari_ood.scores.distance import (
    Mahalanobis,
    MultiLayer,
    RelativeMahalanobis,
    fit_invariant,
)
from napari_ood.scores.nearest import InvariantNeighbours, NearestNeighbours
from napari_ood.scores.subspace import Residual, ViM

HeadScore = Callable[..., NDArray[np.float32]]

HEAD_SCORES: dict[str, HeadScore] = {
    "entropy": heads.entropy,
    "msp": heads.msp,
    "disagreement": heads.disagreement,
    "dissent": heads.dissent,
    "maxlogit": heads.maxlogit,
    "energy": heads.energy,
}
"""Scores that need logits only: ``f(logits [N, M, C], temperature) -> [N] float32``."""


def _fit_invariant(bank: Bank) -> Mahalanobis:
    if bank.nuisance is None:
        raise ValueError("'invariant' needs features of changed tiles")
    return fit_invariant(bank.features, bank.labels, bank.nuisance)


FEATURE_SCORES: dict[str, Callable[[Bank], Detector]] = {
    "mahalanobis": lambda bank: Mahalanobis.fit(bank.features, bank.labels),
    "mahalanobis++": lambda bank: Mahalanobis.fit(bank.features, bank.labels, normalise=True),
    "relative": lambda bank: RelativeMahalanobis.fit(bank.features, bank.labels),
    "knn": lambda bank: NearestNeighbours.fit(bank.features),
    "vim": ViM.fit,
    "residual": Residual.fit,
    "multilayer": MultiLayer.fit,
    "invariant": _fit_invariant,
    "invariant_nn": lambda bank: InvariantNeighbours.fit(bank, k=1),
    "invariant_knn": InvariantNeighbours.fit,
}
"""Scores that need features and a reference: ``fit(bank)`` gives a detector."""

NEED_CHANGED_TILES = ("invariant", "invariant_nn", "invariant_knn")
MAX = "max"
MAX_NESTING = 8
DEFAULT_BLOCK = "penultimate"


@dataclass(frozen=True)
class ScoreSpec:
    """A parsed score name.

    Attributes
    ----------
    method : name of the method, ``max`` for the larger of two scores
    blocks : the feature blocks that a score of the features reads
    parts : the two scores of a ``max``
    """

    method: str
    blocks: tuple[str, ...] = ()
    parts: tuple[ScoreSpec, ...] = ()

    @property
    def needs_features(self) -> bool:
        """Whether the score reads features."""
        return self.method in FEATURE_SCORES or any(p.needs_features for p in self.parts)

    @property
    def needs_logits(self) -> bool:
        """Whether the score reads logits."""
        return self.method in (*HEAD_SCORES, "vim") or any(p.needs_logits for p in self.parts)

    @property
    def needs_reference(self) -> bool:
        """Whether the score compares with in-distribution tiles."""
        return self.method not in HEAD_SCORES

    @property
    def all_blocks(self) -> frozenset[str]:
        """The feature blocks that the score or a part of it reads."""
        return frozenset(self.blocks).union(*(part.all_blocks for part in self.parts))

    def __str__(self) -> str:
        if self.parts:
            return f"{self.method}({','.join(map(str, self.parts))})"
        return f"{self.method}@{'+'.join(self.blocks)}" if self.blocks else self.method


def parse_score(name: str) -> ScoreSpec:
    """Parse ``method[@block[+block]]`` or ``max(score,score)``, which may be nested.

    Raises
    ------
    ValueError
        For an unknown method, an empty block, blocks given to a score of the logits, or a ``max``
        that isn't of two scores.
    """
    return _parse(name, 0)


def _parse(name: str, depth: int) -> ScoreSpec:
    name = name.strip()
    if name.startswith(f"{MAX}(") and name.endswith(")"):
        if depth >= MAX_NESTING:
            raise ValueError(f"score is nested more than {MAX_NESTING} deep: {name[:60]!r} …")
        parts = split_at_commas(name[len(MAX) + 1 : -1])
        if len(parts) != 2:
            raise ValueError(f"score {name!r} must be max(a,b) of two scores")
        return ScoreSpec(MAX, parts=tuple(_parse(part, depth + 1) for part in parts))
    method, at, blocks = name.partition("@")
    if method in FEATURE_SCORES:
        names = tuple(blocks.split("+")) if at else (DEFAULT_BLOCK,)
        if not all(names) or set(blocks) & set("(),@ "):
            raise ValueError(f"score {name!r} names an empty or impossible feature block")
        return ScoreSpec(method, names)
    if method not in HEAD_SCORES:
        known = ", ".join([*HEAD_SCORES, *FEATURE_SCORES])
        raise ValueError(
            f"unknown score {name!r}; known: {known} (from 'mahalanobis' on they take @block), "
            "max(a,b)"
        )
    if at:
        raise ValueError(f"score {method!r} reads logits, not feature blocks: drop '@{blocks}'")
    return ScoreSpec(method)


def split_at_commas(text: str) -> list[str]:
    """Split at the commas outside of parentheses: ``max(a,b)`` is one score."""
    parts, depth = [""], 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def score_bounds(name: str, n_classes: int, n_heads: int) -> tuple[float, float]:
    """Theoretical (lowest, highest) value of a score; infinite where there is none."""
    highest = {
        "entropy": float(np.log(n_classes)),
        "disagreement": float(np.log(n_classes)),
        "msp": 1.0 - 1.0 / n_classes,
        "dissent": float(n_heads),
        "knn": 2.0,
    }
    signed = ("maxlogit", "energy", "relative", "vim", "multilayer", MAX)
    spec = parse_score(name)
    return -np.inf if spec.method in signed else 0.0, highest.get(spec.method, np.inf)
