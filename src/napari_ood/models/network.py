"""``MultiHeadNet``: a trunk by name, M heads, and features from any of its layers (needs torch)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from napari_ood.errors import BundleError
from napari_ood.models.card import MAX_HEAD_WEIGHTS, FeatureBlock
from napari_ood.models.stages import ordered_units, reinitialise, split_trunk
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
        """Return logits ``[B, M, C]`` for features ``[B, D]``, or ``[B, M, D]``, one per head."""
        if x.ndim == 2:
            x = x.unsqueeze(1).expand(-1, len(self.weights[0]), -1)
        # Dropout after the expansion: each head drops its own features, which keeps heads apart.
        x = self.dropout(x)
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
        Layers to return. ``penultimate`` is the vector that the heads' layers read; where every
        head has trunk units of its own, the mean of those vectors over the heads.
    n_heads, n_classes : int
    head_depth, head_width : int
        Hidden layers per head and their width; 0 hidden layers = linear heads.
    tile_size : int
        Side of the tiles in px.
    input_size : int, optional
        Side in px to which the network resizes tiles (bilinear) before its trunk sees them; the
        tile size by default. Trunks that learned on large photographs see small cells better when
        tiles are enlarged, at a cost that grows with the square.
    dropout : float
        On the penultimate features, in training only.
    pretrained : bool
        Start the trunk from its library's published weights (downloads them).
    head_blocks : int
        How many of the trunk's last units (convolution, residual block, dense layer …) every head
        has for itself; 0: heads read the whole trunk's output.

    Raises
    ------
    BundleError
        For an unknown architecture or layer, tiles too small for it, or a trunk that heads cannot
        split off so early.
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
        head_blocks: int = 0,
        input_size: int | None = None,
        untrained: bool = True,
    ) -> None:
        super().__init__()
        self.architecture = resolve_architecture(architecture)
        self.tile_size, self.input_size = tile_size, input_size or tile_size
        self.n_heads, self.n_classes = n_heads, n_classes
        self.head_depth, self.head_width = head_depth, head_width
        self.head_blocks = head_blocks
        self.trunk = build_trunk(self.architecture, self.input_size, pretrained)
        self.channels_at_end = positions_last(self.trunk)
        self.tails = nn.ModuleList()
        if head_blocks:
            self._split_heads_off(new=untrained and not pretrained)
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
            hook = Tap(index, spec.pool, self.channels_at_end)
            self._taps.append(layer.register_forward_hook(hook))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``[B, M, C]`` and features ``[B, D]`` of normalised ``[B, 3, t, t]``."""
        vectors, blocks = self._vectors_and_blocks(x)
        return self.heads(vectors), torch.cat(blocks, dim=1)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits ``[B, M, C]`` only, without the cost of pooling features (training)."""
        logits: Tensor = self.heads(self._vectors(x))
        return logits

    def final_layer(self) -> tuple[Tensor, Tensor]:
        """Weight ``[M, C, D]`` and bias ``[M, C]`` of the heads' last layer."""
        return self.heads.weights[-1].detach(), self.heads.biases[-1].detach()

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the heads, with the trunk units that they have for themselves."""
        return [*self.tails.parameters(), *self.heads.parameters()]

    def trunk_units(self) -> list[tuple[str, list[nn.Parameter]]]:
        """Parameters of the shared trunk, unit by unit from the input on."""
        return [(name, list(unit.parameters())) for name, unit in ordered_units(self.trunk)]

    def load_trunk(self, weights: Mapping[str, Tensor]) -> None:
        """Start from weights of a whole trunk, by its library's names; every head gets its copy.

        Weights of a classifier are ignored.

        Raises
        ------
        BundleError
            If a weight is absent or has another shape.
        """
        targets = [self.trunk, *self.tails]
        for part in targets:
            own = part.state_dict()
            for name, value in own.items():
                given = weights.get(name)
                if given is None and name.endswith("num_batches_tracked"):
                    continue
                if given is None or given.shape != value.shape:
                    found = "is absent" if given is None else f"has shape {tuple(given.shape)}"
                    raise BundleError(f"weight {name!r} of {self.architecture} {found}")
                value.copy_(given)

    def _split_heads_off(self, new: bool) -> None:
        self.trunk.eval()
        x = torch.randn(2, 3, self.input_size, self.input_size)
        try:
            shared, tail = split_trunk(self.trunk, self.head_blocks, x)
        except (RuntimeError, AssertionError) as error:
            raise self._wrong_size(error) from error
        if self.n_heads * sum(p.numel() for p in tail.parameters()) > MAX_HEAD_WEIGHTS:
            raise BundleError(
                f"{self.n_heads} heads of {self.head_blocks} units of {self.architecture} each "
                "don't fit in memory: take fewer"
            )
        self.trunk = shared.train()
        self.tails.extend(copy.deepcopy(tail).train() for _ in range(self.n_heads))
        if new:  # copies of one random start would be one head
            for own in list(self.tails)[1:]:
                reinitialise(own)

    def resized(self, x: Tensor) -> Tensor:
        """Return tiles ``[B, 3, t, t]`` as the trunk sees them; parts of tiles in proportion."""
        if self.input_size == self.tile_size:
            return x
        scale = self.input_size / self.tile_size
        size = [max(1, round(side * scale)) for side in x.shape[-2:]]
        return interpolate(x, size=size, mode="bilinear", antialias=scale < 1)

    def _vectors(self, x: Tensor) -> Tensor:
        """What the heads' layers read: ``[B, D]``, or ``[B, M, D]`` where heads split earlier."""
        shared: Tensor = self.trunk(self.resized(x))
        if not len(self.tails):
            return shared
        return torch.stack([tail(shared) for tail in self.tails], dim=1)

    def _vectors_and_blocks(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        tapped: dict[int, Tensor] = {}
        token = _TAPPED.set(tapped)
        try:
            vectors = self._vectors(x)
        finally:
            _TAPPED.reset(token)
        penultimate = vectors.float().mean(dim=1) if vectors.ndim == 3 else vectors
        for index, spec in enumerate(self.specs):
            if spec.layer == PENULTIMATE:
                tapped[index] = penultimate.float()
        unused = [spec.layer for i, spec in enumerate(self.specs) if i not in tapped]
        if unused:
            raise BundleError(f"{self.architecture} never runs its layer {unused[0]!r}")
        return vectors, [tapped[i] for i in range(len(self.specs))]

    def _measure(self) -> tuple[list[int], int]:
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                x = torch.zeros(1, 3, self.tile_size, self.tile_size)
                vectors, blocks = self._vectors_and_blocks(x)
        except (RuntimeError, AssertionError) as error:
            raise self._wrong_size(error) from error
        finally:
            self.train(training)
        if vectors.ndim != (3 if len(self.tails) else 2):
            raise BundleError(f"{self.architecture} gives no penultimate feature vector")
        return [block.shape[1] for block in blocks], vectors.shape[-1]

    def _wrong_size(self, error: Exception) -> BundleError:
        reason = str(error).splitlines()[0]
        size = self.input_size
        return BundleError(f"{self.architecture} does not take {size} px tiles: {reason}")


class Tap:
    """A forward hook that pools its layer's output while somebody asks for features.

    It pools at once, so a later in-place layer can't change what was tapped. A class instead of a
    closure, so that networks can be pickled and copied.
    """

    def __init__(self, index: int, pool: str, channels_at_end: bool) -> None:
        self.index, self.pool, self.channels_at_end = index, pool, channels_at_end

    def __call__(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        """Pool what the layer gives; a signature of torch's."""
        tapped = _TAPPED.get()
        if tapped is None:
            return
        if output.requires_grad:
            output = output.clone()  # backward must find the values even if they get overwritten
        tapped[self.index] = pool_positions(output, self.pool, self.channels_at_end)
