"""Networks whose answers are known, behind the same door as real ones."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_ood.explain import Explainer
from napari_ood.explain.engine import Engine
from napari_ood.models import Bundle, Card, MultiHeadNet
from napari_ood.models.card import FeatureBlock
from napari_ood.models.network import Heads

SIDE = 32
MEAN, STD = (0.5, 0.4, 0.6), (0.2, 0.25, 0.3)


class HandMade(Bundle):
    """A bundle without files: a network, and a card that fits it."""

    def __init__(self, net: MultiHeadNet, side: int = SIDE) -> None:
        card = Card(
            name="hand-made",
            classes=tuple(f"class {c}" for c in range(net.n_classes)),
            architecture=net.architecture,
            tile_size=side,
            mpp=1.0,
            mean=MEAN,
            std=STD,
            n_heads=net.n_heads,
            blocks=(FeatureBlock("penultimate", "penultimate", "mean", 0, 1),),
            scores={"uncertainty": "entropy", "ood": "mahalanobis"},
            temperature=0.7,
        )
        super().__init__(Path("hand-made"), card, {})
        self.net = net

    def trained_network(self, blocks: object = None) -> MultiHeadNet:
        return copy.deepcopy(self.net)


def around(trunk: nn.Module, width: int, n_heads: int = 2, n_classes: int = 2) -> MultiHeadNet:
    """A multi-head network with this trunk, which gives [B, width]."""
    net = MultiHeadNet("timm:test_resnet", n_heads=n_heads, n_classes=n_classes, tile_size=SIDE)
    net.trunk = trunk
    net.heads = Heads(width, n_heads, n_classes, 0, 0, 0.0)
    return net.eval()


def explainer_of(net: MultiHeadNet, side: int = SIDE) -> Explainer:
    """An explainer of a hand-made network."""
    return Explainer(HandMade(net, side), "cpu")


def engine_of(explainer: Explainer) -> Engine:
    """What the explainer has behind its lock."""
    return explainer._engine()


def colours(tiles: NDArray[np.uint8]) -> Tensor:
    """Tiles as the objective takes them."""
    return torch.from_numpy(tiles).permute(0, 3, 1, 2).float().div(255).contiguous()


def noise_tiles(n: int, side: int = SIDE, seed: int = 0) -> NDArray[np.uint8]:
    """Tiles of noise with a smooth part."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 200, (n, 4, 4, 3)).repeat(side // 4, 1).repeat(side // 4, 2)
    tiles = np.full((n, side, side, 3), 128.0)
    tiles[:, : coarse.shape[1], : coarse.shape[2]] = coarse
    return (tiles + rng.normal(0, 12, tiles.shape)).clip(0, 255).astype(np.uint8)


class TextureFinder(nn.Module):
    """Two channels of maps that answer to fine checks and to nothing smooth; a class each sign."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = nn.Conv2d(3, 2, 3, padding=1, padding_mode="replicate")
        self.act = nn.ReLU()
        self.summed = nn.Conv2d(2, 2, 4, stride=4, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        laplace = torch.tensor([[-1.0, -1, -1], [-1, 8, -1], [-1, -1, -1]]) / 8
        with torch.no_grad():
            self.edges.weight.copy_(laplace * torch.tensor([1.0, -1]).view(2, 1, 1, 1))
            self.edges.bias.fill_(-0.8)
            self.summed.weight.fill_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.summed(self.act(self.edges(x)))
        return self.pool(x).flatten(1)


def texture_net(n_heads: int = 2) -> MultiHeadNet:
    """Class 1 speaks for checks, class 0 against them."""
    net = around(TextureFinder(), 2, n_heads)
    with torch.no_grad():
        net.heads.weights[0].copy_(torch.tensor([[-1.0, -1.0], [4.0, 4.0]]).expand(n_heads, 2, 2))
        net.heads.biases[0].copy_(torch.tensor([0.0, -1.4]).expand(n_heads, 2))  # p 0.1 … 0.9
    return net


def planted_tile() -> tuple[NDArray[np.uint8], tuple[slice, slice]]:
    """A smooth tile with a patch of checks, and where the patch is."""
    ramp = np.linspace(90, 140, SIDE)[:, None, None]
    tile = np.broadcast_to(ramp, (SIDE, SIDE, 3)).astype(np.uint8).copy()
    where = (slice(8, 16), slice(16, 24))
    checks = np.indices((8, 8)).sum(axis=0) % 2 * 140 + 50
    tile[where] = checks[..., None]
    return tile, where
