from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn

from napari_ood.errors import BundleError
from napari_ood.models import (
    BlockSpec,
    InferenceNet,
    MultiHeadNet,
    normalise,
    prepare_for_inference,
)
from napari_ood.models.network import pool_positions
from napari_ood.models.prepared import fused_batch_norms
from napari_ood.models.trunks import resolve_architecture

PENULTIMATE = BlockSpec("penultimate", "penultimate")


def tiles(n: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def trained_norms(net: nn.Module) -> nn.Module:
    """Give batch norms statistics and scales that a fusion error could not hide behind."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.1, generator=generator)
    return net


@pytest.mark.parametrize(
    ("name", "layer", "size", "n_layer"),
    [
        ("timm:test_resnet", "layer1", 64, 32),
        ("timm:test_vit", "blocks.0", 64, 64),
        ("timm:swin_tiny_patch4_window7_224", "layers.0", 64, 96),
        ("torchvision:shufflenet_v2_x0_5", "stage2", 64, 48),
        ("torchvision:mobilenet_v3_small", "features.1", 64, 16),
    ],
)
def test_trunks_by_name_give_heads_and_features(name: str, layer: str, size: int, n_layer: int):
    blocks = (BlockSpec("early", layer, "mean_std"), PENULTIMATE)
    net = MultiHeadNet(name, blocks, n_heads=4, n_classes=5, head_depth=1, tile_size=size).eval()
    with torch.no_grad():
        logits, features = net(tiles(2, size))
        penultimate = net.trunk(tiles(2, size))
    assert logits.shape == (2, 4, 5)
    assert net.blocks[0][3:] == (0, 2 * n_layer)
    assert net.blocks[1].start == 2 * n_layer
    assert features.shape == (2, net.blocks[1].stop)
    torch.testing.assert_close(features[:, 2 * n_layer :], penultimate)


def test_tapped_features_are_the_layers_output_and_its_spread_over_positions():
    layer = BlockSpec("norm", "bn1", "mean_std")  # an activation in place would follow it
    net = MultiHeadNet("torchvision:resnet18", (layer, PENULTIMATE), tile_size=32).eval()
    x = tiles(3, 32)
    with torch.no_grad():
        _, features = net(x)
        before_relu = net.trunk.bn1(net.trunk.conv1(x))
    assert before_relu.min() < 0
    torch.testing.assert_close(features[:, :64], before_relu.mean((2, 3)))
    spread = before_relu.flatten(2).std(2, correction=0)
    torch.testing.assert_close(features[:, 64:128], spread, atol=1e-4, rtol=1e-3)


def test_each_head_is_an_ordinary_network_of_its_own():
    net = MultiHeadNet("timm:test_resnet", n_heads=3, n_classes=4, head_depth=1, tile_size=32)
    net.eval()
    weights, biases = list(net.heads.weights), list(net.heads.biases)
    with torch.no_grad():
        logits, features = net(tiles(2, 32))
        for m in range(3):
            hidden = torch.relu(features @ weights[0][m].T + biases[0][m])
            torch.testing.assert_close(logits[:, m], hidden @ weights[1][m].T + biases[1][m])
    weight, bias = net.final_layer()
    assert weight.shape == (3, 4, 128)
    assert bias.shape == (3, 4)


def test_one_head_works():
    logits, _ = MultiHeadNet("timm:test_resnet", n_heads=1, tile_size=32)(tiles(2, 32))
    assert logits.shape == (2, 1, 2)


def test_gradients_reach_the_tiles_through_features_and_logits():
    blocks = (BlockSpec("stem", "bn1", "mean_std"), PENULTIMATE)
    net = prepare_for_inference(MultiHeadNet("torchvision:resnet18", blocks, tile_size=32))
    x = tiles(1, 32).requires_grad_()
    logits, features = net(x)
    (logits.sum() + features.sum()).backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_two_threads_do_not_mix_their_features():
    blocks = (BlockSpec("layer1", "layer1", "mean_std"), PENULTIMATE)
    net = prepare_for_inference(MultiHeadNet("timm:test_resnet", blocks, tile_size=32))
    inputs = [tiles(4, 32, seed) for seed in range(2)]
    with torch.inference_mode():
        expected = [net(x)[1] for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        with torch.inference_mode():
            for _ in range(30):
                if not torch.allclose(net(inputs[i])[1], expected[i], atol=1e-5):
                    wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("name", ["timm:test_resnet", "timm:regnetx_002", "torchvision:resnet18"])
def test_fusing_batch_norms_changes_nothing_but_their_number(name: str):
    early = {"timm:test_resnet": "layer1", "timm:regnetx_002": "s1"}.get(name, "bn1")
    blocks = (BlockSpec("early", early, "mean_std"), PENULTIMATE)
    net = trained_norms(MultiHeadNet(name, blocks, tile_size=32)).eval()
    before = copy.deepcopy(net.state_dict())
    ready = prepare_for_inference(net)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    left = sum(isinstance(m, nn.BatchNorm2d) for m in ready.modules())
    assert norms > 3
    assert left == 0
    x = tiles(4, 32)
    with torch.inference_mode():
        for a, b in zip(net(x), ready(x), strict=True):
            assert (a - b).abs().max() <= 1e-4 * a.abs().max()
    assert all(torch.equal(a, before[k]) for k, a in net.state_dict().items())


def test_a_tapped_convolution_keeps_its_own_output():
    blocks = (BlockSpec("conv", "conv1", "mean"), PENULTIMATE)
    net = trained_norms(MultiHeadNet("torchvision:resnet18", blocks, tile_size=32)).eval()
    ready = prepare_for_inference(net)
    with torch.inference_mode():
        torch.testing.assert_close(net(tiles(2, 32))[1], ready(tiles(2, 32))[1])
    assert sum(isinstance(m, nn.BatchNorm2d) for m in ready.modules()) == 1


class Shared(nn.Module):
    """Convolutions whose output, or whose batch norm, has another use too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()
        self.twice, self.twice_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.alone, self.alone_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        y = self.norm(y) + self.act(y)
        y = self.twice_norm(self.twice(self.twice_norm(self.twice(y))))
        return self.alone_norm(self.alone(y))


def test_only_a_convolution_with_one_use_is_fused():
    trunk = trained_norms(Shared()).eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        before, fused = fused_batch_norms(trunk, set(), x)
        assert list(fused) == ["alone", "alone_norm"]
        for name, module in fused.items():
            trunk.set_submodule(name, module)
        torch.testing.assert_close(trunk(x), before)
    assert isinstance(trunk.alone_norm, nn.Identity)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in trunk.modules())


def test_where_fusing_changes_the_outputs_nothing_is_fused():
    class Odd(nn.Module):
        """Uses its convolution's output outside any module, unseen."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return self.norm(y) + y

    net = MultiHeadNet("torchvision:resnet18", (BlockSpec("stem", "bn1"),), tile_size=32)
    net.trunk.maxpool = Odd()
    trained_norms(net).eval()
    ready = prepare_for_inference(net)
    norms, left = ([m for m in n.modules() if type(m) is nn.BatchNorm2d] for n in (net, ready))
    assert len(left) == len(norms)
    with torch.inference_mode():
        for a, b in zip(net(tiles(2, 32)), ready(tiles(2, 32)), strict=True):
            torch.testing.assert_close(a, b)


def test_a_network_is_prepared_while_another_runs():
    net = trained_norms(MultiHeadNet("timm:test_resnet", (PENULTIMATE,), tile_size=32)).eval()
    x, stop, failed = tiles(2, 32), threading.Event(), []

    def run() -> None:
        try:
            while not stop.is_set():
                with torch.inference_mode():
                    net(x)
        except Exception as error:  # noqa: BLE001  whatever it is, the test must see it
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(10):
        prepare_for_inference(net)
    stop.set()
    thread.join()
    assert not failed


def test_uint8_tiles_are_normalised_as_the_card_says():
    mean, std = (0.7, 0.5, 0.6), (0.2, 0.25, 0.3)
    batch = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    out = normalise(batch, torch.tensor(mean), torch.tensor(std))
    for c in range(3):
        torch.testing.assert_close(out[:, c], (batch[..., c] / 255 - mean[c]) / std[c])
    assert out.is_contiguous(memory_format=torch.channels_last)
    net = MultiHeadNet("timm:test_resnet", tile_size=32)
    logits, _ = InferenceNet(net, mean, std)(batch)
    torch.testing.assert_close(logits, net.eval()(out)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    ["hf-hub:owner/repo", "local-dir:/tmp", "no_such_net", "os.system", "torchvision:raft_small"],
)
def test_only_names_of_the_registries_are_architectures(name: str):
    with pytest.raises(BundleError, match="unknown architecture"):
        resolve_architecture(name)


def test_a_bare_name_is_looked_up_in_timm_first():
    assert resolve_architecture("resnet18") == "timm:resnet18"
    assert resolve_architecture("mnasnet0_5") == "torchvision:mnasnet0_5"


def test_trunks_that_do_not_fit_are_named():
    with pytest.raises(BundleError, match=r"no layer 'no\.such'"):
        MultiHeadNet("timm:test_resnet", (BlockSpec("x", "no.such"),), tile_size=32)
    with pytest.raises(BundleError, match="no linear classifier"):
        MultiHeadNet("torchvision:squeezenet1_0", tile_size=64)
    with pytest.raises(BundleError, match="does not take 8 px tiles"):
        MultiHeadNet("torchvision:alexnet", tile_size=8)


def test_pooling_agrees_between_layouts():
    x = tiles(2, 8)
    expected = torch.cat([x.mean((2, 3)), x.flatten(2).std(2, correction=0)], 1)
    tokens = x.flatten(2).transpose(1, 2)
    for shape in (x, x.contiguous(memory_format=torch.channels_last), tokens):
        torch.testing.assert_close(pool_positions(shape, "mean_std"), expected)
    at_end = pool_positions(x.permute(0, 2, 3, 1), "mean_std", channels_at_end=True)
    torch.testing.assert_close(at_end, expected)
