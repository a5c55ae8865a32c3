"""A bundle's network together with the spatial maps of some of its layers (needs torch)."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_ood.errors import BundleError
from napari_ood.models.prepared import InferenceNet
from napari_ood.models.trunks import positions_last

MAX_EXTRA_TOKENS = 5
"""A class token and four registers."""


class Seen(NamedTuple):
    """What a network saw in a batch of tiles.

    Attributes
    ----------
    logits : [B, M, C] float32
    features : [B, D] float32
    maps : layer → [B, C, h, w] float32, what that layer says about each place of the tile
    """

    logits: Tensor
    features: Tensor
    maps: dict[str, Tensor]

    def predicted(self) -> Tensor:
        """Class with the highest mean probability over the heads; [B] int64."""
        return torch.softmax(self.logits, dim=2).mean(dim=1).argmax(dim=1)


class SpatialNet:
    """Runs a network once and keeps the maps of layers on the way; safe for several threads.

    Parameters
    ----------
    network : InferenceNet
        Its trunk gets hooks, so it must not be shared.
    layers : names of modules of the trunk, as feature blocks name them

    Raises
    ------
    BundleError
        If the trunk has no such layer.
    """

    def __init__(self, network: InferenceNet, layers: Iterable[str]) -> None:
        self.network = network
        self.layers = tuple(dict.fromkeys(layers))
        self._lock = threading.Lock()
        self._maps: dict[str, Tensor] = {}
        trunk = network.net.trunk
        self._channels_at_end = positions_last(trunk)
        for name in self.layers:
            try:
                layer = trunk.get_submodule(name)
            except AttributeError:
                raise BundleError(f"{network.net.architecture} has no layer {name!r}") from None
            layer.register_forward_hook(self._keep(name))

    @property
    def device(self) -> torch.device:
        """Where tiles must be."""
        return self.network.mean.device

    def __call__(self, tiles: Tensor) -> Seen:
        """Run uint8 tiles ``[B, t, t, 3]`` on the network's device.

        Raises
        ------
        BundleError
            If a layer is never run, or gives nothing that has places.
        """
        with self._lock:
            self._maps = {}
            logits, features = self.network(tiles)
            raw, self._maps = self._maps, {}
        architecture = self.network.net.architecture
        unused = [name for name in self.layers if name not in raw]
        if unused:
            raise BundleError(f"{architecture} never runs its layer {unused[0]!r}")
        maps = {
            name: spatial_map(raw[name], f"layer {name!r} of {architecture}", self._channels_at_end)
            for name in self.layers
        }
        return Seen(logits, features, maps)

    def _keep(self, name: str) -> _Keep:
        return _Keep(self, name)

    def keep(self, name: str, output: Tensor) -> None:
        """Note a layer's output of the forward pass under way."""
        self._maps[name] = output


class _Keep:
    """A forward hook that hands its layer's output on."""

    def __init__(self, owner: SpatialNet, name: str) -> None:
        self.owner, self.name = owner, name

    def __call__(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.owner.keep(self.name, output)


def spatial_map(output: Tensor, what: str, channels_at_end: bool = False) -> Tensor:
    """A layer's output as ``[B, C, h, w]`` float32.

    Tokens ``[B, n, C]`` become the square that they were cut from; tokens before them that stand
    for no place (class, registers) are left out.

    Parameters
    ----------
    output : [B, C, h, w] (or [B, h, w, C] if ``channels_at_end``), or [B, n, C]
    what : names the layer in errors

    Raises
    ------
    BundleError
        If there is no place to tell from another: pooled vectors, maps of 1 × 1, no square.
    """
    if output.ndim == 4:
        found = output.permute(0, 3, 1, 2) if channels_at_end else output
    elif output.ndim == 3:
        side = math.isqrt(output.shape[1])
        extra = output.shape[1] - side * side
        if extra > MAX_EXTRA_TOKENS:
            raise BundleError(f"{what} gives {output.shape[1]} tokens, which are no square")
        found = output[:, extra:].transpose(1, 2).reshape(len(output), -1, side, side)
    else:
        raise BundleError(f"{what} has no places, only one vector per tile: choose an earlier one")
    if found.shape[2] * found.shape[3] < 2:
        raise BundleError(f"{what} has one place only (1 × 1): choose an earlier layer")
    return found.float()
