"""Runs a saliency method on a network: what ``Explainer`` keeps behind its lock (needs torch)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_ood.errors import ExplainError
from napari_ood.explain import cams, gradients
from napari_ood.explain.baseline import baseline_of
from napari_ood.explain.guided import guided_backprop, guided_gradient
from napari_ood.explain.layers import Layers, find_layers, in_running_order
from napari_ood.explain.methods import METHODS
from napari_ood.explain.objective import Objective, Readout, entropy, mean_probability
from napari_ood.explain.occlusion import occlusion
from napari_ood.explain.perturbation import perturbation
from napari_ood.explain.progress import Steps
from napari_ood.explain.randomise import randomised_copy
from napari_ood.explain.rise import rise
from napari_ood.explain.score_gradient import DifferentiableScore, apply_score
from napari_ood.explain.target import Target
from napari_ood.models.bundle import Bundle
from napari_ood.models.device import resolve_device
from napari_ood.models.network import PENULTIMATE, MultiHeadNet

BLURRED_AT_ONCE = 64
"""Tiles."""

ROUNDING = 2e-6
"""Of a target, as a share of it: what a batch of another size changes. A constant tile has no map,
not one of rounding errors."""

Maker = Callable[..., Tensor]
"""(objective, rgb [B, 3, t, t] in 0…1, **options) → maps [B, t, t]."""


def _cam(combine: Callable[..., Tensor]) -> Maker:
    def make(objective: Objective, rgb: Tensor, *, layer: str) -> Tensor:
        return cams.class_activation_map(objective, rgb, combine, layer)

    return make


def _guided_grad_cam(objective: Objective, rgb: Tensor, *, layer: str) -> Tensor:
    cam = cams.class_activation_map(objective, rgb, cams.grad_cam, layer)
    objective.steps.expect(2)
    return gradients.strongest(guided_gradient(objective, rgb)) * cam


MAKERS: dict[str, Maker] = {
    "gradient": gradients.gradient,
    "smoothgrad": gradients.smoothgrad,
    "integrated_gradients": gradients.integrated_gradients,
    "guided_backprop": guided_backprop,
    "grad_cam": _cam(cams.grad_cam),
    "grad_cam_pp": _cam(cams.grad_cam_pp),
    "layer_cam": _cam(cams.layer_cam),
    "guided_grad_cam": _guided_grad_cam,
    "occlusion": occlusion,
    "rise": rise,
    "perturbation": perturbation,
}


class Engine:
    """A network in eval mode with frozen parameters, and what it is asked about.

    Attributes
    ----------
    net : MultiHeadNet
    bundle : Bundle
    """

    needs_layer = frozenset(
        name for name, make in MAKERS.items() if "layer" in inspect.signature(make).parameters
    )

    def __init__(self, bundle: Bundle, net: MultiHeadNet, temperature: float) -> None:
        self.bundle, self.net, self.temperature = bundle, net, temperature
        device = next(net.parameters()).device
        self._mean = torch.tensor(bundle.card.mean, dtype=torch.float32, device=device)
        self._std = torch.tensor(bundle.card.std, dtype=torch.float32, device=device)
        self._scores: dict[Target, DifferentiableScore] = {}

    @classmethod
    def of(cls, bundle: Bundle, device: str, temperature: float) -> Engine:
        """Build a bundle's network, unfused: fused ones lack layers that maps are taken from."""
        net = bundle.trained_network().eval().requires_grad_(False)
        net = net.to(resolve_device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(bundle, net, temperature)

    @cached_property
    def layers(self) -> Layers:
        """Layers of the shared trunk that have maps."""
        return find_layers(self.net)

    def default_layer(self, target: Target) -> str:
        """Last layer with maps that the target depends on."""
        read = self._layers_read(target)
        if read is not None:
            return max(read, key=in_running_order(self.net.trunk).index)
        if not self.layers.finest_first:
            raise ExplainError(
                f"{self.net.architecture} has no layer with maps at {self.net.input_size} px: "
                "choose a method that needs none, such as gradient"
            )
        return self.layers.finest_first[-1]

    def _layers_read(self, target: Target) -> set[str] | None:
        """The only layers of the trunk that the target depends on; None: it reads the last one."""
        if target.kind != "score":
            return None
        spec = target.score_spec(self.bundle.card)
        read = {self.bundle.card.block(name).layer for name in spec.all_blocks}
        return None if not read or PENULTIMATE in read or spec.needs_logits else read

    def _check_layer(self, layer: str, target: Target) -> None:
        read, order = self._layers_read(target), in_running_order(self.net.trunk)
        if read is None or layer not in order:
            return
        last = self.default_layer(target)
        if order.index(layer) > order.index(last):
            words = target.words(self.bundle.card)
            raise ExplainError(
                f"{words} does not depend on layer {layer!r}: choose {last!r} or an earlier one"
            )

    def explain(
        self,
        tiles: NDArray[np.uint8],
        method: str,
        target: Target,
        layer: str | None,
        steps: Steps,
        options: Mapping[str, object],
    ) -> NDArray[np.float32]:
        """Maps ``[B, t, t]`` of tiles ``[B, t, t, 3]``; NaN where the target is not finite."""
        make = MAKERS[method]
        if layer is not None:
            self._check_layer(layer, target)
        given = dict(options) | ({} if layer is None else {"layer": layer})
        unknown = given.keys() - set(list(inspect.signature(make).parameters)[2:])
        if unknown:
            raise ExplainError(f"{method} has no option {sorted(unknown)[0]!r}")
        # Its constants were chosen for probabilities; logits have no end.
        objective = self.objective(target, steps, share=method == "perturbation")
        pieces = list(self._batches(tiles, objective.batch))
        out = np.empty(tiles.shape[:3], np.float32)
        for i, (rows, rgb) in enumerate(pieces):
            steps.part(i, len(pieces))
            objective.first = None
            if METHODS[method].slow:  # the others begin with the tiles as they are
                with torch.no_grad():
                    objective(rgb)
            found = make(objective, rgb, **given).detach().float().cpu().numpy()
            assert objective.first is not None
            value = objective.first.float().cpu().numpy()[:, None, None]
            if not METHODS[method].by_gradient:  # differences of two values of the target
                found[np.abs(found) <= ROUNDING * np.abs(value)] = 0
            # A ReLU passes no NaN back: a target that is none may have a gradient of zeros.
            out[rows] = np.where(np.isfinite(value), found, np.nan)
        out[~np.isfinite(out).all(axis=(1, 2))] = np.nan
        return out

    def values(
        self, tiles: NDArray[np.uint8], target: Target, share: bool, steps: Steps
    ) -> NDArray[np.float32]:
        """The explained number ``[B]``; with ``share`` the probability of a class."""
        objective = self.objective(target, steps, share)
        out = np.empty(len(tiles), np.float32)
        steps.expect(-(-len(tiles) // objective.batch))
        for rows, rgb in self._batches(tiles, objective.batch):
            with torch.no_grad():
                out[rows] = objective(rgb).float().cpu().numpy()
        return out

    def without_content(self, tiles: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
        """Baselines ``[B, t, t, 3]`` uint8 of tiles."""
        out = np.empty_like(tiles)
        for rows, rgb in self._batches(tiles, BLURRED_AT_ONCE):
            x = baseline_of(rgb, kind).mul(255).round().clamp(0, 255).byte()
            out[rows] = x.permute(0, 2, 3, 1).cpu().numpy()
        return out

    def objective(self, target: Target, steps: Steps, share: bool = False) -> Objective:
        """The target as a function of colours ``[N, 3, t, t]`` in 0…1."""
        readout = self._readout(target, share)
        features = target.kind == "score" and target.score_spec(self.bundle.card).needs_features
        low, high = self._range(target) if share else (0.0, 1.0)
        return Objective(self.net, self._mean, self._std, readout, features, steps, low, high)

    def _range(self, target: Target) -> tuple[float, float]:
        """What counts as none of the target and as much of it."""
        if target.kind == "uncertainty":
            return 0.0, float(np.log(self.bundle.card.n_classes))
        if target.kind != "score":
            return 0.0, 1.0
        name = str(target.score_spec(self.bundle.card))
        reference = self.bundle.require_reference().with_temperature(self.temperature)
        middle, high = reference.quantile(name, 0.5), reference.quantile(name, 0.95)
        return middle, high if high > middle else middle + max(abs(middle), 1.0) * 1e-3

    def randomised(self, seed: int) -> Engine:
        """The same with weights that mean nothing."""
        net = randomised_copy(self.net, seed)
        return Engine(self.bundle, net, self.temperature)

    def _readout(self, target: Target, share: bool) -> Readout:
        temperature = self.temperature
        if target.kind == "uncertainty":
            return lambda z, _: entropy(z, temperature)
        if target.kind == "score":
            return self._score_readout(target)
        heads = slice(None) if target.head is None else slice(target.head, target.head + 1)
        if share:
            return lambda z, _: mean_probability(z[:, heads], temperature)[:, target.class_index]
        return lambda z, _: z[:, heads, target.class_index].float().mean(dim=1)

    def _score_readout(self, target: Target) -> Readout:
        if target not in self._scores:
            spec = target.score_spec(self.bundle.card)
            self._scores[target] = DifferentiableScore.of(self.bundle, spec, self.temperature)
        score = self._scores[target]

        def readout(logits: Tensor, features: Tensor | None) -> Tensor:
            x = logits.new_zeros(len(logits), 0) if features is None else features
            return apply_score(score, logits, x)

        return readout

    def _batches(self, tiles: NDArray[np.uint8], size: int) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(tiles), size):
            rows = slice(start, start + size)
            x = torch.from_numpy(np.ascontiguousarray(tiles[rows])).to(self._mean.device)
            yield rows, x.permute(0, 3, 1, 2).float().div(255).contiguous()
