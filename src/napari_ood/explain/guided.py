"""Guided backprop for every ReLU, also those that are no modules (needs torch).

captum's ``GuidedBackprop`` hooks ``nn.ReLU`` modules only: networks with ReLU6 or with functional
ReLUs (DenseNets, and every trunk that ships with napari-ood) would silently get plain gradients, or
a mixture. Here the calls themselves are intercepted, for one thread and one forward pass: no hook
is set and no module changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from napari_ood.errors import ExplainError
from napari_ood.explain.gradients import strongest
from napari_ood.explain.objective import Objective

_RELU: tuple[object, ...] = (functional.relu, functional.relu_, torch.relu, torch.relu_)
_RELU += (Tensor.relu, Tensor.relu_)
_RELU6 = (functional.relu6,)
_CLAMPS: tuple[object, ...] = (torch.clamp, torch.clamp_, torch.clamp_min)
_CLAMPS += (Tensor.clamp, Tensor.clamp_, Tensor.clamp_min)
_CLAMPS += (functional.hardtanh, functional.hardtanh_)
_OTHER = (
    functional.silu,
    functional.gelu,
    functional.elu,
    functional.selu,
    functional.celu,
    functional.mish,
    functional.leaky_relu,
    functional.prelu,
    functional.rrelu,
    functional.softplus,
    functional.hardswish,
)
"""Activations for which guided backprop is not defined."""


class _GuidedRelu(torch.autograd.Function):
    """A ReLU, bounded or not, that passes back only what is positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, highest: float) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < highest))
        return x.clamp(0.0, highest)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (passed,) = ctx.saved_tensors
        return grads[0].clamp_min(0.0) * passed, None


class GuidedRelus(TorchFunctionMode):
    """While it is entered, all ReLUs of this thread are guided.

    Attributes
    ----------
    n_relus : how many ran
    foreign : the first activation that ran and is no ReLU, or None
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_relus = 0
        self.foreign: str | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace ReLUs; run anything else as it is."""
        kwargs = kwargs or {}
        highest = _highest(func, args, kwargs)
        if highest is not None:
            self.n_relus += 1
            return _GuidedRelu.apply(args[0] if args else kwargs["input"], highest)
        if func in _OTHER and self.foreign is None:
            self.foreign = func.__name__
        return func(*args, **kwargs)


def _highest(func: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    """Upper bound of a call that is a ReLU, infinity for the usual one; None if it is none."""
    if func in _RELU:
        return float("inf")
    if func in _RELU6:
        return 6.0
    if func not in _CLAMPS:
        return None
    low = _bound(args, kwargs, 1, ("min", "min_val"), default=None)
    high = _bound(args, kwargs, 2, ("max", "max_val"), default=float("inf"))
    is_relu = isinstance(low, int | float) and low == 0 and isinstance(high, int | float)
    return float(high) if is_relu and high > 0 else None


def _bound(
    args: tuple[Any, ...], kwargs: dict[str, Any], index: int, names: tuple[str, ...], default: Any
) -> Any:
    found = args[index] if len(args) > index else None
    for name in names:
        found = kwargs.get(name, found)
    return default if found is None else found


def guided_gradient(objective: Objective, rgb: Tensor) -> Tensor:
    """Gradient of the pixels in which every ReLU passes back only what is positive.

    Springenberg et al., *Striving for simplicity: the all convolutional net*, 2015.

    Returns
    -------
    [B, 3, t, t]

    Raises
    ------
    ExplainError
        If the network has no ReLU, or activations for which the method is not defined.
    """
    x = rgb.detach().clone().requires_grad_()
    with GuidedRelus() as relus, torch.enable_grad():
        value = objective(x)
    name = objective.net.architecture
    if relus.foreign is not None:
        raise ExplainError(
            f"guided backprop is defined for ReLUs only, {name} has {relus.foreign}: "
            "choose another method"
        )
    if not relus.n_relus:
        raise ExplainError(f"guided backprop finds no ReLU in {name}: choose another method")
    (found,) = torch.autograd.grad(value.sum(), x)
    return found


def guided_backprop(objective: Objective, rgb: Tensor) -> Tensor:
    """max over channels of the guided gradient's magnitude; ``[B, t, t]``."""
    objective.steps.expect(1)
    return strongest(guided_gradient(objective, rgb))
