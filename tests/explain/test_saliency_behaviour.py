"""What every method keeps: the model, the batch's other tiles, its promises of progress."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hand_made import SIDE, engine_of, explainer_of, noise_tiles, texture_net

from napari_ood.errors import ExplainCancelled, ExplainError
from napari_ood.explain import METHODS, Explainer, Target
from napari_ood.models import Bundle, MultiHeadNet, load_bundle

QUICK: dict[str, dict[str, Any]] = {
    "smoothgrad": {"n_samples": 3},
    "integrated_gradients": {"n_steps": 40},
    "occlusion": {"window": 12},
    "rise": {"n_masks": 20},
    "perturbation": {"n_iterations": 4},
}
ROUGH: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"n_steps": 4},
    "occlusion": {"window": 48, "stride": 48},
    "rise": {"n_masks": 8},
}
SHIPPED = ("synthetic-he", "lymph-node-he", "dermoscopy")


def state_of(net: MultiHeadNet) -> dict[str, Any]:
    """Everything about a network that a method could change."""
    modules = dict(net.named_modules())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "weights": {k: v.clone() for k, v in net.state_dict().items()},
        "grads": {k: p.grad for k, p in net.named_parameters()},
        "requires_grad": {k: p.requires_grad for k, p in net.named_parameters()},
        "training": {k: m.training for k, m in modules.items()},
        "in place": {k: getattr(m, "inplace", None) for k, m in modules.items()},
        "types": {k: type(m) for k, m in modules.items()},
        "attributes": {k: sorted(vars(m)) for k, m in modules.items()},
        "hooks": {k: [tuple(getattr(m, h)) for h in hooks] for k, m in modules.items()},
    }


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for name, weight in before.pop("weights").items():
        assert torch.equal(weight, after["weights"][name]), name
    after.pop("weights")
    assert before == after


@pytest.fixture(scope="module")
def in_place_explainer() -> Explainer:
    """A network with in-place ReLUs, weights that ask for gradients, one of them with a gradient.

    Nothing that an Explainer builds has these; whoever keeps them unchanged changes nothing.
    """
    torch.manual_seed(0)
    net = MultiHeadNet("torchvision:resnet18", n_heads=2, n_classes=2, tile_size=SIDE).eval()
    explainer = explainer_of(net)
    own = engine_of(explainer).net
    for module in own.modules():
        if hasattr(module, "inplace"):
            module.inplace = True
    own.requires_grad_(True)
    next(own.parameters()).grad = torch.ones_like(next(own.parameters()))
    return explainer


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_untouched(method, in_place_explainer) -> None:
    explainer, tiles = in_place_explainer, noise_tiles(1)
    net = engine_of(explainer).net
    before = state_of(net)
    random = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    modes = torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()
    found = explainer.explain(tiles, method, Target.of_class(0), **QUICK.get(method, {})).values
    polls = iter([False, True])
    if METHODS[method].slow:
        with pytest.raises(ExplainCancelled):  # in the middle
            explainer.explain(
                tiles, method, Target.of_class(0), cancel=lambda: next(polls), **QUICK[method]
            )
    with pytest.raises(ZeroDivisionError):  # from somebody else's code, between two passes
        explainer.explain(tiles, method, Target.of_class(0), on_progress=lambda _: 1 / 0)
    assert_same(before, state_of(net))
    assert torch.equal(random[0], torch.get_rng_state())
    assert np.array_equal(random[1], np.random.get_state()[1])  # noqa: NPY002
    assert modes == (torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled())
    again = explainer.explain(tiles, method, Target.of_class(0), **QUICK.get(method, {})).values
    np.testing.assert_array_equal(found, again)
    assert_same(before | {"weights": state_of(net)["weights"]}, state_of(net))


def test_a_failure_inside_the_network_leaves_no_hook(in_place_explainer) -> None:
    explainer = in_place_explainer
    net = engine_of(explainer).net
    before = state_of(net)

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    handle = net.trunk.layer4.register_forward_pre_hook(fail)
    try:
        for method in METHODS:
            with pytest.raises(RuntimeError, match="out of memory"):
                explainer.explain(noise_tiles(1), method, Target.of_class(0))
    finally:
        handle.remove()
    assert_same(before, state_of(net))


@pytest.mark.parametrize("method", METHODS)
def test_a_tiles_map_does_not_depend_on_its_batch(method, tiny_bundle) -> None:
    explainer, tiles = Explainer(tiny_bundle, "cpu"), noise_tiles(3)
    for target in (Target.of_class(1), Target.of_score("ood")):
        options = QUICK.get(method, {})
        together = explainer.explain(tiles, method, target, **options).values
        alone = explainer.explain(tiles[1:2], method, target, **options).values
        np.testing.assert_allclose(together[1:2], alone, atol=2e-3 * np.abs(alone).max() + 1e-9)
        assert explainer.explain(tiles[:0], method, target).values.shape == (0, SIDE, SIDE)


@pytest.mark.parametrize("method", METHODS)
def test_progress_rises_to_one_and_cancelling_stops_at_the_next_pass(method) -> None:
    explainer, tiles = explainer_of(texture_net()), noise_tiles(2)
    engine_of(explainer)
    options = QUICK.get(method, {})
    shares: list[float] = []
    explainer.explain(tiles, method, Target.of_class(0), on_progress=shares.append, **options)
    assert shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares)
    if METHODS[method].slow:
        assert len(shares) > 2
    passes: list[float] = []

    def cancel() -> bool:
        return len(passes) >= min(2, len(shares) - 2)

    with pytest.raises(ExplainCancelled):
        explainer.explain(
            tiles,
            method,
            Target.of_class(0),
            on_progress=passes.append,
            cancel=cancel if len(shares) > 2 else lambda: True,
            **options,
        )
    assert len(passes) <= 2


def test_threads_take_turns(tiny_bundle) -> None:
    explainer, tiles = Explainer(tiny_bundle, "cpu"), noise_tiles(2)
    methods = ("gradient", "grad_cam", "guided_backprop", "layer_cam")
    expected = {
        m: Explainer(tiny_bundle, "cpu").explain(tiles, m, Target.of_class(0)).values
        for m in methods
    }
    found: dict[str, list[np.ndarray]] = {m: [] for m in methods}

    def work(method: str) -> None:
        for _ in range(4):
            found[method].append(explainer.explain(tiles, method, Target.of_class(0)).values)

    threads = [threading.Thread(target=work, args=(m,)) for m in methods]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for method in methods:
        assert len(found[method]) == 4
        for values in found[method]:
            np.testing.assert_allclose(values, expected[method], rtol=1e-4, atol=1e-9)


def test_a_constant_tile_gets_no_picture_from_methods_that_take_content_away(tiny_bundle) -> None:
    explainer = Explainer(tiny_bundle, "cpu")
    tiles = np.full((1, SIDE, SIDE, 3), 200, np.uint8)
    for method in ("integrated_gradients", "occlusion", "rise", "perturbation"):
        options = QUICK.get(method, {})
        found = explainer.explain(tiles, method, Target.of_class(0), **options).values
        limit = explainer.scale(method, Target.of_class(0), noise_tiles(2))
        assert np.abs(found).max() < 0.02 * limit, method


def test_a_target_that_is_no_number_gives_no_map(tiny_bundle) -> None:
    explainer = Explainer(tiny_bundle, "cpu")
    net = engine_of(explainer).net

    def poison(module: object, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        white = args[0][:, :, :1, :1].amin(dim=1, keepdim=True) > 1.4  # (1 − 0.7) / 0.2 and more
        return (torch.where(white, torch.nan, args[0]),)

    tiles = noise_tiles(3).clip(0, 200)
    tiles[1, 0, 0] = 255
    handle = net.trunk.register_forward_pre_hook(poison)
    try:
        for method in ("gradient", "grad_cam", "integrated_gradients", "occlusion"):
            found = explainer.explain(tiles, method, Target.of_class(0)).values
            assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2]]).all(), method
            with pytest.raises(ExplainError, match="no finite value"):
                explainer.explain(tiles[1:2], method, Target.of_class(0))
    finally:
        handle.remove()


def test_bad_requests_are_told_what_to_do(tiny_bundle) -> None:
    explainer, tiles = Explainer(tiny_bundle, "cpu"), noise_tiles(1)
    cls = Target.of_class(0)
    bad: list[tuple[str, Callable[[], object]]] = [
        ("no saliency method", lambda: explainer.explain(tiles, "magic", cls)),
        ("no class 9", lambda: explainer.explain(tiles, "gradient", Target.of_class(9))),
        ("no class -1", lambda: explainer.explain(tiles, "gradient", Target.of_class(-1))),
        ("no head 3", lambda: explainer.explain(tiles, "gradient", Target.of_head(3, 0))),
        ("reads tiles", lambda: explainer.explain(tiles[:, :16], "gradient", cls)),
        ("reads tiles", lambda: explainer.explain(tiles / 255, "gradient", cls)),
        ("no option", lambda: explainer.explain(tiles, "rise", cls, masks=3)),
        ("at least 2", lambda: explainer.explain(tiles, "rise", cls, n_masks=1)),
        ("window", lambda: explainer.explain(tiles, "occlusion", cls, window=32)),
        ("no baseline", lambda: explainer.explain(tiles, "occlusion", cls, baseline="pink")),
        ("no layer 'layer9'", lambda: explainer.explain(tiles, "grad_cam", cls, layer="layer9")),
        ("reads no layer", lambda: explainer.explain(tiles, "gradient", cls, layer="layer1")),
        ("1 × 1", lambda: explainer.explain(tiles, "grad_cam", cls, layer="layer4")),
        ("does not depend", lambda: explainer.explain(
            tiles, "grad_cam", Target.of_score("mahalanobis@layer1"), layer="layer2")),
        ("at least one tile", lambda: explainer.scale("gradient", cls, tiles[:0])),
    ]  # fmt: skip
    for match, call in bad:
        with pytest.raises(ExplainError, match=match):
            call()
            pytest.fail(f"nothing said {match!r}")


def test_words_and_layers_of_targets(tiny_bundle) -> None:
    card, explainer = tiny_bundle.card, Explainer(tiny_bundle, "cpu")
    targets = [Target.of_class(1), Target.of_head(2, 0), Target.uncertainty(), Target.of_score()]
    words = [target.words(card) for target in targets]
    assert words == ["green", "head 3: red", "uncertainty", "OOD score"]
    nearest = "distance to the nearest training tiles (an early layer)"
    assert Target.of_score("knn@layer1").words(card) == nearest
    assert len({*targets, Target.of_class(1)}) == 4
    assert explainer.layers() == ("act1", "layer1", "layer2", "layer3")  # layer4 is 1 × 1
    # The OOD score reads layer1: nothing after it has a say.
    assert [explainer.default_layer(t) for t in targets] == ["layer3"] * 3 + ["layer1"]
    found = explainer.explain(noise_tiles(1), "layer_cam", Target.of_score())
    assert found.layer == "layer1" and found.values.any() and not found.signed


def test_one_display_limit_for_all_tiles(tiny_bundle) -> None:
    explainer, tiles = Explainer(tiny_bundle, "cpu"), noise_tiles(5)
    target = Target.of_class(0)
    limit = explainer.scale("gradient", target, tiles)
    values = explainer.explain(tiles, "gradient", target).values
    assert limit == pytest.approx(np.percentile(np.abs(values), 99))
    # Slow methods: from what the target spans in distribution, whatever the tiles.
    z = tiny_bundle.require_reference().validation_logits.mean(axis=1)[:, 0]
    half = float(np.quantile(z, 0.95) - np.quantile(z, 0.05)) / 2
    assert explainer.scale("occlusion", target, tiles[:1]) == pytest.approx(half, rel=1e-4)
    assert explainer.scale("perturbation", target, tiles[:1]) == 1.0


ARCHITECTURES = [
    ("torchvision:resnet18", 0, "layer4", True),
    ("torchvision:vgg11", 0, "features.19", True),
    ("torchvision:densenet121", 0, "features", True),
    ("mheads_densenet", 2, "block3.layer2", True),
    ("timm:vit_tiny_patch16_224", 0, "blocks.10", False),
    ("torchvision:swin_t", 0, "norm", False),
]


@pytest.mark.parametrize(("architecture", "head_blocks", "layer", "relus"), ARCHITECTURES)
def test_architectures(architecture, head_blocks, layer, relus) -> None:
    """In-place, functional and no ReLUs, tails, tokens, channels last: a map or a clear word."""
    torch.manual_seed(0)
    net = MultiHeadNet(
        architecture, n_heads=2, n_classes=2, tile_size=64, head_blocks=head_blocks
    ).eval()
    explainer, tiles = explainer_of(net, 64), noise_tiles(2, 64)
    assert explainer.default_layer(Target.of_class(0)) == layer
    for method in ("gradient", "grad_cam", "grad_cam_pp", "layer_cam"):
        found = explainer.explain(tiles, method, Target.of_head(1, 1)).values
        assert np.isfinite(found).all()
        assert method == "grad_cam" or found.any(), method
    if relus:
        assert explainer.explain(tiles, "guided_backprop", Target.of_class(1)).values.any()
    else:
        with pytest.raises(ExplainError, match="ReLU"):
            explainer.explain(tiles, "guided_backprop", Target.of_class(1))


def test_networks_without_maps_say_so() -> None:
    net = MultiHeadNet("timm:vit_tiny_patch16_224", n_heads=1, n_classes=2, tile_size=16).eval()
    explainer = explainer_of(net, 16)
    assert explainer.layers() == ()
    with pytest.raises(ExplainError, match="no layer with maps at 16 px"):
        explainer.explain(noise_tiles(1, 16), "grad_cam", Target.of_class(0))
    assert explainer.explain(noise_tiles(1, 16), "gradient", Target.of_class(0)).values.any()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_bundles(name) -> None:
    """Every method, every kind of target: finite maps at the tile's resolution."""
    bundle: Bundle = load_bundle(name)
    explainer = Explainer(bundle, "cpu")
    side = bundle.card.tile_size
    tiles = noise_tiles(1, side)
    for target in (Target.of_class(1), Target.uncertainty(), Target.of_score("ood")):
        methods = METHODS if target.kind == "score" else ("gradient", "grad_cam", "guided_backprop")
        for method in methods:
            how, options = METHODS[method], QUICK.get(method, {})
            if how.slow:
                options = {**options, **ROUGH.get(method, {})}
            found = explainer.explain(tiles, method, target, **options)
            assert found.values.shape == (1, side, side) and found.values.dtype == np.float32
            assert np.isfinite(found.values).all()
            assert found.note and found.unit and found.signed == how.signed


def test_values_are_the_engines(tiny_bundle) -> None:
    """What is explained is the number that the run's scores show."""
    explainer, tiles = Explainer(tiny_bundle, "cpu"), noise_tiles(4)
    with torch.inference_mode():
        z, x = (out.numpy() for out in tiny_bundle.network("cpu")(torch.from_numpy(tiles)))
    reference = tiny_bundle.require_reference()
    for name in ("entropy", "mahalanobis@layer1"):
        expected = reference.score(name, z, x)
        found = explainer.values(tiles, Target.of_score(name))
        np.testing.assert_allclose(found, expected, rtol=1e-3)
    np.testing.assert_allclose(
        explainer.values(tiles, Target.uncertainty()), reference.score("entropy", z, x), rtol=1e-4
    )


def test_importing_and_making_an_explainer_loads_no_torch() -> None:
    code = (
        "import sys; from napari_ood.explain import METHODS, Explainer, Target\n"
        "from napari_ood.models import load_bundle\n"
        "Explainer(load_bundle('synthetic-he'))\n"
        "assert not {'torch', 'captum', 'napari', 'qtpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
