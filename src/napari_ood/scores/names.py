"""Scores in plain words: what a reader who does not know the formulas is told.

The exact name (``mahalanobis++@stem+stage1``) is what files, tables of numbers and commands use;
where people read, it stands beside these words, in parentheses or in a tooltip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from napari_ood.scores.registry import MAX, ScoreSpec, parse_score

BLIND = ", blind to stain and focus"
_WORDS: dict[str, str] = {
    "entropy": "how unsettled the prediction is",
    "msp": "how improbable the predicted class is",
    "disagreement": "disagreement between heads",
    "dissent": "number of dissenting heads",
    "maxlogit": "weak evidence for the predicted class",
    "energy": "weak evidence for any class",
    "mahalanobis": "distance to training tiles",
    "mahalanobis++": "distance to training tiles",
    "relative": "distance to training classes, against all tiles",
    "knn": "distance to the nearest training tiles",
    "vim": "features unlike training, and weak evidence",
    "residual": "features unlike training",
    "multilayer": "distance to training tiles, layer by layer",
    "invariant": f"distance to training tiles{BLIND}",
    "invariant_nn": f"distance to the nearest training tile{BLIND}",
    "invariant_knn": f"distance to the nearest training tiles{BLIND}",
}
_OF_PIXELS = {
    "heatmap": "difference from known tissue, drawn by the bundle's decoder",
    "locations": "distance of places in the tile to known places",
}
_ROLES = {
    "uncertainty": "uncertainty",
    "ood": "OOD score",
    "appearance": "appearance score",
    "tissue": "tissue score",
}
_EARLY, _MIDDLE, _LAST = "early", "middle", "last"
_ONE = {_EARLY: "an early layer", _MIDDLE: "a middle layer", _LAST: "the last layer"}


class Block(Protocol):
    """A feature block, by name."""

    @property
    def name(self) -> str:
        """Its name."""


class Scored(Protocol):
    """What of a bundle's card says what its scores mean."""

    @property
    def blocks(self) -> Sequence[Block]:
        """Feature blocks from the input on, as training writes them."""

    @property
    def scores(self) -> Mapping[str, str]:
        """Score name per role."""


def role_in_words(role: str) -> str:
    """``ood`` → "OOD score"; what is no role, as it is."""
    return _ROLES.get(role, role)


def score_in_words(name: str, card: Scored | None = None) -> str:
    """Say what a score measures: "distance to training tiles (early layers)".

    Parameters
    ----------
    name : of a score, or its role on the card; what is neither comes back as it is
    card : of the bundle: which layers are early, and which roles a fused score joins; None: layers
        are called by name
    """
    scores = {} if card is None else card.scores
    exact = scores.get(name, name)
    if exact in _OF_PIXELS:
        return _OF_PIXELS[exact]
    try:
        spec = parse_score(exact)
    except ValueError:
        return name
    roles = {str(_parsed(score)): role for role, score in scores.items()}
    blocks = () if card is None else [block.name for block in card.blocks]
    return _words(spec, blocks, roles)


def score_and_formula(name: str, card: Scored | None = None) -> str:
    """Say what a score measures, its exact name in parentheses: "… (early layers; knn@layer1)"."""
    exact = name if card is None else card.scores.get(name, name)
    words = score_in_words(name, card)
    if words == exact:
        return words
    return f"{words[:-1]}; {exact})" if words.endswith(")") else f"{words} ({exact})"


def layers_in_words(blocks: Sequence[str], card: Scored) -> str:
    """Say whose features some blocks are: "early layers"; "" where the bundle has one block."""
    return _layers(blocks, [block.name for block in card.blocks])


def _parsed(score: str) -> ScoreSpec | str:
    try:
        return parse_score(score)
    except ValueError:
        return score


def _words(spec: ScoreSpec, blocks: Sequence[str], roles: Mapping[str, str]) -> str:
    if spec.method == MAX:
        # Parts that have a role of their own are better known by it.
        parts = [roles.get(str(part)) or _words(part, blocks, roles) for part in spec.parts]
        return f"the larger of {' and '.join(parts)}"
    where = _layers(spec.blocks, blocks)
    return f"{_WORDS[spec.method]} ({where})" if where else _WORDS[spec.method]


def _layers(named: Sequence[str], known: Sequence[str]) -> str:
    """Whose features are read: "early layers", "all layers"; "" where there is no choice."""
    if not named or (len(known) == 1 and known[0] in named):
        return ""
    if not set(named) <= set(known) or len(known) < 2:
        return f"layer{'s' if len(named) > 1 else ''} {_listed(named)}"
    if set(named) == set(known):
        return "all layers"
    last = len(known) - 1
    depths = [_depth(known.index(name) / last) for name in named]
    found = [depth for depth in (_EARLY, _MIDDLE, _LAST) if depth in depths]
    return f"{_listed(found)} layers" if len(named) > 1 else _ONE[found[0]]


def _depth(place: float) -> str:
    """Of a layer at 0, the input, to 1, what the heads read."""
    if place == 1:
        return _LAST
    return _EARLY if place <= 1 / 3 else _MIDDLE


def _listed(names: Iterable[str]) -> str:
    *rest, end = names
    return f"{', '.join(rest)} and {end}" if rest else end
