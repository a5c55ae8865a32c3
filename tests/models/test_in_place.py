"""Activations in place: where outputs stay equal, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_ood.models import BlockSpec, InferenceNet, MultiHeadNet

MEAN, STD = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)


def _tiles(side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (3, side, side, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("architecture", ["timm:resnet18", "torchvision:densenet121"])
def test_outputs_stay_equal_bit_for_bit(architecture: str) -> None:
    torch.manual_seed(0)
    layer = "layer1" if "resnet" in architecture else "features.denseblock1"
    blocks = (BlockSpec("early", layer, "mean_std"), BlockSpec("penultimate", "penultimate"))
    net = InferenceNet(MultiHeadNet(architecture, blocks, tile_size=64), MEAN, STD)
    tiles = _tiles(64)
    with torch.inference_mode():
        before = net(tiles)
        assert net.activate_in_place()
        after = net(tiles)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a, b)
    acts = [m for m in net.modules() if isinstance(m, nn.ReLU)]
    assert acts
    assert all(m.inplace for m in acts)


def test_a_network_that_needs_what_would_be_overwritten_is_left_as_it_was() -> None:
    class Residual(nn.Module):
        """Adds what went into its ReLU."""

        def __init__(self, relu: nn.Module) -> None:
            super().__init__()
            self.relu = relu

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(x) + x

    torch.manual_seed(0)
    net = MultiHeadNet("timm:test_resnet", tile_size=32)
    net.trunk.act1 = Residual(net.trunk.act1)
    net.trunk.maxpool = nn.AvgPool2d(3, 2, 1)  # a maximum would hide what was below zero
    prepared = InferenceNet(net, MEAN, STD)
    tiles = _tiles(32)
    with torch.inference_mode():
        before = prepared(tiles)
        assert not prepared.activate_in_place()
        after = prepared(tiles)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(getattr(m, "inplace", False) for m in prepared.modules())
