"""A trunk as a chain of units, so that heads can split off at any of them (needs torch).

A *unit* is what follows what in a trunk: a convolution, a residual block, a dense layer, a
transformer layer. Its depth counts from the heads; pooling, norms and activations on their own
belong to the unit before them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from itertools import chain

import torch
import torchvision
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from napari_ood.errors import BundleError

Unit = tuple[str, nn.Module]
TOLERANCE = 1e-4
"""Largest difference, relative to the largest output, between a trunk and its chain of units."""


class Chain(nn.Module):
    """Modules run one after the other, under the dotted names that they have in their trunk.

    ``nn.Sequential`` allows no dots, and with the trunk's own names its weights and feature layers
    are called the same whether or not heads split off inside it.
    """

    def __init__(self, units: Iterable[Unit]) -> None:
        super().__init__()
        self.names: list[str] = []
        for name, module in units:
            parent: nn.Module = self
            *parents, last = name.split(".")
            for part in parents:
                if not hasattr(parent, part):
                    parent.add_module(part, nn.Module())
                parent = getattr(parent, part)
            parent.add_module(last, module)
            self.names.append(name)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last unit's output."""
        for name in self.names:
            x = self.get_submodule(name)(x)
        return x


def split_trunk(trunk: nn.Module, n_units: int, x: Tensor) -> tuple[Chain, Chain]:
    """Cut a trunk so that its last ``n_units`` units come second.

    Parameters
    ----------
    trunk : nn.Module
        As ``build_trunk`` makes it, in eval mode.
    n_units : int
        At least 1; the first unit is never cut off.
    x : [B, 3, t, t] float
        An input, which shows what follows what; the units are checked against the trunk.

    Raises
    ------
    BundleError
        If the trunk is no chain that is understood, or shorter than that.
    """
    with torch.no_grad():
        units = trunk_units(trunk, x)
    starts = [i for i, (_, module) in enumerate(units) if _has_matrices(module)]
    if len(starts) < 2:
        name = type(trunk).__name__
        raise BundleError(
            f"heads cannot split off inside a {name}: choose a ResNet, VGG, DenseNet, "
            "EfficientNet, ConvNeXt, RegNet, GoogLeNet, Inception or ViT, or head depth 0"
        )
    if n_units >= len(starts):
        raise BundleError(f"head depth must be at most {len(starts) - 1} for this trunk")
    cut = starts[-n_units]
    return Chain(units[:cut]), Chain(units[cut:])


def trunk_units(trunk: nn.Module, x: Tensor) -> list[Unit]:
    """Units of a trunk from its input on, by their names in it; [] if it is no chain of modules.

    One after the other they make of ``x`` what the trunk does.
    """
    expected = trunk(x)
    if isinstance(trunk, VisionTransformer | torchvision.models.VisionTransformer):
        units = _transformer_units(trunk)
        return units if _close(_run(units, x), expected) else []
    # What happens between the last map and the feature vector is often no module.
    bridges: list[list[Unit]] = [
        [("flatten", nn.Flatten(1))],
        [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten(1))],
        [("relu", nn.ReLU()), ("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten(1))],
    ]
    for bridge in bridges:
        try:
            units, y = _follow(trunk, "", x, bridge)
            if y.ndim == 4:
                units += bridge
                y = _run(bridge, y)
        except (RuntimeError, TypeError, NotImplementedError):
            continue
        if _close(y, expected):
            return units
    return []


def ordered_units(trunk: nn.Module, prefix: str = "") -> Iterator[Unit]:
    """Modules of a trunk with weights of their own, in the order of definition (input first)."""
    for name, child in trunk.named_children():
        path = f"{prefix}{name}"
        if _is_list(child) or isinstance(trunk, Chain) or type(child) is nn.Module:
            yield from _ordered_or_leaf(child, path)
        elif any(True for _ in child.parameters()):
            yield path, child


def _ordered_or_leaf(child: nn.Module, path: str) -> Iterator[Unit]:
    if _is_list(child) or type(child) is nn.Module:
        yield from ordered_units(child, f"{path}.")
    elif any(True for _ in child.parameters()):
        yield path, child


def reinitialise(module: nn.Module) -> None:
    """Draw a module's untrained weights anew from the distribution that they have.

    The values of each tensor change places. Layers' own ``reset_parameters`` would not do: trunks
    initialise in ways of their own (scale, last norms of zero), and the heads that were drawn anew
    would start unlike the first one.
    """
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(p.flatten()[torch.randperm(p.numel())].view_as(p))


def _follow(
    module: nn.Module, prefix: str, x: Tensor, bridge: list[Unit]
) -> tuple[list[Unit], Tensor]:
    """Units of a module's children in order, and what they make of ``x``."""
    units: list[Unit] = []
    for name, child in module.named_children():
        if isinstance(child, nn.Identity):
            continue
        if x.ndim == 4 and _wants_vector(child):
            units += bridge
            x = _run(bridge, x)
        path = f"{prefix}{name}"
        inner: list[Unit] = [(path, child)]
        if type(child).forward is nn.Sequential.forward:  # nothing but its children in turn
            inner, y = _follow(child, f"{path}.", x, bridge)
        else:
            y = child(x)
            if _is_list(child):
                found, z = _follow(child, f"{path}.", x, bridge)
                if _close(z, y):
                    inner = found
        units += inner
        x = y
    return units, x


def _transformer_units(trunk: nn.Module) -> list[Unit]:
    """Units of a vision transformer: embedding, layers, norm, choice of the token."""
    if isinstance(trunk, torchvision.models.VisionTransformer):
        layers: list[Unit] = [
            (f"encoder.layers.{name}", layer)
            for name, layer in trunk.encoder.layers.named_children()
        ]
        norm: Unit = ("encoder.ln", trunk.encoder.ln)
        stem = copy.deepcopy(trunk)
        stem.encoder.layers, stem.encoder.ln = nn.Sequential(), nn.Identity()
        return [("stem", _TorchvisionTokens(stem)), *layers, norm, ("token", _FirstToken())]
    assert isinstance(trunk, VisionTransformer)
    layers = [(f"blocks.{name}", layer) for name, layer in trunk.blocks.named_children()]
    stem = copy.deepcopy(trunk)
    stem.blocks, stem.norm = nn.Sequential(), nn.Identity()
    stem.fc_norm = nn.Identity()
    pool = _TimmPool(trunk)
    return [("stem", _TimmTokens(stem)), *layers, ("norm", trunk.norm), ("pool", pool)]


class _TorchvisionTokens(nn.Module):
    """Tokens that enter the first layer: patches, class token, position embedding."""

    def __init__(self, trunk: torchvision.models.VisionTransformer) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Tensor) -> Tensor:
        patches = self.trunk._process_input(x)
        token = self.trunk.class_token.expand(len(x), -1, -1)
        out: Tensor = self.trunk.encoder(torch.cat([token, patches], dim=1))
        return out


class _TimmTokens(nn.Module):
    """Tokens that enter the first block, by the trunk's own ``forward_features``."""

    def __init__(self, trunk: VisionTransformer) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.trunk.forward_features(x)
        return out


class _FirstToken(nn.Module):
    """The class token."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


class _TimmPool(nn.Module):
    """Tokens to one vector as the trunk pools them, and the norm after that."""

    def __init__(self, trunk: VisionTransformer) -> None:
        super().__init__()
        self.kind, self.n_prefix = trunk.global_pool, trunk.num_prefix_tokens
        if self.kind not in ("token", "avg"):
            raise BundleError(f"heads cannot split off a transformer that pools by {self.kind!r}")
        self.fc_norm = trunk.fc_norm

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, 0] if self.kind == "token" else x[:, self.n_prefix :].mean(dim=1)
        out: Tensor = self.fc_norm(x)
        return out


def _is_list(module: nn.Module) -> bool:
    """Whether a module does nothing but run its children in turn (by convention: checked)."""
    return isinstance(module, nn.Sequential) or type(module).__name__.endswith("Stage")


def _wants_vector(module: nn.Module) -> bool:
    first = next(iter(chain(module.children(), [module])))
    while isinstance(first, nn.Dropout | nn.Identity) and isinstance(module, nn.Sequential):
        rest = [m for m in module.children() if not isinstance(m, nn.Dropout | nn.Identity)]
        return bool(rest) and isinstance(rest[0], nn.Linear)
    return isinstance(first, nn.Linear)


def _has_matrices(module: nn.Module) -> bool:
    return any(p.ndim >= 2 for p in module.parameters())


def _run(units: list[Unit], x: Tensor) -> Tensor:
    for _, module in units:
        x = module(x)
    return x


def _close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    return bool((a - b).abs().max() <= TOLERANCE * b.abs().max().clamp_min(1e-6))
