"""Which scores a run can be shown with, given the reference of its bundle or none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from napari_ood.scores import (
    FEATURE_SCORES,
    HEAD_SCORES,
    NEED_CHANGED_TILES,
    ScoreSpec,
    parse_score,
)

if TYPE_CHECKING:
    from napari_ood.models import Card, Reference

ROLES = ("uncertainty", "ood", "appearance", "tissue")
"""What the bundle's card may name a score for, in the order of the overlays."""

SEVERAL_BLOCKS = "multilayer"
"""The method that is made of several feature blocks: of one it is Mahalanobis."""


def depends_on_temperature(spec: ScoreSpec) -> bool:
    """Whether a softmax or a logsumexp of scaled logits is part of the score."""
    return spec.method in HEAD_SCORES or any(map(depends_on_temperature, spec.parts))


def can_compute(spec: ScoreSpec, reference: Reference | None) -> bool:
    """Whether the score can be computed with this reference, or without one."""
    if not spec.needs_reference:
        return True
    if reference is None or not spec.all_blocks <= {block.name for block in reference.blocks}:
        return False
    return reference.nuisance_features is not None or not _needs_nuisance(spec)


def roles_of(card: Card, reference: Reference | None, features: bool = True) -> dict[str, str]:
    """Score of each role that can be computed: role → canonical score name.

    ``features`` says whether the run stored any.
    """
    specs = {role: parse_score(card.scores[role]) for role in ROLES if role in card.scores}
    return {
        role: str(spec)
        for role, spec in specs.items()
        if can_compute(spec, reference) and (features or not spec.needs_features)
    }


def offered_scores(
    card: Card, reference: Reference | None, features: bool = True
) -> tuple[str, ...]:
    """Every score that can be offered: the roles' first, then of the logits, then per block."""
    names = [*roles_of(card, reference, features).values(), *HEAD_SCORES]
    if reference is not None and features:
        names += [str(s) for s in _feature_scores(reference) if can_compute(s, reference)]
    return tuple(dict.fromkeys(names))


def _feature_scores(reference: Reference) -> Iterator[ScoreSpec]:
    blocks = tuple(block.name for block in reference.blocks)
    for method in FEATURE_SCORES:
        if method != SEVERAL_BLOCKS:
            yield from (ScoreSpec(method, (block,)) for block in blocks)
        elif len(blocks) > 1:
            yield ScoreSpec(method, blocks)


def _needs_nuisance(spec: ScoreSpec) -> bool:
    return spec.method in NEED_CHANGED_TILES or any(map(_needs_nuisance, spec.parts))
