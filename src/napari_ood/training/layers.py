"""Which layers of a trunk to store features of, when nobody says (torch)."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_ood.models import MultiHeadNet
from napari_ood.models.trunks import positions_last
from napari_ood.training.config import BlockSpecs

EARLY_OCTAVE = 2
"""Early features come from maps at a quarter of the tile's resolution: past the first edges, with
enough positions left for statistics over them."""


class _Seen(NamedTuple):
    name: str
    module: nn.Module
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Stage:
    """A candidate layer: where its maps are, in octaves below the tile's resolution."""

    name: str
    octave: int
    n_parameters: int


def default_blocks(architecture: str, tile: int, head_blocks: int = 0) -> BlockSpecs:
    """Feature blocks ``early`` and ``middle`` (mean and deviation) and ``penultimate`` (mean).

    One forward pass shows how maps shrink. Early is the layer with the most parameters at a
    quarter of the resolution (a ResNet's ``layer1``), middle the one halfway, in octaves, from
    there to the smallest maps (``layer2``): what later layers of a classifier keep of a tissue is
    what tells its classes apart. Where resolution does not change (ViT), they are the layers a
    quarter and a half of the way.

    Parameters
    ----------
    architecture : as ``MultiHeadNet`` takes it
    tile : side of the tiles in px
    head_blocks : units that each head has for itself; only layers before those are chosen

    Raises
    ------
    BundleError
        If the architecture is unknown or does not take such tiles or heads.
    """
    with torch.random.fork_rng(devices=[]):
        net = MultiHeadNet(architecture, n_heads=1, tile_size=tile, head_blocks=head_blocks)
    seen = _forward(net.trunk.eval(), tile)
    chosen = _by_resolution(seen, tile, positions_last(net.trunk)) or _by_depth(seen)
    blocks = [
        (name, layer, "mean_std") for name, layer in zip(("early", "middle"), chosen, strict=False)
    ]
    return (*blocks, ("penultimate", "penultimate", "mean"))


def _forward(trunk: nn.Module, tile: int) -> list[_Seen]:
    """Modules that run just once and give one tensor, in the order in which they finish."""
    seen: list[_Seen] = []
    calls: Counter[str] = Counter()

    def note(name: str, module: nn.Module, output: object) -> None:
        calls[name] += 1
        if isinstance(output, Tensor):
            seen.append(_Seen(name, module, tuple(output.shape)))

    hooks = [
        module.register_forward_hook(lambda m, _, output, name=name: note(name, m, output))
        for name, module in trunk.named_modules()
        if name and not isinstance(module, nn.Identity | nn.Dropout)
    ]
    try:
        with torch.no_grad():
            trunk(torch.zeros(1, 3, tile, tile))
    finally:
        for hook in hooks:
            hook.remove()
    return [entry for entry in seen if calls[entry.name] == 1]


def _by_resolution(seen: list[_Seen], tile: int, channels_at_end: bool) -> list[str]:
    """Names of the early and the middle layer; [] where maps do not shrink step by step."""
    stages = _stages(seen, tile, channels_at_end)
    octaves = sorted({stage.octave for stage in stages})
    if len(octaves) < 2:
        return []
    usable = [octave for octave in octaves if octave >= EARLY_OCTAVE] or octaves[-1:]
    if len(usable) == 1:  # heads split off early: whatever is left before them
        usable = octaves[-2:]
    early, middle = usable[0], usable[max(1, (len(usable) - 1) // 2)]
    return [_strongest(stages, early), _strongest(stages, middle)]


def _stages(seen: list[_Seen], tile: int, channels_at_end: bool) -> list[_Stage]:
    found: dict[str, _Stage] = {}
    smallest = tile
    axis = 1 if channels_at_end else 2
    for name, module, shape in seen:
        if len(shape) != 4 or not 2 <= shape[axis] <= smallest:
            continue  # vectors, pooled statistics (squeeze-excitation), maps enlarged again
        smallest = shape[axis]
        octave = round(math.log2(tile / shape[axis]))
        n_parameters = sum(p.numel() for p in module.parameters())
        found[name] = _Stage(name, octave, n_parameters)
    return [stage for stage in found.values() if not _inside_same(stage, found)]


def _inside_same(stage: _Stage, found: dict[str, _Stage]) -> bool:
    """Whether a module that contains this one gives maps of the same size."""
    parts = stage.name.split(".")
    parents = (".".join(parts[:i]) for i in range(1, len(parts)))
    return any(p in found and found[p].octave == stage.octave for p in parents)


def _strongest(stages: list[_Stage], octave: int) -> str:
    """The layer with most parameters, or the norms and activations that directly follow it."""
    level = [stage for stage in stages if stage.octave == octave]
    best = max(range(len(level)), key=lambda i: (level[i].n_parameters, i))
    parent = level[best].name.rpartition(".")[0]
    n = level[best].n_parameters
    while best + 1 < len(level) and parent:
        after = level[best + 1]
        if after.name.rpartition(".")[0] != parent or after.n_parameters * 8 > n:
            break
        best += 1
    return level[best].name


def _by_depth(seen: list[_Seen]) -> list[str]:
    """Names of the layers at a quarter and half of the longest run of equal layers of tokens."""
    runs: dict[tuple[str, type[nn.Module]], list[str]] = {}
    for name, module, shape in seen:
        if len(shape) in (3, 4) and any(p.ndim >= 2 for p in module.parameters()):
            runs.setdefault((name.rpartition(".")[0], type(module)), []).append(name)
    if not runs:
        return []
    # The outermost run: layers of the trunk, not the matrices inside a layer.
    layers = min(runs.values(), key=lambda names: (len(names) < 2, names[0].count(".")))
    n = len(layers)
    return [layers[max(0, n // 4 - 1)], layers[max(0, n // 2 - 1)]]
