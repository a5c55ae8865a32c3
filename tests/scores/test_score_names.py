"""Scores in plain words: every score has some, and none of them is a formula."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from napari_ood import load_bundle
from napari_ood.analysis.offered import offered_scores
from napari_ood.scores import FEATURE_SCORES
from napari_ood.scores.names import (
    layers_in_words,
    role_in_words,
    score_and_formula,
    score_in_words,
)

NEAREST = "distance to the nearest training tiles"
BLINDLY = f"{NEAREST}, blind to stain and focus"


@dataclass(frozen=True)
class Block:
    name: str


@dataclass(frozen=True)
class Card:
    blocks: tuple[Block, ...] = tuple(Block(n) for n in ("stem", "s1", "s2", "s3", "end"))
    scores: dict[str, str] = field(
        default_factory=lambda: {
            "uncertainty": "entropy",
            "ood": "max(mahalanobis@stem,invariant_knn@end)",
            "appearance": "mahalanobis@stem",
        }
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mahalanobis++@stem+s1", "distance to training tiles (early layers)"),
        ("knn@s1", "distance to the nearest training tiles (an early layer)"),
        ("knn@s2", "distance to the nearest training tiles (a middle layer)"),
        ("knn@end", "distance to the nearest training tiles (the last layer)"),
        ("knn@s3+stem", "distance to the nearest training tiles (early and middle layers)"),
        ("knn@stem+s2+end", f"{NEAREST} (early, middle and last layers)"),
        ("knn@stem+s1+s2+s3+end", f"{NEAREST} (all layers)"),
        ("knn@elsewhere+stem", f"{NEAREST} (layers elsewhere and stem)"),
        ("ood", f"the larger of appearance and {BLINDLY} (the last layer)"),
        ("uncertainty", "how unsettled the prediction is"),
        ("heatmap", "difference from known tissue, drawn by the bundle's decoder"),
        ("no score at all", "no score at all"),
    ],
)  # fmt: skip
def test_words_of_scores(name: str, words: str) -> None:
    assert score_in_words(name, Card()) == words


def test_without_a_card_layers_are_called_by_name_and_one_layer_needs_none() -> None:
    assert score_in_words("vim@a+b").endswith("(layers a and b)")
    assert score_in_words("knn").endswith("(layer penultimate)")
    one = Card(blocks=(Block("penultimate"),))
    assert score_in_words("knn", one) == "distance to the nearest training tiles"
    assert layers_in_words(("stem", "s1"), Card()) == "early layers"


def test_the_exact_name_follows_in_parentheses() -> None:
    card = Card()
    assert score_and_formula("entropy", card) == "how unsettled the prediction is (entropy)"
    assert score_and_formula("appearance", card).endswith("(an early layer; mahalanobis@stem)")
    assert score_and_formula("nothing", card) == "nothing"
    assert role_in_words("ood") == "OOD score" and role_in_words("entropy") == "entropy"


@pytest.mark.parametrize("bundle", ["synthetic-he", "lymph-node-he", "dermoscopy"])
def test_no_formula_is_left_in_the_words_of_any_score_that_is_offered(bundle: str) -> None:
    loaded = load_bundle(bundle)
    names = offered_scores(loaded.card, loaded.reference)
    assert len(names) > 20
    for name in (*loaded.card.scores, *names):
        words = score_in_words(name, loaded.card)
        assert words and words != name
        assert not set("@+_,") & set(words.replace(", ", " ")), (name, words)
        assert not {*FEATURE_SCORES} & set(words.split())
