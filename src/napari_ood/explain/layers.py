"""Which layers of a trunk have maps, and what a layer says and is told (needs torch)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_ood.errors import BundleError, ExplainError
from napari_ood.explain.objective import Objective
from napari_ood.models.network import MultiHeadNet
from napari_ood.models.spatial import spatial_map


class Maps(NamedTuple):
    """What a layer says about each place, and how the target depends on it.

    Attributes
    ----------
    activations, gradients : [B, C, h, w] float32
    """

    activations: Tensor
    gradients: Tensor


class Layers(NamedTuple):
    """Layers of a trunk that have maps.

    Attributes
    ----------
    finest_first : per size of map the last block that makes it, by its name in the trunk
    sizes : (h, w) of each
    """

    finest_first: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]


@contextmanager
def watched(module: nn.Module, hook: object) -> Iterator[None]:
    """Hook a module's forward for a while; the hook comes first and goes whatever happens."""
    handle = module.register_forward_hook(hook, prepend=True)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


def find_layers(net: MultiHeadNet) -> Layers:
    """Find a trunk's layers that have maps and that the logits depend on, place by place.

    A vision transformer that reads its class token does not depend on the patches' tokens of its
    last layer: they have no gradient, and so are not among the layers.
    """
    found: dict[tuple[int, int], str] = {}
    tokens = False
    for name, output, gradient in _outputs(net):
        try:
            maps = spatial_map(output, name, net.channels_at_end)
            slopes = spatial_map(gradient, name, net.channels_at_end)
        except BundleError:
            continue
        size = (int(maps.shape[2]), int(maps.shape[3]))
        if not bool(slopes.any()) or (found and size > list(found)[-1]):
            continue  # unread tokens; a side branch, or a map that is stretched for the classifier
        if size[0] != size[1] or (output.ndim == 3 and not _in_sequence(net.trunk, name)):
            continue  # channels where positions are expected; tokens on their way through a block
        # Whole blocks rather than what is inside them: people know their names.
        deeper = size in found and name.count(".") > found[size].count(".")
        if not deeper or (output.ndim == 3 and not tokens):
            found[size], tokens = name, output.ndim == 3
    return Layers(tuple(found.values()), tuple(found))


def _in_sequence(trunk: nn.Module, name: str) -> bool:
    return isinstance(trunk.get_submodule(name.rpartition(".")[0]), nn.Sequential)


def _outputs(net: MultiHeadNet) -> list[tuple[str, Tensor, Tensor]]:
    """Name, output and gradient of each module of the trunk that runs once, in order."""
    names = {module: name for name, module in net.trunk.named_modules() if name}
    kept: list[tuple[nn.Module, Tensor]] = []
    pooled: list[Tensor] = []

    def hook(module: nn.Module, _: object, output: object) -> Tensor | None:
        if not isinstance(output, Tensor) or not output.requires_grad or output.ndim not in (3, 4):
            return None
        if len(output) != len(x):  # windows of a tile, side by side
            return None
        if "Pool" in type(module).__name__:
            pooled.append(output)
        if not _makes_maps(module) or any(output is other for other in pooled):
            return None
        kept.append((module, output))
        return output.clone()  # what follows may change its input in place

    handles = [module.register_forward_hook(hook, prepend=True) for module in names]
    generator = torch.Generator().manual_seed(0)
    device = next(net.parameters()).device
    x = torch.randn(2, 3, net.tile_size, net.tile_size, generator=generator).to(device)
    try:
        with torch.enable_grad():
            logits = net.logits(x.requires_grad_())
            direction = torch.randn(logits.shape, generator=generator).to(device)
            tensors = [output for _, output in kept]
            total = (logits * direction).sum()
            gradients = torch.autograd.grad(total, tensors, allow_unused=True) if tensors else ()
    finally:
        for handle in handles:
            handle.remove()
    modules = [module for module, _ in kept]
    return [
        (names[module], output.detach(), gradient)
        for (module, output), gradient in zip(kept, gradients, strict=True)
        if gradient is not None and modules.count(module) == 1
    ]


def _makes_maps(module: nn.Module) -> bool:
    """Whether a module computes: pooling, dropout and reshaping only hand on."""
    activation = type(module).__module__ == "torch.nn.modules.activation"
    return activation or any(True for _ in module.parameters())


def in_running_order(module: nn.Module, prefix: str = "") -> list[str]:
    """Names of a module's layers, each after those inside it: by when their outputs are there."""
    names: list[str] = []
    for name, child in module.named_children():
        names += [*in_running_order(child, f"{prefix}{name}."), f"{prefix}{name}"]
    return names


def maps_of(objective: Objective, rgb: Tensor, layer: str) -> Maps:
    """Run tiles ``[B, 3, t, t]`` and return a layer's maps with the target's gradient.

    The backward pass ends at the layer: it costs less than a gradient of the pixels.

    Raises
    ------
    ExplainError
        If there is no such layer, it has no maps, or the target does not depend on it.
    """
    net = objective.net
    try:
        module = net.trunk.get_submodule(layer)
    except AttributeError:
        raise ExplainError(f"{net.architecture} has no layer {layer!r}") from None
    kept: list[Tensor] = []

    def hook(_: nn.Module, __: object, output: object) -> Tensor:
        if not isinstance(output, Tensor):
            raise ExplainError(f"layer {layer!r} of {net.architecture} gives no single map")
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()  # what follows may change its input in place

    with watched(module, hook), torch.enable_grad():
        value = objective(rgb)
        if len(kept) != 1:
            times = "never runs" if not kept else "runs more than once"
            raise ExplainError(f"{net.architecture} {times} its layer {layer!r}: choose another")
        if not value.requires_grad:
            raise _independent(layer)
        (gradient,) = torch.autograd.grad(value.sum(), kept, allow_unused=True)
    if gradient is None:
        raise _independent(layer)
    what = f"layer {layer!r} of {net.architecture}"
    try:
        activations = spatial_map(kept[0].detach(), what, net.channels_at_end)
        return Maps(activations, spatial_map(gradient, what, net.channels_at_end))
    except BundleError as error:
        raise ExplainError(str(error)) from None


def _independent(layer: str) -> ExplainError:
    return ExplainError(f"the target does not depend on layer {layer!r}: choose an earlier layer")
