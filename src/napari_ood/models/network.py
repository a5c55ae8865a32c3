"""``MultiHeadNet``: a trunk by name, M heads, and features from any of its layers (needs torch)."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_ood.errors import BundleError
from napari_ood.models.card import FeatureBlock
from napari_ood.models.trunks import build_trunk, positions_last, resolve_architecture

PENULTIMATE = "penultimate"
VARIANCE_FLOOR = 1e-8
"""Keeps the gradient of a standard deviation finite where a feature map is constant."""

# Pooled layers of the forward pass under way in this thread; None: nobody asks for features. A
# context variable, not an attribute, so that two threads can use one network at the same time.
_TAPPED: ContextVar[dict[int, Tensor] | None] = ContextVar("napari_ood_tapped", default=None)


class BlockSpec(NamedTuple):
    """A layer to read features from: name of the block, the trunk's module, how to pool it."""

    name: str
    layer: str
    pool: str = "mean"


PENULTIMATE_ONLY = (BlockSpec(PENULTIMATE, PENULTIMATE),)


def pool_positions(x: Tensor, pool: str, channels_at_end: bool = False) -> Tensor:
    """Pool a layer's output over the positions of the tile: ``[B, C]``; ``[B, 2C]`` for mean_std.

    Parameters
    ----------
    x : [B, C, h, w] (or [B, h, w, C] if ``channels_at_end``), [B, tokens, C], or [B, C]
    pool : "mean" or "mean_std"
        The standard deviation is over positions, without Bessel's correction.
    """
    x = x.float()
    if x.ndim == 4 and channels_at_end:
        x = x.flatten(1, 2)
    elif x.ndim == 4:
        x = x.flatten(2).transpose(1, 2)
    elif x.ndim == 2:
        x = x.unsqueeze(1)
    elif x.ndim != 3:
        raise BundleError(f"cannot pool a layer of shape {tuple(x.shape)} over positions")
    mean = x.mean(1)
    if pool == "mean":
        return mean
    variance = (x - mean.unsqueeze(1)).square().mean(1)
    return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], dim=1)


class Heads(nn.Module):
    """M classifiers side by side, each with ``depth`` hidden layers: ``[B, D]`` → ``[B, M, C]``.

    All heads are one batched product. Weights are ``[M, out, in]``, so that head m is
    ``weight[m]``, a linear layer like any other.
    """

    def __init__(
        self, n_inputs: int, n_heads: int, n_classes: int, depth: int, width: int, dropout: float
    ) -> None:
        super().__init__()
        sizes = [n_inputs] + [width] * depth + [n_classes]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for n_in, n_out in pairwise(sizes):
            bound = n_in**-0.5  # nn.Linear's own initialisation, per head
            self.weights.append(torch.empty(n_heads, n_out, n_in).uniform_(-bound, bound))
            self.biases.append(torch.empty(n_heads, n_out).uniform_(-bound, bound))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[B, M, C]`` for penultimate features ``[B, D]``."""
        # Dropout after the expansion: each head drops its own features, which keeps heads apart.
        x = self.dropout(x.unsqueeze(1).expand(-1, len(self.weights[0]), -1))
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if i > 0:
                x = torch.relu(x)
            x = torch.einsum("bmi,moi->bmo", x, weight) + bias
        return x


class MultiHeadNet(nn.Module):
    """A trunk with M heads that also returns features.

    Heads on a shared trunk after Linmans et al., MIDL 2020. ``forward`` takes normalised float
    tiles ``[B, 3, t, t]`` and returns logits ``[B, M, C]`` and features ``[B, D]``, D being the
    feature blocks side by side, as ``blocks`` says.

    Parameters
    ----------
    architecture : str
        A classification model of timm or torchvision, e.g. ``timm:resnet18``.
    blocks : sequence of BlockSpec or FeatureBlock
        Layers to return. ``penultimate`` is the trunk's own output.
    n_heads, n_classes : int
    head_depth, head_width : int
        Hidden layers per head and their width; 0 hidden layers = linear heads.
    tile_size : int
        Side of the tiles in px.
    dropout : float
        On the penultimate features, in training only.
    pretrained : bool
        Start the trunk from its library's published weights (downloads them).

    Raises
    ------
    BundleError
        For an unknown architecture or layer, or tiles too small for it.
    """

    def __init__(
        self,
        architecture: str,
        blocks: Sequence[BlockSpec | FeatureBlock] = PENULTIMATE_ONLY,
        n_heads: int = 10,
        n_classes: int = 2,
        head_depth: int = 0,
        head_width: int = 128,
        tile_size: int = 96,
        dropout: float = 0.0,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.architecture = resolve_architecture(architecture)
        self.tile_size = tile_size
        self.n_heads, self.n_classes = n_heads, n_classes
        self.head_depth, self.head_width = head_depth, head_width
        self.trunk = build_trunk(self.architecture, tile_size, pretrained)
        self._channels_at_end = positions_last(self.trunk)
        self.specs = tuple(BlockSpec(b.name, b.layer, b.pool) for b in blocks)
        self._taps: list[torch.utils.hooks.RemovableHandle] = []
        self.attach_taps()
        widths, n_penultimate = self._measure()
        stops = [sum(widths[: i + 1]) for i in range(len(widths))]
        self.blocks = tuple(
            FeatureBlock(*spec, stop - width, stop)
            for spec, width, stop in zip(self.specs, widths, stops, strict=True)
        )
        self.heads = Heads(n_penultimate, n_heads, n_classes, head_depth, head_width, dropout)

    def attach_taps(self) -> None:
        """(Re)attach the hooks that pool the blocks' layers; needed after a layer was replaced."""
        for tap in self._taps:
            tap.remove()
        self._taps = []
        for index, spec in enumerate(self.specs):
            if spec.layer == PENULTIMATE:
                continue
            try:
                layer = self.trunk.get_submodule(spec.layer)
            except AttributeError:
                raise BundleError(f"{self.architecture} has no layer {spec.layer!r}") from None
            hook = _Tap(index, spec.pool, self._channels_at_end)
            self._taps.append(layer.register_forward_hook(hook))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``[B, M, C]`` and features ``[B, D]`` of normalised ``[B, 3, t, t]``."""
        penultimate, blocks = self._trunk_and_blocks(x)
        return self.heads(penultimate), torch.cat(blocks, dim=1)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits ``[B, M, C]`` only, without the cost of pooling features (training)."""
        logits: Tensor = self.heads(self.trunk(x))
        return logits

    def final_layer(self) -> tuple[Tensor, Tensor]:
        """Weight ``[M, C, D]`` and bias ``[M, C]`` of the heads' last layer."""
        return self.heads.weights[-1].detach(), self.heads.biases[-1].detach()

    def _trunk_and_blocks(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        tapped: dict[int, Tensor] = {}
        token = _TAPPED.set(tapped)
        try:
            penultimate = self.trunk(x)
        finally:
            _TAPPED.reset(token)
        for index, spec in enumerate(self.specs):
            if spec.layer == PENULTIMATE:
                tapped[index] = penultimate.float()
        unused = [spec.layer for i, spec in enumerate(self.specs) if i not in tapped]
        if unused:
            raise BundleError(f"{self.architecture} never runs its layer {unused[0]!r}")
        return penultimate, [tapped[i] for i in range(len(self.specs))]

    def _measure(self) -> tuple[list[int], int]:
        training = self.trunk.training
        self.trunk.eval()
        try:
            with torch.no_grad():
                x = torch.zeros(1, 3, self.tile_size, self.tile_size)
                penultimate, blocks = self._trunk_and_blocks(x)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise BundleError(
                f"{self.architecture} does not take {self.tile_size} px tiles: {reason}"
            ) from error
        finally:
            self.trunk.train(training)
        if penultimate.ndim != 2:
            raise BundleError(f"{self.architecture} gives no penultimate feature vector")
        return [block.shape[1] for block in blocks], penultimate.shape[1]


class _Tap:
    """A forward hook that pools its layer's output while somebody asks for features.

    It pools at once, so a later in-place layer can't change what was tapped. A class instead of a
    closure, so that networks can be pickled and copied.
    """

    def __init__(self, index: int, pool: str, channels_at_end: bool) -> None:
        self.index, self.pool, self.channels_at_end = index, pool, channels_at_end

    def __call__(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        tapped = _TAPPED.get()
        if tapped is None:
            return
        if output.requires_grad:
            output = output.clone()  # backward must find the values even if they get overwritten
        tapped[self.index] = pool_positions(output, self.pool, self.channels_at_end)
