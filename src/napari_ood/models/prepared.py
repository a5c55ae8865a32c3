"""A trained network made ready to run: eval mode, fused, channels_last, fed with uint8 tiles."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_ood.models.network import MultiHeadNet

FUSION_TOLERANCE = 1e-4
"""Largest change of a logit, relative to the largest logit, that fusing may cause in float32."""


def normalise(tiles: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Turn uint8 tiles ``[B, t, t, 3]`` into normalised float32 ``[B, 3, t, t]``, channels_last.

    ``mean`` and ``std`` are ``[3]`` float32 on the device of the tiles, for RGB scaled to 0…1.
    NHWC in memory *is* channels_last, so nothing is copied but the conversion itself.
    """
    scale = (1.0 / (255.0 * std)).view(1, 3, 1, 1)
    shift = (-mean / std).view(1, 3, 1, 1)
    return torch.addcmul(shift, tiles.permute(0, 3, 1, 2).float(), scale)


class InferenceNet(nn.Module):
    """uint8 tiles in, float32 logits and features out: what the engine calls.

    Attributes
    ----------
    net : MultiHeadNet
        The network itself, for normalised float tiles ``[B, 3, t, t]``: saliency works on it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: MultiHeadNet, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = prepare_for_inference(net)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Return float32 logits ``[B, M, C]``, features ``[B, D]`` of uint8 ``[B, t, t, 3]``."""
        logits, features = self.net(normalise(tiles, self.mean, self.std))
        return logits.float().contiguous(), features.float().contiguous()


def prepare_for_inference(net: MultiHeadNet) -> MultiHeadNet:
    """Return a copy in eval mode and channels_last with its batch norms folded into convolutions.

    The copy computes the same function. Where the trunk can't be traced, or fusing changes the
    logits by more than ``FUSION_TOLERANCE``, it stays unfused. Parameters need no gradients;
    gradients with respect to the tiles work.
    """
    plain = _frozen(net)
    fused = _frozen(net)
    tapped = {spec.layer for spec in net.specs}
    if not fuse_batch_norms(fused.trunk, keep=tapped):
        return plain
    fused.attach_taps()
    fused = fused.to(memory_format=torch.channels_last)
    return fused if _agree(plain, fused) else plain


def _frozen(net: MultiHeadNet) -> MultiHeadNet:
    clone = copy.deepcopy(net).eval().requires_grad_(False)
    return clone.to(memory_format=torch.channels_last)


def _agree(plain: MultiHeadNet, fused: MultiHeadNet) -> bool:
    generator = torch.Generator().manual_seed(0)
    size = plain.tile_size
    x = torch.randn(2, 3, size, size, generator=generator)
    x = x.to(next(plain.parameters()).device, memory_format=torch.channels_last)
    with torch.inference_mode():
        for a, b in zip(plain(x), fused(x), strict=True):
            largest = a.abs().max().clamp_min(1e-6)
            if not bool((a - b).abs().max() <= FUSION_TOLERANCE * largest):
                return False
    return True


def fuse_batch_norms(trunk: nn.Module, keep: set[str]) -> int:
    """Fold each batch norm that directly follows a convolution into it; return how many.

    Works on the module tree, in eval mode, so that names, hooks and dynamic forwards stay as they
    are. The batch norm becomes an identity (timm's norm+activation layers keep their activation).
    Convolutions named in ``keep`` are left alone: their own output is asked for.
    """
    try:
        graph = _NormsAsLeaves().trace(trunk)
    except Exception:  # noqa: BLE001 tracing runs foreign code and fails in any way; unfused is right
        return 0
    modules = dict(trunk.named_modules())
    calls: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls[str(node.target)] = calls.get(str(node.target), 0) + 1
    done = 0
    for conv_name, norm_name in _pairs(graph, modules):
        if conv_name in keep or calls[conv_name] > 1 or calls[norm_name] > 1:
            continue
        conv, norm = modules[conv_name], modules[norm_name]
        trunk.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        trunk.set_submodule(norm_name, _after_norm(norm))
        done += 1
    return done


class _NormsAsLeaves(fx.Tracer):
    """Keeps batch norms whole, timm's norm+activation layers too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _pairs(graph: fx.Graph, modules: dict[str, nn.Module]) -> list[tuple[str, str]]:
    found = []
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(
            modules.get(str(node.target)), nn.BatchNorm2d
        ):
            continue
        source = node.args[0]
        is_call = isinstance(source, fx.Node) and source.op == "call_module"
        if is_call and len(source.users) == 1 and type(modules[str(source.target)]) is nn.Conv2d:
            found.append((str(source.target), str(node.target)))
    return found


def _after_norm(norm: nn.Module) -> nn.Module:
    """What remains of a batch norm layer once its arithmetic sits in the convolution."""
    rest = [getattr(norm, name, None) for name in ("drop", "act")]
    kept = [module for module in rest if isinstance(module, nn.Module)]
    return nn.Sequential(*kept) if kept else nn.Identity()
