"""The small DenseNet of Linmans et al., MIDL 2020: three blocks of four layers, growth 32."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NAME = "mheads_densenet"
BLOCKS, GROWTH, BOTTLENECK, REDUCTION = (4, 4, 4), 32, 2, 0.5


class DenseLayer(nn.Module):
    """BN, ReLU, 1 × 1 convolution, BN, ReLU, 3 × 3 convolution; the output joins the input."""

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        width = BOTTLENECK * GROWTH
        self.norm1 = nn.BatchNorm2d(n_inputs)
        self.conv1 = nn.Conv2d(n_inputs, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B, C + growth, h, w]`` of ``[B, C, h, w]``."""
        new = self.conv1(torch.relu(self.norm1(x)))
        new = self.conv2(torch.relu(self.norm2(new)))
        return torch.cat([x, new], dim=1)


class Transition(nn.Module):
    """BN, ReLU, 1 × 1 convolution to half the channels, 2 × 2 average pooling."""

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(n_inputs)
        self.conv = nn.Conv2d(n_inputs, int(n_inputs * REDUCTION), 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B, C / 2, h / 2, w / 2]`` of ``[B, C, h, w]``."""
        out: Tensor = self.pool(self.conv(torch.relu(self.norm(x))))
        return out


def mheads_densenet() -> nn.Sequential:
    """Build the trunk: ``[B, 3, t, t]`` → ``[B, D]``.

    As released, but with padded convolutions and average pooling: theirs are unpadded with a
    full-extent convolution as classifier, for dense inference, which a tile grid does not need.
    Every dense layer is a unit of its own, so that heads can split off between them; the paper's
    head depth 4 (two layers of two convolutions) is ``head_blocks=2``.
    """
    layers: dict[str, nn.Module] = {
        "stem": nn.Sequential(
            nn.Conv2d(3, 2 * GROWTH, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(2 * GROWTH),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
    }
    width = 2 * GROWTH
    for i, n_layers in enumerate(BLOCKS):
        if i > 0:
            layers[f"transition{i}"] = Transition(width)
            width = int(width * REDUCTION)
        block: dict[str, nn.Module] = {}
        for j in range(n_layers):
            block[f"layer{j + 1}"] = DenseLayer(width)
            width += GROWTH
        layers[f"block{i + 1}"] = nn.Sequential()
        for name, layer in block.items():
            layers[f"block{i + 1}"].add_module(name, layer)
    layers["norm"] = nn.BatchNorm2d(width)
    layers["relu"] = nn.ReLU()
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten(1)
    trunk = nn.Sequential()
    for name, module in layers.items():
        trunk.add_module(name, module)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return trunk
