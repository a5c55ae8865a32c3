"""A trained network made ready to run: eval mode, fused, channels_last, fed with uint8 tiles."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_ood.models.network import MultiHeadNet, Tap
from napari_ood.models.winograd import NOT_TO_BE_HAD, WinogradConv2d

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest change of an output, relative to the largest of its kind, that other arithmetic may cause
in float32: fused batch norms, or convolutions after Winograd."""


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

    def activate_in_place(self) -> bool:
        """Let activations overwrite their input, for good; return whether the network bears it.

        A tenth of the time of a network of narrow layers goes into fresh memory for them. What a
        layer overwrites may be needed elsewhere, in a sum or a concatenation: outputs must stay
        equal bit for bit, or nothing changes. Not for a network that gradients or other people's
        hooks look into.
        """
        x = _example(self.net)
        changed = [m for m in self.net.modules() if getattr(m, "inplace", None) is False]
        with torch.inference_mode():
            before = self.net(x)
            _set_in_place(changed, True)
            after = self.net(x)
        is_same = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        if not is_same:
            _set_in_place(changed, False)
        return is_same

    def use_winograd(self) -> bool:
        """Convolve after Winograd where that is faster, for good; return whether anywhere.

        Outputs must stay what they are but for rounding, or nothing changes; neither does it where
        no machine code can be made.
        """
        convs = {
            name: module
            for name, module in self.net.named_modules()
            if WinogradConv2d.suits(module) and not _is_watched(module)
        }
        try:
            fast = {name: WinogradConv2d(conv) for name, conv in convs.items()}
        except NOT_TO_BE_HAD as error:
            log.info("no Winograd convolutions: %s", error)
            return False
        if not fast:
            return False
        x = _example(self.net)
        with torch.inference_mode():
            before = self.net(x)
        try:
            return _replace_if_close(self.net, fast, x, before)
        except Exception as error:  # noqa: BLE001  whatever a network does with a convolution's parts
            log.info("no Winograd convolutions: %s", error)
            return False


def prepare_for_inference(net: MultiHeadNet) -> MultiHeadNet:
    """Return a copy in eval mode and channels_last with its batch norms folded into convolutions.

    The copy computes the same function. Where fusing changes an output by more than
    ``TOLERANCE``, it stays unfused. Parameters need no gradients;
    gradients with respect to the tiles work.
    """
    ready = copy.deepcopy(net).eval().requires_grad_(False)
    ready.to(memory_format=torch.channels_last)
    x = _example(ready)
    expected, fused = fused_batch_norms(ready, {f"trunk.{spec.layer}" for spec in net.specs}, x)
    if fused:
        _replace_if_close(ready, fused, x, expected)
    return ready


def _replace_if_close(
    net: MultiHeadNet, modules: Mapping[str, nn.Module], x: Tensor, expected: tuple[Tensor, Tensor]
) -> bool:
    """Replace modules by name, unless that changes what becomes of ``x``; return whether."""
    usual = {name: net.get_submodule(name) for name in modules}
    _replace(net, modules)
    net.to(memory_format=torch.channels_last)
    is_close = False
    try:
        with torch.inference_mode():
            is_close = _close(_parts(net, expected), _parts(net, net(x)))
    finally:
        if not is_close:
            _replace(net, usual)
    return is_close


def _replace(net: MultiHeadNet, modules: Mapping[str, nn.Module]) -> None:
    for name, module in modules.items():
        net.set_submodule(name, module)
    net.attach_taps()


def _set_in_place(modules: Sequence[nn.Module], value: bool) -> None:
    for module in modules:
        module.inplace = value  # type: ignore[assignment]


def _example(net: MultiHeadNet) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, net.tile_size, net.tile_size, generator=generator)
    return x.to(next(net.parameters()).device, memory_format=torch.channels_last)


def _is_watched(module: nn.Module) -> bool:
    """Whether hooks of others than the network hang on a module: with it they would be gone."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    return not all(isinstance(hook, Tap) for hook in hooks)


def _parts(net: MultiHeadNet, outputs: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Logits and each block of features, whose magnitudes may differ a lot."""
    logits, features = outputs
    return [logits, *(features[:, block.start : block.stop] for block in net.blocks)]


def _close(expected: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    return all(
        bool((a - b).abs().max() <= TOLERANCE * a.abs().max().clamp_min(1e-6))
        for a, b in zip(expected, outputs, strict=True)
    )


def fused_batch_norms(
    net: nn.Module, keep: set[str], x: Tensor
) -> tuple[Any, dict[str, nn.Module]]:
    """Fold each batch norm that directly follows a convolution into it; replaces nothing yet.

    Works on the module tree, in eval mode, so that names, hooks and dynamic forwards stay as they
    are. The batch norm becomes an identity (timm's norm+activation layers keep their activation).
    Convolutions named in ``keep`` are left alone: their own output is asked for. ``x`` is an input
    for one forward pass, which shows what follows what.

    A use of a convolution's output outside any module goes unseen; who fuses compares outputs.

    Returns
    -------
    output : what the network makes of ``x``, unfused
    fused : by name, what is to take the place of convolutions and batch norms
    """
    modules = dict(net.named_modules())
    output, pairs = _pairs(net, modules, x)
    fused = {}
    for conv_name, norm_name in pairs:
        if conv_name not in keep:
            conv, norm = modules[conv_name], modules[norm_name]
            fused[conv_name] = fuse_conv_bn_eval(conv, norm)
            fused[norm_name] = _after_norm(norm)
    return output, fused


def _pairs(
    net: nn.Module, modules: dict[str, nn.Module], x: Tensor
) -> tuple[Any, list[tuple[str, str]]]:
    """Names of convolutions and the batch norms that alone take their output, each called once.

    The network's output comes first. Seen by hooks on this network only: symbolic tracing
    (torch.fx) patches all modules of the process while it works, and breaks a network that runs in
    another thread.
    """
    outputs: dict[int, tuple[str, Tensor]] = {}  # the tensors are kept, or an id could come again
    consumers: dict[str, list[str]] = {}
    calls: Counter[str] = Counter()

    def before(name: str, args: tuple[object, ...]) -> None:
        calls[name] += 1
        for source in {outputs[id(arg)][0] for arg in args if id(arg) in outputs}:
            consumers.setdefault(source, []).append(name)

    def after(name: str, output: Tensor) -> None:
        outputs[id(output)] = (name, output)

    hooks = []
    for name, module in modules.items():
        if isinstance(module, nn.BatchNorm2d) or not any(module.children()):
            hooks.append(
                module.register_forward_pre_hook(lambda _, args, name=name: before(name, args))
            )
        if type(module) is nn.Conv2d:
            hooks.append(
                module.register_forward_hook(lambda _, __, output, name=name: after(name, output))
            )
    try:
        with torch.no_grad():
            output = net(x)
    finally:
        for hook in hooks:
            hook.remove()
    found = [(conv, names[0]) for conv, names in consumers.items() if len(names) == 1]
    return output, [
        (conv, norm)
        for conv, norm in found
        if isinstance(modules[norm], nn.BatchNorm2d) and calls[conv] == calls[norm] == 1
    ]


def _after_norm(norm: nn.Module) -> nn.Module:
    """What remains of a batch norm layer once its arithmetic sits in the convolution."""
    rest = [getattr(norm, name, None) for name in ("drop", "act")]
    kept = [module for module in rest if isinstance(module, nn.Module)]
    return nn.Sequential(*kept) if kept else nn.Identity()
