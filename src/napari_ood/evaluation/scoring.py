"""Which scores to evaluate, and their values on tiles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import BundleError, OodError
from napari_ood.evaluation.outputs import Outputs
from napari_ood.evaluation.pixel_scores import PIXEL_SCORES, offered
from napari_ood.models import Card
from napari_ood.scores import FEATURE_SCORES, HEAD_SCORES, ScoreSpec, parse_score
from napari_ood.scores.registry import split_at_commas

if TYPE_CHECKING:
    from napari_ood.models import Bundle

Floats = NDArray[np.float32]
ALL, DEFAULT = "all", "default"
FLAG_QUANTILE = 0.95


def split_names(text: str) -> list[str]:
    """Score names that commas separate, ``max(a,b)`` being one; blank ones don't count."""
    return [name.strip() for name in split_at_commas(text) if name.strip()]


def score_names(card: Card, requested: str | Sequence[str]) -> list[str]:
    """Names of the scores to evaluate, the card's own first.

    Parameters
    ----------
    card : of the bundle
    requested : ``all``, ``default`` (the card's and those of the logits), or names, where
        ``ood`` and the like stand for the card's

    Raises
    ------
    OodError
        For a name that is no score.
    """
    own = [str(parse_score(name)) for name in card.scores.values()]
    if requested == DEFAULT:
        return list(dict.fromkeys([*own, *HEAD_SCORES]))
    if requested == ALL:
        return list(dict.fromkeys([*own, *HEAD_SCORES, *_feature_scores(card), *offered(card)]))
    asked = split_names(requested) if isinstance(requested, str) else list(requested)
    try:
        names = [_canonical(card.scores.get(name, name)) for name in asked]
    except ValueError as error:
        raise OodError(f"{error}; and {', '.join(PIXEL_SCORES)}") from None
    if not names:
        raise OodError("name at least one score, or 'all'")
    return list(dict.fromkeys([*own, *names]))


def _canonical(name: str) -> str:
    return name if name in PIXEL_SCORES else str(parse_score(name))


def _feature_scores(card: Card) -> Iterable[str]:
    """Every method on single blocks, early blocks together, all blocks, and the card's choice."""
    blocks = [block.name for block in card.blocks]
    early = [name for name in blocks if name != "penultimate"]
    together = [early[:n] for n in range(2, len(early) + 1)] + [blocks]
    chosen = [part.blocks for name in card.scores.values() for part in _leaves(name) if part.blocks]
    groups = ["+".join(group) for group in [*([b] for b in blocks), *together, *chosen]]
    return [
        f"{method}@{group}"
        for method in FEATURE_SCORES
        for group in dict.fromkeys(groups)
        if method != "multilayer" or "+" in group  # of one layer it is Mahalanobis
    ]


def _leaves(name: str) -> list[ScoreSpec]:
    specs, leaves = [parse_score(name)], []
    while specs:
        spec = specs.pop()
        specs += spec.parts
        leaves += [] if spec.parts else [spec]
    return leaves


class Scorer:
    """Scores of a bundle, from its network's outputs.

    ``limits`` are the bundle's thresholds of scores of pixels; ``without`` says why it can't give
    others.
    """

    def __init__(
        self,
        bundle: Bundle,
        limits: Mapping[str, float] | None = None,
        without: Mapping[str, str] | None = None,
    ) -> None:
        self._card = bundle.card
        self._reference = bundle.reference
        self._limits, self._without = dict(limits or {}), dict(without or {})

    def missing(self, name: str) -> str:
        """Why the bundle can't give this score; "" if it can."""
        if name in PIXEL_SCORES:
            return self._without.get(name, "")
        if parse_score(name).needs_reference and self._reference is None:
            return "the bundle has no reference"
        if self._reference is None:
            return ""
        try:
            # Its own held-out tiles: fits what has to be fitted, and is kept for the threshold.
            values = self._reference.validation_scores(name)
        except (BundleError, ValueError) as error:
            return str(error).replace(f"score '{name}'", "the score")
        return "" if np.isfinite(values).all() else "not finite on the bundle's own held-out tiles"

    def scores(self, names: Sequence[str], outputs: Outputs) -> dict[str, Floats]:
        """Scores of each tile by name; [N] float32. What several of them share is computed once."""
        of_tiles = [name for name in names if name not in PIXEL_SCORES]
        if self._reference is None:
            logits, temperature = outputs.logits, self._card.temperature
            found = {name: HEAD_SCORES[name](logits, temperature) for name in of_tiles}
        else:
            scores = self._reference.scores(of_tiles, outputs.logits, outputs.features)
            found = dict(zip(of_tiles, scores, strict=True))
        return {name: found[name] if name in found else outputs.of_pixels[name] for name in names}

    def flagged(self, name: str, values: Floats) -> float | None:
        """Share of tiles above the bundle's threshold, 5 % of its held-out tiles; None: no such."""
        limit = self._limits.get(name)
        if limit is None and name not in PIXEL_SCORES and self._reference is not None:
            limit = self._reference.quantile(name, FLAG_QUANTILE)
        return None if limit is None else float((values > np.float32(limit)).mean())
