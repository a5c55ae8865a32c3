"""Score names."""

from __future__ import annotations

import numpy as np
import pytest

from napari_ood.scores import parse_score, score_bounds


@pytest.mark.parametrize(
    ("name", "method", "blocks"),
    [
        ("entropy", "entropy", ()),
        ("mahalanobis", "mahalanobis", ("penultimate",)),
        ("mahalanobis@layer1", "mahalanobis", ("layer1",)),
        ("mahalanobis++@a+b", "mahalanobis++", ("a", "b")),
    ],
)
def test_names_parse_and_print(name: str, method: str, blocks: tuple[str, ...]) -> None:
    spec = parse_score(name)
    assert (spec.method, spec.blocks) == (method, blocks)
    assert spec.needs_features == bool(blocks)
    assert parse_score(str(spec)) == spec


@pytest.mark.parametrize(
    "name", ["", "softmax", "entropy@layer1", "mahalanobis@", "mahalanobis@a+"]
)
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="score"):
        parse_score(name)


def test_bounds() -> None:
    assert score_bounds("entropy", 2) == (0, pytest.approx(np.log(2)))
    assert score_bounds("msp", 4) == (0, 0.75)
    assert score_bounds("mahalanobis@x", 2) == (0, np.inf)
    assert score_bounds("energy", 2) == (-np.inf, np.inf)
