from __future__ import annotations

import pytest
import torch
import torchvision

from napari_ood.errors import BundleError
from napari_ood.models import BlockSpec, Card, MultiHeadNet, load_bundle, save_bundle
from napari_ood.models.densenet import mheads_densenet
from napari_ood.models.prepared import prepare_for_inference
from napari_ood.models.stages import Chain, reinitialise, split_trunk, trunk_units
from napari_ood.models.trunks import build_trunk

FAMILIES = [
    "torchvision:resnet18",
    "timm:resnet18",
    "torchvision:googlenet",
    "torchvision:inception_v3",
    "torchvision:densenet121",
    "timm:densenet121",
    "torchvision:efficientnet_b0",
    "timm:efficientnet_b0",
    "timm:convnext_atto",
    "timm:regnetx_002",
    "torchvision:mobilenet_v3_small",
    "timm:vit_tiny_patch16_224",
    "napari_ood:mheads_densenet",
]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_trunk_is_the_chain_of_its_units(architecture):
    torch.manual_seed(0)
    trunk = build_trunk(architecture, 96).eval()
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = trunk(x)
        for depth in (1, 3):
            shared, tail = split_trunk(trunk, depth, x)
            torch.testing.assert_close(tail(shared(x)), expected)
    own = {name for name, _ in trunk.named_parameters()}
    if "vit" not in architecture:  # its embedding is wrapped
        assert {n for part in (shared, tail) for n, _ in part.named_parameters()} == own
    matrices = [name for name, p in tail.named_parameters() if p.ndim >= 2]
    assert matrices, "what is split off has weights"


def test_depth_counts_units_with_weights_from_the_heads():
    net = MultiHeadNet("timm:resnet18", n_heads=3, tile_size=32, head_blocks=2)
    assert [name for name in net.tails[0].names if name.startswith("layer")] == [
        "layer4.0",
        "layer4.1",
    ]
    assert net.trunk.names[-1] == "layer3.1"
    dense = MultiHeadNet("mheads_densenet", n_heads=2, tile_size=64, head_blocks=2)
    assert dense.tails[0].names[:2] == ["block3.layer3", "block3.layer4"]  # as in the paper


def test_the_papers_densenet_has_the_papers_layers():
    trunk = mheads_densenet()
    convolutions = [m for m in trunk.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 1 + 2 * 12 + 2
    assert trunk(torch.zeros(2, 3, 64, 64)).shape == (2, 240)


@pytest.mark.parametrize("depth", [12, 99])
def test_heads_share_at_least_the_first_unit(depth):
    with pytest.raises(BundleError, match="at most"):
        MultiHeadNet("timm:test_resnet", tile_size=32, head_blocks=depth)


def test_heads_that_no_memory_holds_are_refused_before_they_are_made():
    with pytest.raises(BundleError, match="256 heads of 2 units"):
        MultiHeadNet("timm:resnet18", n_heads=256, tile_size=32, head_blocks=2)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_published_weights_make_the_trunk_that_a_bundle_is_opened_with(name, monkeypatch):
    def published(name, weights, **options):
        assert weights == "DEFAULT"
        options |= {"aux_logits": True, "transform_input": True, "init_weights": False}
        return get_model(name, weights=None, **options)  # as torchvision builds it, undownloaded

    get_model = torchvision.models.get_model
    monkeypatch.setattr(torchvision.models, "get_model", published)
    started = build_trunk(f"torchvision:{name}", 96, pretrained=True)
    monkeypatch.undo()
    opened = build_trunk(f"torchvision:{name}", 96)
    opened.load_state_dict(started.state_dict())
    x = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(started.eval()(x), opened.eval()(x))


def test_a_trunk_that_is_no_chain_is_refused():
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return (self.a(x) + self.b(x)).mean((2, 3))

    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert trunk_units(Odd(), x) == []
    with pytest.raises(BundleError, match="head depth 0"):
        split_trunk(Odd(), 1, x)


def net(n_heads: int = 3) -> MultiHeadNet:
    torch.manual_seed(0)
    blocks = [BlockSpec("early", "bn1", "mean_std"), BlockSpec("last", "penultimate")]
    return MultiHeadNet(
        "timm:tf_efficientnet_lite0", blocks, n_heads, tile_size=64, head_blocks=2
    ).eval()


def test_heads_with_units_of_their_own_start_apart_and_read_their_own_vectors():
    model = net()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        logits, features = model(x)
        shared = model.trunk(x)
        vectors = [tail(shared) for tail in model.tails]
    assert logits.shape == (2, 3, 2)
    assert not torch.allclose(vectors[0], vectors[1])
    torch.testing.assert_close(features[:, model.blocks[1].start :], torch.stack(vectors).mean(0))
    weight, bias = model.final_layer()
    for m in range(3):
        torch.testing.assert_close(logits[:, m], vectors[m] @ weight[m].T + bias[m])
    torch.testing.assert_close(model.logits(x), logits)


def test_fusing_reaches_the_heads_own_units():
    model = net()
    for module in model.modules():  # statistics that differ from the identity
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2.0)
            module.running_mean.normal_()
    ready = prepare_for_inference(model)
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in ready.tails.modules()) == 0
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(model(x), ready(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_a_bundle_keeps_heads_that_split_early(tmp_path):
    model = net()
    card = Card(
        name="split",
        classes=("a", "b"),
        architecture=model.architecture,
        tile_size=64,
        mpp=1.0,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        n_heads=3,
        blocks=model.blocks,
        scores={"uncertainty": "entropy", "ood": "mahalanobis@early"},
    )
    save_bundle(tmp_path / "split", model, card)
    again = load_bundle(tmp_path / "split").trained_network().eval()
    assert again.head_blocks == 2
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(again(x)[0], model(x)[0], rtol=0.02, atol=0.02)


def test_weights_of_a_whole_trunk_reach_every_head():
    source = build_trunk("timm:test_resnet", 32)
    model = MultiHeadNet("timm:test_resnet", n_heads=2, tile_size=32, head_blocks=1)
    model.load_trunk(source.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = source.eval()(x)
        shared = model.eval().trunk(x)
        for tail in model.tails:
            torch.testing.assert_close(tail(shared), expected)
    with pytest.raises(BundleError, match="absent"):
        model.load_trunk({})


def test_parameters_are_told_apart_for_differential_rates():
    model = net()
    units = model.trunk_units()
    assert units[0][0] == "conv_stem" and units[-1][0].startswith("blocks.5")
    of_units = {id(p) for _, ps in units for p in ps}
    of_heads = {id(p) for p in model.head_parameters()}
    assert not of_units & of_heads
    assert of_units | of_heads == {id(p) for p in model.parameters()}


def test_reinitialising_changes_every_matrix():
    torch.manual_seed(0)
    chain = Chain([("a", torch.nn.Conv2d(3, 4, 3)), ("b.c", torch.nn.Linear(4, 2))])
    before = {name: p.clone() for name, p in chain.named_parameters() if p.ndim > 1}
    reinitialise(chain)
    now = dict(chain.named_parameters())
    assert all(not torch.equal(now[name], p) for name, p in before.items())


@pytest.mark.parametrize("architecture", ["mheads_densenet", "timm:regnetx_002"])
def test_all_heads_start_from_the_trunks_own_distribution(architecture):
    # A first head with the trunk's initialisation beside others with PyTorch's default is no
    # fair competition: its matrices were 2.4 times as large, its last norms 0 instead of 1.
    torch.manual_seed(0)
    first, *others = MultiHeadNet(architecture, n_heads=3, tile_size=64, head_blocks=2).tails
    for own in others:
        for (name, p), q in zip(first.named_parameters(), own.parameters(), strict=True):
            torch.testing.assert_close(p.flatten().sort()[0], q.flatten().sort()[0])
            assert p.ndim < 2 or not torch.equal(p, q), name


def test_tiles_are_resized_inside_the_network_and_the_card_says_so(tmp_path):
    torch.manual_seed(0)
    blocks = [BlockSpec("early", "bn1", "mean_std")]
    plain = MultiHeadNet("timm:tf_efficientnet_lite0", blocks, 2, tile_size=96).eval()
    model = MultiHeadNet(
        "timm:tf_efficientnet_lite0", blocks, 2, tile_size=64, input_size=96
    ).eval()
    model.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    enlarged = torch.nn.functional.interpolate(x, size=(96, 96), mode="bilinear")
    with torch.no_grad():
        for a, b in zip(model(x), plain(enlarged), strict=True):
            torch.testing.assert_close(a, b)
        assert model.resized(x[..., :32, :32]).shape[-1] == 48  # a crop, in proportion
        for a, b in zip(prepare_for_inference(model)(x), model(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    card = Card(
        name="enlarged",
        classes=("a", "b"),
        architecture=model.architecture,
        tile_size=64,
        mpp=1.0,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        n_heads=2,
        blocks=model.blocks,
        scores={"uncertainty": "entropy", "ood": "mahalanobis@early"},
    )
    bundle = save_bundle(tmp_path / "enlarged", model, card)
    assert bundle.card.input_size == 96 and bundle.card.tile_size == 64
    assert bundle.card.to_config()["transform"][0]["arguments"] == {"size": 96}
    assert bundle.trained_network().input_size == 96
