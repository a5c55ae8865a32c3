"""3 × 3 convolutions with a quarter of the multiplications, for CPUs (needs torch).

F(4×4, 3×3) of Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, CVPR 2016. Both
transforms are products with a small matrix, so that all of the work is done by the linear algebra
library: torch's own convolutions compute directly, at nearly the processor's peak.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn

STEP, SIDE = 4, 6
"""Outputs per side of a patch, and the inputs that they depend on."""
# The points 0, ±1, ±2, ∞: Bᵀ and G transform inputs and kernels, Aᵀ what their products sum up to.
_B = [
    [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
]  # fmt: skip
_G = [
    [1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1],
]  # fmt: skip
_A = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]

LEAST_SAVING = 2.0
"""Times fewer operations, transforms included, below which nothing is gained."""
LEAST_PATCHES = 64
"""Patches at a time: with fewer, reading the kernels takes longer than multiplying by them."""
MOST_FLOATS = 150_000
"""Transformed inputs at a time, so that they are still in the core's cache when they are used."""


class WinogradConv2d(nn.Module):
    """What a convolution that it ``suits`` computes, except for rounding.

    Parameters
    ----------
    conv : its weights are copied
    """

    kernels: Tensor
    bias: Tensor
    inward: Tensor
    outward: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach()
        b, g, a = (torch.tensor(rows, dtype=torch.float64) for rows in (_B, _G, _A))
        n_out, n_in = weight.shape[:2]
        # In double precision, which not every device has.
        kernels = torch.einsum("ai,kcij,bj->abck", g, weight.cpu().double(), g)
        bias = torch.zeros(n_out) if conv.bias is None else conv.bias.detach().clone()
        self.register_buffer("kernels", kernels.reshape(-1, n_in, n_out).to(weight))
        self.register_buffer("bias", bias.to(weight))
        self.register_buffer("inward", torch.kron(b, b).to(weight))
        self.register_buffer("outward", torch.kron(a, a).to(weight))

    @staticmethod
    def suits(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
        """Whether a module is a convolution of the one kind that this can compute, and faster."""
        if type(conv) is not nn.Conv2d or conv.groups != 1 or conv.padding_mode != "zeros":
            return False
        if conv.kernel_size != (3, 3) or conv.padding not in ((1, 1), "same"):
            return False
        if conv.stride != (1, 1) or conv.dilation != (1, 1):
            return False
        n_in, n_out, patch = conv.in_channels, conv.out_channels, SIDE**2
        direct = STEP**2 * 9 * n_in * n_out
        return direct >= LEAST_SAVING * patch * (patch * n_in + n_in * n_out + STEP**2 * n_out)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, K, H, W]``, channels_last."""
        n, n_in, height, width = x.shape
        rows, columns = -(-height // STEP), -(-width // STEP)
        # NHWC in memory *is* channels_last.
        out = x.new_empty(n, rows * STEP, columns * STEP, len(self.bias))
        padded = x.new_zeros(n, rows * STEP + 2, columns * STEP + 2, n_in)
        padded[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
        most = max(LEAST_PATCHES, MOST_FLOATS // (SIDE**2 * n_in))
        strip = min(rows, max(1, most // columns))  # rows of patches at a time
        images = max(1, most // (rows * columns))
        for i in range(0, n, images):
            for row in range(0, rows, strip):
                top, bottom = row * STEP, min(row + strip, rows) * STEP
                part, result = padded[i : i + images], out[i : i + images, top:bottom]
                self._convolve(part[:, top : bottom + 2], result)
        whole = out[:, :height, :width].permute(0, 3, 1, 2)
        return whole.contiguous(memory_format=torch.channels_last)

    def _convolve(self, x: Tensor, out: Tensor) -> None:
        """Padded images ``[n, 4 r + 2, 4 c + 2, C]`` into ``out``, ``[n, 4 r, 4 c, K]``."""
        n, rows, columns = len(x), out.shape[1] // STEP, out.shape[2] // STEP
        image, row, column, channel = x.stride()
        patches = x.as_strided(
            (SIDE, SIDE, n, rows, columns, x.shape[3]),
            (row, column, image, STEP * row, STEP * column, channel),
            x.storage_offset(),
        ).reshape(SIDE**2, -1)
        inner = (self.inward @ patches).view(SIDE**2, -1, x.shape[3])
        sums = torch.bmm(inner, self.kernels).view(SIDE**2, -1)
        parts = (self.outward @ sums).view(STEP, STEP, n, rows, columns, -1)
        # A strip of several images is not contiguous, so it is no plain view.
        target = torch.unflatten(torch.unflatten(out, 2, (columns, STEP)), 1, (rows, STEP))
        torch.add(parts.permute(2, 3, 0, 4, 1, 5), self.bias, out=target)
