"""3 × 3 convolutions with a quarter to half of the multiplications, for CPUs (needs torch).

F(4×4, 3×3) of Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, CVPR 2016, as
machine code (:mod:`napari_ood.models.winograd_code`). With stride 2 the outer two taps see the odd
rows of the padded image and the middle one the even rows: F(4, 2) and four plain products.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from napari_ood.models.machine_code import Compiled

Floats = NDArray[np.float64]

OUTPUTS = 4
"""Outputs per side of a patch."""
PATCHES = 32
"""Patches at a time, which stay in a core's cache from one loop to the next. With fewer, reading
the kernels takes longer than multiplying by them. A multiple of every processor's rows."""
CHANNELS = 16
"""Channels must be a multiple of this, which every processor's vectors divide."""
LEAST_CHANNELS = {1: 32, 2: 64}
"""By stride: fewer, of inputs and outputs together, take longer to transform than is gained."""


NOT_TO_BE_HAD = (ImportError, OSError, RuntimeError)
"""What is raised where no machine code can be made."""

log = logging.getLogger(__name__)


def toom_cook(points: Sequence[float], outputs: int, taps: int) -> tuple[Floats, Floats, Floats]:
    """Bᵀ, G and Aᵀ of F(outputs, taps): Aᵀ (Bᵀ d ⊙ G g) correlates d with g.

    Blahut, *Fast Algorithms for Signal Processing*, 2010, chapter 5: polynomials are multiplied at
    ``outputs + taps − 2`` points and infinity.
    """
    n, at = outputs + taps - 1, np.asarray(points, float)
    inward, kernel, outward = np.zeros((n, n)), np.zeros((n, taps)), np.zeros((outputs, n))
    outward[:, :-1] = at ** np.arange(outputs)[:, None]
    outward[-1, -1] = kernel[-1, -1] = 1
    for i, point in enumerate(at):
        others = np.delete(at, i)
        kernel[i] = point ** np.arange(taps) / np.prod(point - others)
        inward[i, :-1] = np.poly(others)[::-1]
    inward[-1] = np.poly(at)[::-1]
    return inward, kernel, outward


@cache
def transforms(stride: int) -> tuple[Floats, Floats, Floats]:
    """Bᵀ, G and Aᵀ of one dimension of a convolution of three taps, stride 1 or 2."""
    if stride == 1:
        return toom_cook([0, 1, -1, 2, -2], OUTPUTS, 3)
    b, g, a = toom_cook([0, 1, -1, 2], OUTPUTS, 2)
    n = len(b)
    inward, kernel = np.zeros((n + OUTPUTS,) * 2), np.zeros((n + OUTPUTS, 3))
    inward[:n, 0::2], inward[n:, 1::2] = b, np.eye(OUTPUTS)
    kernel[:n, 0::2], kernel[n:, 1] = g, 1
    return inward, kernel, np.hstack([a, np.eye(OUTPUTS)])


@cache
def compiled(stride: int) -> Compiled:
    """The convolution for this processor; as ``WinogradConv2d`` if none can be made."""
    from napari_ood.models.machine_code import this_processor
    from napari_ood.models.winograd_code import Transforms, winograd_code

    inward, _, outward = transforms(stride)
    of = Transforms(inward.tolist(), outward.tolist(), stride)
    return winograd_code(of, this_processor())


def can_be_had() -> bool:
    """Whether machine code can be made here."""
    try:
        compiled(1)
    except NOT_TO_BE_HAD as error:
        log.info("no Winograd convolutions: %s", error)
        return False
    return True


class WinogradConv2d(nn.Module):
    """What a convolution that it ``suits`` computes, except for rounding. Not differentiable.

    Parameters
    ----------
    conv : its weights are copied

    Raises
    ------
    ImportError, OSError, RuntimeError
        Where no machine code can be made.
    """

    kernels: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        from napari_ood.models.machine_code import this_processor
        from napari_ood.models.winograd_code import panel, room

        self.stride = conv.stride[0]
        compiled(self.stride)
        weight = conv.weight.detach()
        self.n_out, self.n_in = weight.shape[:2]
        self.panel = width = panel(this_processor())
        taps = nn.functional.pad(weight, (0, 0) * 3 + (0, -self.n_out % width))
        self.padded = len(taps)
        # Laid out as they are to be before they become four or nine times as many.
        taps = taps.reshape(-1, width, self.n_in, 9).permute(3, 0, 2, 1).reshape(9, -1)
        _, kernel, _ = transforms(self.stride)
        self.rooms = tuple(
            room(len(kernel) ** 2, PATCHES, channels) for channels in (self.n_in, self.padded)
        )
        kernels = torch.from_numpy(np.kron(kernel, kernel)).float() @ taps
        bias = torch.zeros(self.n_out) if conv.bias is None else conv.bias.detach().clone()
        # Flat, or whoever makes a network channels_last would turn them as well.
        self.register_buffer("kernels", kernels.flatten())
        self.register_buffer("bias", bias)

    @staticmethod
    def suits(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
        """Whether a module is a convolution of the kind that this can compute, and faster."""
        if type(conv) is not nn.Conv2d or conv.groups != 1 or conv.padding_mode != "zeros":
            return False
        if conv.weight.device.type != "cpu" or conv.weight.dtype != torch.float32:
            return False
        if conv.kernel_size != (3, 3) or conv.padding not in ((1, 1), "same"):
            return False
        if conv.stride not in ((1, 1), (2, 2)) or conv.dilation != (1, 1):
            return False
        channels = conv.in_channels, conv.out_channels
        is_even = all(n % CHANNELS == 0 for n in channels)
        return is_even and sum(channels) >= LEAST_CHANNELS[conv.stride[0]]

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, K, H', W']``, float32, channels_last.

        Raises
        ------
        RuntimeError
            If somebody wants a gradient, or brought the module here from another kind of processor.
        ValueError
            For images of other channels.
        """
        from napari_ood.models.machine_code import this_processor
        from napari_ood.models.winograd_code import panel

        if x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError("Winograd's convolutions have no gradients: use the usual ones")
        if self.panel != panel(this_processor()):
            raise RuntimeError("kernels laid out for another processor: make the network here")
        # The code sees addresses only, so it must get what it expects.
        x = x.to("cpu", torch.float32).permute(0, 2, 3, 1).contiguous()
        n, height, width, n_in = x.shape
        if n_in != self.n_in:
            raise ValueError(f"images of {n_in} channels for a convolution of {self.n_in}")
        high, wide = -(-height // self.stride), -(-width // self.stride)
        rows, columns = -(-high // OUTPUTS), -(-wide // OUTPUTS)
        out = x.new_empty(n, high, wide, self.n_out)
        patches, sums = (x.new_empty(floats) for floats in self.rooms)
        tensors = x, self.kernels, self.bias, out, patches, sums
        compiled(self.stride)(
            *(tensor.data_ptr() for tensor in tensors),
            *(n * rows * columns, PATCHES, rows, columns),
            *(height, width, n_in, high, wide, self.n_out, self.padded),
        )
        return out.permute(0, 3, 1, 2)  # NHWC in memory *is* channels_last
