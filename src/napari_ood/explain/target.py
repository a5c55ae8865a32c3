"""What is explained: a class, one head's class, the uncertainty, or a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from napari_ood.errors import ExplainError
from napari_ood.models.card import Card
from napari_ood.scores import ScoreSpec, parse_score
from napari_ood.scores.names import role_in_words, score_in_words

Kind = Literal["class", "head", "uncertainty", "score"]
KINDS: tuple[Kind, ...] = ("class", "head", "uncertainty", "score")

UNITS: dict[str, str] = {
    "class": "logits",
    "head": "logits",
    "uncertainty": "nats",
    "score": "units of the score",
}
"""Of the number that is explained, per kind of target."""


@dataclass(frozen=True)
class Target:
    """A number that the model computes for a tile; made by the ``of_…`` functions.

    Attributes
    ----------
    kind : ``class`` (mean over heads of the logit before the softmax), ``head`` (one head's logit),
        ``uncertainty`` (entropy of the mean p̄ at the bundle's temperature), ``score``
    class_index : of ``class`` and ``head``
    head : of ``head``, from 0
    score : of ``score``: a score's name or its role on the card
    """

    kind: Kind
    class_index: int | None = None
    head: int | None = None
    score: str | None = None

    @classmethod
    def of_class(cls, class_index: int) -> Target:
        """Logit of a class, mean over heads."""
        return cls("class", class_index=int(class_index))

    @classmethod
    def of_head(cls, head: int, class_index: int) -> Target:
        """Logit of a class by one head; both count from 0."""
        return cls("head", class_index=int(class_index), head=int(head))

    @classmethod
    def uncertainty(cls) -> Target:
        """Entropy of the mean over heads of the softmax, in nats."""
        return cls("uncertainty")

    @classmethod
    def of_score(cls, name: str = "ood") -> Target:
        """Any score by its name (``mahalanobis@layer1``) or its role on the card (``ood``)."""
        return cls("score", score=name)

    @property
    def unit(self) -> str:
        """Unit of the number that is explained."""
        return UNITS[self.kind]

    def words(self, card: Card) -> str:
        """Name it for people: "tumour", "head 3: tumour" (heads count from 1), "OOD score"."""
        if self.kind == "uncertainty":
            return "uncertainty"
        if self.kind == "score":
            name = role_in_words(str(self.score))
            return name if name != self.score else score_in_words(name, card)
        self.check(card)
        assert self.class_index is not None
        label = card.classes[self.class_index]
        return label if self.head is None else f"head {self.head + 1}: {label}"

    def score_spec(self, card: Card) -> ScoreSpec:
        """Return the score that a ``score`` target means; ExplainError when there is none."""
        name = str(self.score)
        try:
            spec = parse_score(card.scores.get(name, name))
        except ValueError as error:
            raise ExplainError(str(error)) from None
        for block in spec.all_blocks:
            card.block(block)  # BundleError names those that there are
        return spec

    def check(self, card: Card) -> None:
        """Raise ExplainError when the bundle has no such class, head or score."""
        if self.kind == "score":
            self.score_spec(card)
        if self.class_index is not None and not 0 <= self.class_index < card.n_classes:
            raise ExplainError(
                f"no class {self.class_index}: bundle {card.name!r} has {card.n_classes} classes, "
                "counted from 0"
            )
        if self.head is not None and not 0 <= self.head < card.n_heads:
            raise ExplainError(
                f"no head {self.head}: bundle {card.name!r} has {card.n_heads} heads, "
                "counted from 0"
            )
