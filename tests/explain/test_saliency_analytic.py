"""Saliency against cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import GuidedBackprop, LayerGradCam
from hand_made import (
    SIDE,
    STD,
    around,
    colours,
    engine_of,
    explainer_of,
    noise_tiles,
    planted_tile,
    texture_net,
)
from torch import Tensor, nn
from torch.nn.functional import interpolate

from napari_ood.errors import ExplainError
from napari_ood.explain import METHODS, Target
from napari_ood.explain.baseline import baseline_of
from napari_ood.explain.cams import grad_cam, grad_cam_pp, layer_cam
from napari_ood.explain.guided import guided_gradient
from napari_ood.explain.layers import Maps
from napari_ood.explain.progress import Steps
from napari_ood.models import MultiHeadNet

QUICK: dict[str, dict[str, float]] = {
    "smoothgrad": {"n_samples": 4, "noise": 0.03},
    "integrated_gradients": {"n_steps": 8},
    "rise": {"n_masks": 200},
    "perturbation": {"n_iterations": 100},
}


@pytest.fixture(scope="module")
def linear() -> MultiHeadNet:
    torch.manual_seed(1)
    return around(nn.Flatten(), 3 * SIDE * SIDE, n_heads=3)


def weights_of(net: MultiHeadNet, heads: slice, c: int) -> np.ndarray:
    """Weight of each pixel [3, t, t], per full range of a colour."""
    weight = net.heads.weights[0].detach()[heads, c].mean(dim=0).view(3, SIDE, SIDE).numpy()
    return weight / np.array(STD)[:, None, None]


@pytest.mark.parametrize(
    ("target", "heads", "c"),
    [(Target.of_class(1), slice(None), 1), (Target.of_head(2, 0), slice(2, 3), 0)],
)
def test_gradient_of_a_linear_model_is_its_weight(linear, target, heads, c) -> None:
    explainer = explainer_of(linear)
    weight = weights_of(linear, heads, c)
    tiles = noise_tiles(2)
    for method in ("gradient", "smoothgrad"):
        found = explainer.explain(tiles, method, target).values
        np.testing.assert_allclose(found, np.abs(weight).max(0)[None].repeat(2, 0), rtol=1e-4)
    found = explainer.explain(tiles, "integrated_gradients", target).values
    away = (tiles.astype(float) - explainer.without_content(tiles)) / 255
    expected = np.einsum("nijc,cij->nij", away, weight)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_integrated_gradients_add_up_to_the_difference(tiny_bundle) -> None:
    from napari_ood.explain import Explainer

    explainer, tiles = Explainer(tiny_bundle, "cpu"), noise_tiles(2)
    for target in (Target.of_class(2), Target.uncertainty(), Target.of_score("mahalanobis@layer1")):
        found = explainer.explain(tiles, "integrated_gradients", target, n_steps=64)
        objective = engine_of(explainer).objective(target, Steps())
        rgb = colours(tiles)
        with torch.no_grad():
            difference = (objective(rgb) - objective(baseline_of(rgb))).numpy()
        total = found.values.sum(axis=(1, 2))
        np.testing.assert_allclose(total, difference, atol=0.03 * np.abs(difference).max())


def test_class_activation_maps_are_the_textbooks() -> None:
    rng = np.random.default_rng(0)
    a = np.maximum(rng.normal(size=(1, 3, 4, 5)), 0)
    g = rng.normal(size=a.shape)
    maps = Maps(torch.from_numpy(a), torch.from_numpy(g))
    a, g = a[0], g[0]
    plain, plus, layer = (np.zeros((4, 5)) for _ in range(3))
    for c in range(3):
        alpha = g[c] ** 2 / (2 * g[c] ** 2 + a[c].sum() * g[c] ** 3)
        plain += g[c].mean() * a[c]
        plus += (alpha * np.maximum(g[c], 0)).sum() * a[c]
        layer += np.maximum(g[c], 0) * a[c]
    for combine, expected in ((grad_cam, plain), (grad_cam_pp, plus), (layer_cam, layer)):
        np.testing.assert_allclose(combine(maps)[0], np.maximum(expected, 0), rtol=1e-9)


def test_grad_cam_pp_stays_finite_without_gradient_and_with_negative_maps() -> None:
    maps = Maps(-torch.ones(1, 2, 3, 3), torch.full((1, 2, 3, 3), 1e-30))
    assert torch.isfinite(grad_cam_pp(maps)).all()
    assert not grad_cam_pp(Maps(torch.ones(1, 2, 3, 3), torch.zeros(1, 2, 3, 3))).any()


class Captum(nn.Module):
    """A network as captum takes it: logit of class 1, mean over heads."""

    def __init__(self, net: MultiHeadNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.logits(x)[:, :, 1].mean(dim=1)


@pytest.fixture(scope="module")
def resnet() -> MultiHeadNet:
    torch.manual_seed(0)
    return MultiHeadNet("torchvision:resnet18", n_heads=2, n_classes=2, tile_size=64).eval()


def normalised(rgb: Tensor, explainer) -> Tensor:
    engine = engine_of(explainer)
    return (rgb - engine._mean.view(1, 3, 1, 1)) / engine._std.view(1, 3, 1, 1)


def test_grad_cam_is_captums(resnet) -> None:
    explainer, tiles = explainer_of(resnet, 64), noise_tiles(2, 64)
    assert explainer.layers() == ("relu", "layer1", "layer2", "layer3", "layer4")
    found = explainer.explain(tiles, "grad_cam", Target.of_class(1), layer="layer2").values
    x = normalised(colours(tiles), explainer).requires_grad_()
    theirs = LayerGradCam(Captum(resnet), resnet.trunk.layer2).attribute(x, relu_attributions=True)
    large = interpolate(theirs, size=(64, 64), mode="bilinear")[:, 0].detach().numpy()
    assert found.max() > 0
    np.testing.assert_allclose(found, large, atol=1e-4 * large.max())


@pytest.mark.parametrize("in_place", [False, True])
def test_guided_backprop_is_captums(resnet, in_place) -> None:
    explainer, tiles = explainer_of(resnet, 64), noise_tiles(2, 64)
    x = normalised(colours(tiles), explainer).requires_grad_()
    theirs = GuidedBackprop(Captum(resnet)).attribute(x).detach().numpy()
    engine = engine_of(explainer)
    for module in engine.net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = in_place
    objective = engine.objective(Target.of_class(1), Steps())
    ours = guided_gradient(objective, colours(tiles)).numpy() * np.array(STD)[:, None, None]
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    plain = explainer.explain(tiles, "gradient", Target.of_class(1)).values
    guided = explainer.explain(tiles, "guided_backprop", Target.of_class(1)).values
    assert not np.allclose(plain, guided, rtol=0.1)


class Activated(nn.Module):
    """A small trunk with one activation, given as a function."""

    def __init__(self, act) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.second(self.act(self.first(x)))).mean(dim=(2, 3))


def test_guided_backprop_sees_relus_of_any_spelling() -> None:
    """A ReLU hidden in a function must not silently give plain gradients."""
    tiles = noise_tiles(1)
    spellings = {
        "module": nn.ReLU(),
        "in place": nn.ReLU(inplace=True),
        "torch": torch.relu,
        "functional": torch.nn.functional.relu,
        "method": lambda x: x.relu(),
        "clamp": lambda x: x.clamp(min=0),
        "clamp_min": lambda x: torch.clamp_min(x, 0.0),
        "relu6": torch.nn.functional.relu6,  # no value here comes near 6
        "ReLU6": nn.ReLU6(),
        "hardtanh": lambda x: torch.nn.functional.hardtanh(x, 0.0, 6.0),
    }
    maps = {}
    for name, act in spellings.items():
        torch.manual_seed(3)
        explainer = explainer_of(around(Activated(act), 6))
        maps[name] = explainer.explain(tiles, "guided_backprop", Target.of_class(0)).values
        plain = explainer.explain(tiles, "gradient", Target.of_class(0)).values
        assert not np.allclose(maps[name], plain, rtol=0.1), name
    for name, found in maps.items():
        np.testing.assert_allclose(found, maps["module"], rtol=1e-4, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("act", [nn.SiLU(), nn.GELU(), torch.tanh, nn.LeakyReLU()])
def test_guided_backprop_says_so_where_it_is_not_defined(act) -> None:
    explainer = explainer_of(around(Activated(act), 6))
    for method in ("guided_backprop", "guided_grad_cam"):
        options = {"layer": "second"} if method == "guided_grad_cam" else {}
        with pytest.raises(ExplainError, match="guided backprop"):
            explainer.explain(noise_tiles(1), method, Target.of_class(0), **options)


@pytest.mark.parametrize("n_heads", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_a_planted_patch_wins(method, n_heads) -> None:
    tile, where = planted_tile()
    explainer = explainer_of(texture_net(n_heads))
    found = explainer.explain(tile[None], method, Target.of_class(1), **QUICK.get(method, {}))
    positive = np.maximum(found.values[0], 0)
    # Layers of 4 px and squares of 5 px cannot be sharper than themselves.
    near = tuple(slice(s.start - 4, s.stop + 4) for s in where)
    assert positive[near].sum() > 0.6 * positive.sum()
    assert positive[where].mean() > 4 * positive.mean()
    inside = np.zeros(positive.shape, bool)
    inside[near] = True
    assert inside.ravel()[positive.argmax()]


@pytest.mark.parametrize("method", [name for name, how in METHODS.items() if how.signed])
def test_signed_methods_tell_for_from_against(method) -> None:
    tile, where = planted_tile()
    explainer = explainer_of(texture_net())
    options = QUICK.get(method, {})
    speaks_for = explainer.explain(tile[None], method, Target.of_class(1), **options).values[0]
    against = explainer.explain(tile[None], method, Target.of_class(0), **options).values[0]
    assert speaks_for[where].mean() > 0 > against[where].mean()
    assert METHODS[method].signed


@pytest.mark.parametrize("method", [name for name, how in METHODS.items() if not how.signed])
def test_unsigned_methods_are_never_negative(method, tiny_bundle) -> None:
    from napari_ood.explain import Explainer

    explainer = Explainer(tiny_bundle, "cpu")
    options = QUICK.get(method, {})
    found = explainer.explain(noise_tiles(2), method, Target.of_class(0), **options).values
    assert (found >= 0).all() and np.isfinite(found).all()
