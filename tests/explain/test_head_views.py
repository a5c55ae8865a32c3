"""One tile's heads, against the scores of whole runs and against direct formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from napari_ood.explain.heads import look_at_heads
from napari_ood.scores import dissent

LOGITS = arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(2, 4)),
    elements=st.floats(-50, 50, width=32),
)


@given(LOGITS, st.floats(0.25, 4))
def test_parts_agree_with_each_other_and_with_direct_formulas(
    logits: np.ndarray, temperature: float
) -> None:
    look = look_at_heads(logits, temperature)
    p = softmax(logits.astype(np.float64) / temperature, axis=-1)
    np.testing.assert_allclose(look.probabilities, p, atol=1e-6)
    np.testing.assert_allclose(look.mean, p.mean(axis=0), atol=1e-6)
    assert look.entropy == pytest.approx(scipy_entropy(p.mean(axis=0)), abs=1e-5)
    each = scipy_entropy(p, axis=-1).mean()
    assert look.mutual_information == pytest.approx(look.entropy - each, abs=1e-5)
    assert look.prediction == look.mean.argmax()
    assert len(look.dissenters) == dissent(logits[None], temperature)[0]
    for head in set(range(look.n_heads)) - set(look.dissenters):
        assert logits[head, look.prediction] == logits[head].max()


def test_what_heads_share_is_not_what_they_disagree_about() -> None:
    unsure = look_at_heads(np.zeros((4, 2)))
    split = look_at_heads([[30.0, -30.0], [-30.0, 30.0], [30.0, -30.0]])
    assert unsure.entropy == pytest.approx(np.log(2)) and unsure.mutual_information < 1e-6
    assert split.entropy == pytest.approx(split.mutual_information, abs=1e-6)
    assert split.prediction == 0 and split.dissenters == (1,)


@pytest.mark.parametrize(
    ("logits", "temperature", "says"),
    [
        (np.zeros(3), 1.0, "M, C"),
        (np.zeros((2, 3, 2)), 1.0, "M, C"),
        (np.array([[0.0, np.nan]]), 1.0, "not finite"),
        (np.zeros((2, 2)), 0.0, "temperature"),
    ],
)
def test_what_is_no_tile_is_refused(logits: np.ndarray, temperature: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        look_at_heads(logits, temperature)
