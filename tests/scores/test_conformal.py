"""Conformal sets hold the true class as often as promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_ood.errors import ThresholdError
from napari_ood.scores.conformal import METHODS, Method, conformal_minimum, fit_conformal


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_each_left_out_in_turn_is_covered_as_promised(method: Method, data: st.DataObject) -> None:
    # Exchangeability in full: each of n + 1 tiles is the new one once. No sample, no tolerance.
    n, n_classes = data.draw(st.integers(3, 25)), data.draw(st.integers(2, 4))
    elements = st.one_of(st.floats(-6, 6), st.just(0.0))
    p = softmax(data.draw(arrays(np.float64, (n + 1, n_classes), elements=elements)))
    y = data.draw(arrays(np.int64, n + 1, elements=st.integers(0, n_classes - 1)))
    error = data.draw(st.floats(1 / (n + 1), 0.9))
    hits = [
        fit_conformal(np.delete(p, i, 0), np.delete(y, i), error, method).sets(p[[i]])[0, y[i]]
        for i in range(n + 1)
    ]
    assert np.mean(hits) >= 1 - error - 1e-9


@pytest.mark.parametrize(("method", "error"), [("lac", 0.1), ("lac", 0.3), ("aps", 0.1)])
def test_coverage_on_new_tiles(method: Method, error: float) -> None:
    rng = np.random.default_rng(0)
    covered, n = [], 100
    for _ in range(200):
        z = rng.normal(size=(n + 500, 3)) * 1.5
        y = (z + rng.gumbel(size=z.shape) * 2).argmax(axis=1)  # overconfident by a factor of 2
        p = softmax(z)
        rule = fit_conformal(p[:n], y[:n], error, method)
        covered.append(rule.sets(p[n:])[np.arange(500), y[n:]].mean())
    spread = 3 * np.std(covered) / np.sqrt(len(covered))
    assert np.mean(covered) >= 1 - error - spread
    if method == "lac":  # without ties, no more than 1 / (n + 1) too many
        assert np.mean(covered) <= 1 - error + 1 / (n + 1) + spread


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_classes_changes_nothing(method: Method) -> None:
    rng = np.random.default_rng(1)
    p = softmax(np.round(rng.normal(size=(200, 4)) * 2))  # with ties
    y = rng.integers(0, 4, 200)
    turn = np.array([2, 0, 3, 1])
    plain = fit_conformal(p, y, 0.2, method).sets(p)
    turned = fit_conformal(p[:, turn], np.argsort(turn)[y], 0.2, method).sets(p[:, turn])
    np.testing.assert_array_equal(plain[:, turn], turned)


@pytest.mark.parametrize("method", METHODS)
def test_fewer_errors_never_make_smaller_sets(method: Method) -> None:
    rng = np.random.default_rng(2)
    p = softmax(rng.normal(size=(300, 3)))
    y = np.array([rng.choice(3, p=row) for row in p])
    sizes = [fit_conformal(p, y, e, method).sets(p).sum() for e in (0.5, 0.3, 0.1, 0.02)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_sets_say_when_no_class_fits_and_adaptive_ones_always_name_one() -> None:
    p = np.array([[0.99, 0.01], [0.01, 0.99]] * 50)
    y = np.array([0, 1] * 50)
    odd = np.array([[0.5, 0.5], [np.nan, np.nan]])
    assert fit_conformal(p, y, 0.1, "lac").sets(odd).tolist() == [[False] * 2] * 2
    assert fit_conformal(p, y, 0.1, "aps").sets(odd).tolist() == [[True] * 2, [False] * 2]
    assert fit_conformal(p, y, 0.1).sets(np.empty((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("error", [0.5, 0.1, 0.05, 0.01, 0.003])
def test_the_number_of_tiles_that_an_error_rate_needs(error: float) -> None:
    n = conformal_minimum(error)
    p, y = np.full((n, 2), 0.5), np.zeros(n, int)
    assert fit_conformal(p, y, error).n == n
    with pytest.raises(ThresholdError, match=f"at least {n} held-out tiles.*has {n - 1}: allow"):
        fit_conformal(p[1:], y[1:], error)


def test_bad_arguments() -> None:
    p, y = np.full((40, 2), 0.5), np.zeros(40, int)
    for error in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(ThresholdError, match="above 0 and below 1"):
            fit_conformal(p, y, error)
    with pytest.raises(ValueError, match="labels must be"):
        fit_conformal(p, y + 2, 0.1)
    with pytest.raises(ValueError, match="need probabilities"):
        fit_conformal(p, y[1:], 0.1)
    with pytest.raises(ValueError, match="unknown method"):
        fit_conformal(p, y, 0.1, "raps")  # type: ignore[arg-type]
    p[:5] = np.nan
    assert fit_conformal(p, y, 0.1).n == 35
