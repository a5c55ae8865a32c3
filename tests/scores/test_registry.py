"""Score names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ood.scores import FEATURE_SCORES, HEAD_SCORES, ScoreSpec, parse_score, score_bounds

BLOCK_NAMES = st.text("abcXYZ019._-", min_size=1, max_size=6)
LEAVES = st.one_of(
    st.builds(ScoreSpec, st.sampled_from(sorted(HEAD_SCORES))),
    st.builds(
        ScoreSpec,
        st.sampled_from(sorted(FEATURE_SCORES)),
        st.lists(BLOCK_NAMES, min_size=1, max_size=3).map(tuple),
    ),
)
SPECS = st.recursive(
    LEAVES, lambda s: st.builds(ScoreSpec, st.just("max"), parts=st.tuples(s, s)), max_leaves=5
)


@pytest.mark.parametrize(
    ("name", "method", "blocks"),
    [
        ("entropy", "entropy", ()),
        ("mahalanobis", "mahalanobis", ("penultimate",)),
        ("mahalanobis@layer1", "mahalanobis", ("layer1",)),
        ("mahalanobis++@a+b", "mahalanobis++", ("a", "b")),
        ("invariant@blocks.3+blocks.5", "invariant", ("blocks.3", "blocks.5")),
    ],
)
def test_names_parse_and_print(name: str, method: str, blocks: tuple[str, ...]) -> None:
    spec = parse_score(name)
    assert (spec.method, spec.blocks) == (method, blocks)
    assert spec.needs_features == bool(blocks)
    assert parse_score(str(spec)) == spec


@given(SPECS)
def test_printing_and_parsing_are_inverse(spec: ScoreSpec) -> None:
    assert parse_score(str(spec)) == spec
    spaced = str(spec).replace(",", " , ").replace("max(", "max( ")
    assert str(parse_score(spaced)) == str(spec)


def test_a_max_needs_what_its_parts_need() -> None:
    spec = parse_score("max(entropy,max(knn@a,mahalanobis@a+b))")
    assert (spec.needs_features, spec.needs_logits, spec.needs_reference) == (True, True, True)
    assert spec.all_blocks == {"a", "b"}
    spec = parse_score("max(entropy,msp)")
    assert (spec.needs_features, spec.needs_logits, spec.needs_reference) == (False, True, True)
    spec = parse_score("vim")
    assert (spec.needs_features, spec.needs_logits) == (True, True)
    assert not parse_score("knn").needs_logits
    assert not parse_score("energy").needs_reference


@pytest.mark.parametrize(
    "name",
    [
        *("", "softmax", "entropy@layer1", "mahalanobis@", "mahalanobis@a+", "max", "max@a"),
        *("max()", "max(entropy)", "max(entropy,msp,energy)", "max(entropy,)", "max(,msp)"),
        *("max(entropy,msp", "maxentropy,msp)", "max(entropy,msp))", "max((entropy,msp)"),
        *("min(entropy,msp)", "knn@max(a,b)", "max(knn@a,knn@b)@c", "max(" * 5000 + ")" * 5000),
    ],
)
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="score"):
        parse_score(name)


def test_bounds() -> None:
    assert score_bounds("entropy", 2, 3) == (0, pytest.approx(np.log(2)))
    assert score_bounds("msp", 4, 3) == (0, 0.75)
    assert score_bounds("mahalanobis@x", 2, 3) == (0, np.inf)
    assert score_bounds("knn@x", 2, 3) == (0, 2)
    assert score_bounds("dissent", 2, 3) == (0, 3)
    for name in ("energy", "relative", "vim", "multilayer@a+b", "max(entropy,msp)"):
        assert score_bounds(name, 2, 3) == (-np.inf, np.inf)
