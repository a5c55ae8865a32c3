"""Randomised weights, and deletion and insertion curves."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hand_made import SIDE, around, engine_of, explainer_of, noise_tiles, planted_tile, texture_net
from torch import nn

from napari_ood import Bundle
from napari_ood.errors import ExplainCancelled, ExplainError
from napari_ood.explain import METHODS, Explainer, Target, perturbation_curves, randomisation_check
from napari_ood.explain.sanity import (
    LITTLE_GAIN,
    Curves,
    Sanity,
    Trust,
    rank_correlation,
    rank_from_top,
)


def test_a_map_that_finds_the_evidence_has_a_low_and_a_high_curve() -> None:
    tile, where = planted_tile()
    explainer, target = explainer_of(texture_net()), Target.of_class(1)
    truth = np.zeros((SIDE, SIDE), np.float32)
    truth[where] = 1
    good = perturbation_curves(explainer, tile, truth, target, n_steps=16)
    bad = perturbation_curves(explainer, tile, -truth, target, n_steps=16)
    whole, blurred = explainer.values(
        np.stack([tile, explainer.without_content(tile[None])[0]]), target, share=True
    )
    for curves in (good, bad):
        assert curves.fractions[[0, -1]].tolist() == [0, 1]
        np.testing.assert_allclose(curves.deletion[[0, -1]], [whole, blurred], rtol=1e-4)
        np.testing.assert_allclose(curves.insertion[[0, -1]], [blurred, whole], rtol=1e-4)
        assert curves.unit == "probability"
    assert whole > 0.8 > 0.2 > blurred
    # The patch is 1/16 of the pixels: after the first step all evidence is gone, or there.
    np.testing.assert_allclose(good.deletion[1:], blurred, atol=0.1)
    assert good.deletion_auc < 0.3 < bad.deletion_auc
    assert good.insertion_auc > 0.7 > bad.insertion_auc
    middle = (good.deletion[1:] + good.deletion[:-1]).sum() / 2 / 16
    assert good.deletion_auc == pytest.approx(middle, rel=1e-4)


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "grad_cam", "occlusion"])
def test_methods_beat_a_random_order(method) -> None:
    tile, _ = planted_tile()
    explainer, target = explainer_of(texture_net()), Target.of_class(1)
    saliency = explainer.explain(tile[None], method, target)
    found = perturbation_curves(explainer, tile, saliency, target)
    noise = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    random = perturbation_curves(explainer, tile, noise, target)
    assert found.insertion_auc > random.insertion_auc + 0.1
    assert found.deletion_auc < random.deletion_auc


def test_curves_tell_how_far_they_are_and_stop_between_batches() -> None:
    tile, _ = planted_tile()
    explainer, target = explainer_of(texture_net()), Target.of_class(1)
    values = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    shares: list[float] = []
    perturbation_curves(explainer, tile, values, target, 63, on_progress=shares.append)
    assert len(shares) > 3 and shares == sorted(shares) and shares[-1] == 1
    passes: list[float] = []
    with pytest.raises(ExplainCancelled):
        perturbation_curves(
            explainer, tile, values, target, 63,
            on_progress=passes.append, cancel=lambda: len(passes) == 2,
        )  # fmt: skip
    assert len(passes) == 2 < len(shares) - 1


def test_equal_pixels_have_no_order() -> None:
    values = np.zeros((20, 20), np.float32)
    values[3, 4] = 1
    ranks = rank_from_top(values)
    assert ranks[3, 4] == 0 and sorted(ranks.ravel()) == list(range(400))
    rows = np.broadcast_to(np.arange(20)[:, None], (20, 20))
    assert abs(rank_correlation(ranks, rows)) < 0.15


def test_rank_correlation() -> None:
    a = np.random.default_rng(0).random((8, 8))
    assert rank_correlation(a, np.exp(3 * a)) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert np.isnan(rank_correlation(a, np.ones((8, 8))))
    assert np.isnan(rank_correlation(a, np.where(a > 0.5, np.nan, a)))


def test_randomising_copies_the_network_and_keeps_the_distribution(tiny_bundle) -> None:
    explainer = Explainer(tiny_bundle, "cpu")
    before = {k: v.clone() for k, v in engine_of(explainer).net.state_dict().items()}
    random = engine_of(explainer.randomised(3)).net
    again = engine_of(explainer.randomised(3)).net.state_dict()
    for name, weight in engine_of(explainer).net.state_dict().items():
        assert torch.equal(weight, before[name])
    changed = 0
    for name, parameter in random.named_parameters():
        assert torch.equal(parameter.flatten().sort()[0], before[name].flatten().sort()[0])
        assert torch.equal(parameter, again[name]) and not parameter.requires_grad
        changed += not torch.equal(parameter, before[name])
    assert changed > 10 and not random.training
    # Its features come from itself, not by hooks of the network that it was copied from.
    x = torch.randn(1, 3, 32, 32)
    assert not torch.equal(random(x)[1], engine_of(explainer).net(x)[1])


def test_a_check_shows_both_maps_and_their_correlation(tiny_bundle) -> None:
    explainer, tiles, shares = Explainer(tiny_bundle, "cpu"), noise_tiles(3), []
    target = Target.of_class(0)
    sanity = randomisation_check(explainer, tiles, "gradient", target, on_progress=shares.append)
    assert shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares)
    plain = explainer.explain(tiles, "gradient", target).values
    np.testing.assert_array_equal(sanity.original.values, plain)
    pairs = zip(plain, sanity.randomised.values, strict=True)
    expected = [rank_correlation(a, b) for a, b in pairs]
    np.testing.assert_allclose(sanity.correlations, expected, rtol=1e-5)
    assert sanity.correlation == pytest.approx(np.mean(expected), abs=1e-6)
    assert f"{sanity.correlation:.2f}" in sanity.words


def wide_network() -> nn.Module:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise((3, 128, 128, 128)):
        layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        nn.init.kaiming_normal_(layers[-3].weight)
    return nn.Sequential(*layers, nn.Flatten())


def test_guided_backprop_is_flagged() -> None:
    """In a wide network it draws the picture's edges whatever the weights; the gradient does not.

    Untrained networks are enough: two sets of random weights have no reasons in common.
    """
    torch.manual_seed(0)
    net = around(wide_network(), 128 * (SIDE // 8) ** 2, n_heads=1)
    explainer, target = explainer_of(net), Target.of_class(0)
    tile = np.full((1, SIDE, SIDE, 3), 220, np.uint8)
    yy, xx = np.indices((SIDE, SIDE))
    tile[0, (yy - 15) ** 2 + (xx - 18) ** 2 < 75] = (120, 40, 130)
    checks = [
        [randomisation_check(explainer, tile, m, target, seed=s) for s in range(3)]
        for m in ("guided_backprop", "gradient")
    ]
    guided, plain = (np.mean([check.correlation for check in of]) for of in checks)
    assert guided > 0.5 > plain
    assert "hardly depends" in checks[0][0].words and "depends on what" in checks[1][0].words
    assert "not faithful" in METHODS["guided_backprop"].note


def test_bad_requests(tiny_bundle) -> None:
    explainer, tile = Explainer(tiny_bundle, "cpu"), noise_tiles(1)
    target, flat = Target.of_class(0), np.zeros((SIDE, SIDE), np.float32)
    for bad in (flat[:8], np.stack([flat, flat]), flat * np.nan):
        with pytest.raises(ExplainError):
            perturbation_curves(explainer, tile, bad, target)
    with pytest.raises(ExplainError):
        perturbation_curves(explainer, tile, flat, target, n_steps=0)
    with pytest.raises(ExplainCancelled):
        perturbation_curves(explainer, tile, flat, target, cancel=lambda: True)
    with pytest.raises(ExplainCancelled):
        randomisation_check(explainer, tile, "gradient", target, cancel=lambda: True)
    constant = randomisation_check(explainer, tile * 0, "occlusion", target)
    assert np.isnan(constant.correlation) and "nothing to compare" in constant.words


def made(deletion: list[float], insertion: list[float]) -> Curves:
    """Curves of five points with the areas that they have."""
    x = np.linspace(0, 1, 5, dtype=np.float32)
    down, up = np.array(deletion, np.float32), np.array(insertion, np.float32)
    areas = (float(np.trapezoid(values, x)) for values in (down, up))
    return Curves(x, down, up, *areas, "probability")


@pytest.mark.parametrize(
    ("deletion", "insertion", "trust", "words"),
    [
        ([0.9, 0.2, 0.1, 0.1, 0.1], [0.1, 0.8, 0.9, 0.9, 0.9], Trust.YES, "points at"),
        ([0.9, 0.9, 0.9, 0.8, 0.1], [0.1, 0.1, 0.1, 0.2, 0.9], Trust.NO, "does not point at"),
        ([0.9, 0.7, 0.5, 0.3, 0.1], [0.1, 0.3, 0.5, 0.7, 0.9], Trust.NO, "does not point at"),
        ([0.9, 0.7, 0.5, 0.2, 0.1], [0.1, 0.3, 0.5, 0.8, 0.9], Trust.LITTLE, "hardly better"),
        # A blurred tile is more foreign than the tile: the order of its pixels tells all the same.
        ([9.0, 2.0, 3.0, 8.0, 20.0], [20.0, 25.0, 24.0, 12.0, 9.0], Trust.YES, "points at"),
        ([0.99, 0.99, 0.98, 0.98, 0.97], [0.97, 0.97, 0.98, 0.99, 0.99], Trust.UNKNOWN, "cannot"),
        ([0.9, float("nan"), 0.5, 0.3, 0.1], [0.1, 0.3, 0.5, 0.7, 0.9], Trust.UNKNOWN, "cannot"),
        ([0.0] * 5, [0.0] * 5, Trust.UNKNOWN, "cannot"),
    ],
)
def test_what_curves_say_of_a_map(
    deletion: list[float], insertion: list[float], trust: Trust, words: str
) -> None:
    found = made(deletion, insertion)
    assert found.trust is trust and words in found.words
    assert found.words.count(".") == 1, "one plain sentence"


def test_maps_by_chance_seldom_pass_and_the_right_one_does(tiny_bundle: Bundle) -> None:
    """Random maps of coarse cells, as class activation maps are; integrated gradients beside."""
    explainer, target = Explainer(tiny_bundle, "cpu"), Target.of_score("ood")
    rng, passed, gains = np.random.default_rng(5), 0, []
    for tile in noise_tiles(12):
        chance = np.kron(rng.normal(size=(4, 4)), np.ones((SIDE // 4, SIDE // 4)))
        found = perturbation_curves(explainer, tile, chance.astype(np.float32), target, 16)
        passed += found.trust is Trust.YES
        gains.append(found.gain)
    assert passed <= 3 and abs(np.nanmean(gains)) < LITTLE_GAIN
    real = explainer.explain(tile[None], "integrated_gradients", target)
    assert perturbation_curves(explainer, tile, real, target, 16).trust is Trust.YES


@pytest.mark.parametrize(
    ("rho", "trust", "words"),
    [
        (0.02, Trust.YES, "This map depends on what the model learned"),
        (0.49, Trust.YES, "This map depends on"),
        (0.5, Trust.NO, "hardly depends on what the model learned"),
        (float("nan"), Trust.UNKNOWN, "nothing to compare"),
    ],
)
def test_what_random_weights_say_of_a_map(rho: float, trust: Trust, words: str) -> None:
    found = Sanity(None, None, rho, np.array([rho], np.float32))  # type: ignore[arg-type]
    assert found.trust is trust and words in found.words
    assert np.isnan(rho) or f"{rho:.2f}" in found.words
