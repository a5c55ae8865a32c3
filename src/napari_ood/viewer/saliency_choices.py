"""What can be asked of a saliency map: methods, targets, layers, in words. No Qt, no napari."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from napari_ood.explain.target import Target

if TYPE_CHECKING:
    from napari_ood.explain.methods import Method
    from napari_ood.models import Card

CAMS = ("grad_cam", "grad_cam_pp", "layer_cam", "guided_grad_cam")
"""Methods that read one layer's maps."""
FOR_ONLY = (*CAMS, "perturbation")
"""Methods without a sign that leave out what speaks against the target."""
PREDICTED = "predicted class"
ROLES = ("ood", "appearance", "tissue")


def target_choices(card: Card, method: Method) -> tuple[tuple[str, Target | None], ...]:
    """Targets that a method can explain, in words, the likeliest first; None is the prediction."""
    heads = range(card.n_heads) if card.n_heads > 1 else ()
    every: list[tuple[str, Target | None]] = [
        (PREDICTED, None),
        *((Target.of_class(c).words(card), Target.of_class(c)) for c in range(len(card.classes))),
        ("uncertainty", Target.uncertainty()),
        *(
            (Target.of_score(role).words(card), Target.of_score(role))
            for role in ROLES
            if role in card.scores
        ),
        *(
            (Target.of_head(m, c).words(card), Target.of_head(m, c))
            for m in heads
            for c in range(len(card.classes))
        ),
    ]
    return tuple((words, t) for words, t in every if kind_of(t) in method.targets)


def kind_of(target: Target | None) -> str:
    """Kind of a target; the predicted class is a class."""
    return "class" if target is None else target.kind


def method_groups(methods: Iterable[Method]) -> tuple[tuple[str, tuple[Method, ...]], ...]:
    """Methods, those that answer at once before those that take their time."""
    listed = tuple(methods)
    return (
        ("At once", tuple(m for m in listed if not m.slow)),
        ("Slow", tuple(m for m in listed if m.slow)),
    )
