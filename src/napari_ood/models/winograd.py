"""3 × 3 convolutions with a quarter of the multiplications, for CPUs (needs torch).

F(4×4, 3×3) of Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, CVPR 2016. Both
transforms are products with a small matrix, so that all of the work is done by the linear algebra
library: torch's own convolutions compute directly, at nearly the processor's peak.
"""

from __future__ import annotations

import math
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

LEAST_SAVING = 2.8
"""Times fewer multiplications, transforms included, below which nothing is gained."""
PATCHES = 128
"""Patches at a time: with fewer, reading the kernels takes longer than multiplying by them; what
more of them are transformed to is no longer in the core's cache when it is used."""


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
        # In double precision, which not every device has, and in parts that fit the cache.
        taps = weight.cpu().permute(2, 3, 1, 0).reshape(9, -1)
        parts, both = torch.split(taps, 1 << 14, dim=1), torch.kron(g, g)
        kernels = [(both @ part.double()).to(weight) for part in parts]
        bias = torch.zeros(n_out) if conv.bias is None else conv.bias.detach().clone()
        self.register_buffer("kernels", torch.cat(kernels, dim=1).view(SIDE**2, n_in, n_out))
        self.register_buffer("bias", bias.to(weight))
        self.register_buffer("inward", b.to(weight))
        self.register_buffer("outward", a.to(weight))

    @staticmethod
    def suits(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
        """Whether a module is a convolution of the one kind that this can compute, and faster."""
        if type(conv) is not nn.Conv2d or conv.groups != 1 or conv.padding_mode != "zeros":
            return False
        if conv.kernel_size != (3, 3) or conv.padding not in ((1, 1), "same"):
            return False
        if conv.stride != (1, 1) or conv.dilation != (1, 1):
            return False
        n_in, n_out = conv.in_channels, conv.out_channels
        direct = STEP**2 * 9 * n_in * n_out
        inward, outward = 2 * SIDE**3, STEP * SIDE * (SIDE + STEP)
        fewer = inward * n_in + SIDE**2 * n_in * n_out + outward * n_out
        return direct >= LEAST_SAVING * fewer

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, K, H, W]``, channels_last. Not differentiable."""
        n, n_in, height, width = x.shape
        rows, columns = -(-height // STEP), -(-width // STEP)
        # NHWC in memory *is* channels_last.
        x = x.permute(0, 2, 3, 1)
        out = x.new_empty(n, rows * STEP, columns * STEP, len(self.bias))
        strip = _even(rows, PATCHES // columns)  # rows of patches at a time
        images = _even(n, PATCHES // (rows * columns))
        padded = x.new_zeros(images, strip * STEP + 2, columns * STEP + 2, n_in)
        # Both are used again for each part: they stay in the cache, which new ones would displace.
        floats = SIDE**2 * images * strip * columns * max(n_in, len(self.bias))
        rooms = x.new_empty(floats), x.new_empty(floats)
        for i in range(0, n, images):
            for top in range(0, rows * STEP, strip * STEP):
                part = out[i : i + images, top : top + strip * STEP]
                around = padded[: len(part), : part.shape[1] + 2]
                _fill(around, x[i : i + images], top - 1)
                self._convolve(around, part, rooms)
        whole = out[:, :height, :width].permute(0, 3, 1, 2)
        return whole.contiguous(memory_format=torch.channels_last)

    def _convolve(self, x: Tensor, out: Tensor, rooms: tuple[Tensor, Tensor]) -> None:
        """Padded images ``[n, 4 r + 2, 4 c + 2, C]`` into ``out``, ``[n, 4 r, 4 c, K]``."""
        n, rows, columns = len(x), out.shape[1] // STEP, out.shape[2] // STEP
        n_in, n_out, places = x.shape[3], out.shape[3], n * rows * columns
        image, row, column, channel = x.stride()
        shape = (SIDE, SIDE, n, rows, columns, n_in)
        strides = (row, column, image, STEP * row, STEP * column, channel)
        patches = _room(rooms[0], *shape)
        patches.copy_(x.as_strided(shape, strides, x.storage_offset()))
        inner = _on_both_sides(self.inward, patches.view(SIDE, SIDE, -1), rooms)
        sums = _room(rooms[1], SIDE**2, places, n_out)
        torch.bmm(inner.view(SIDE**2, places, n_in), self.kernels, out=sums)
        parts = _on_both_sides(self.outward, sums.view(SIDE, SIDE, -1), rooms[::-1])
        parts = parts.view(STEP, STEP, n, rows, columns, n_out)
        # A strip of several images is not contiguous, so it is no plain view.
        target = torch.unflatten(torch.unflatten(out, 2, (columns, STEP)), 1, (rows, STEP))
        torch.add(parts.permute(2, 3, 0, 4, 1, 5), self.bias, out=target)


def _even(n: int, most: int) -> int:
    """The size of parts of ``n`` that are as equal as can be and not larger than ``most``."""
    return math.ceil(n / math.ceil(n / max(1, most)))


def _room(room: Tensor, *shape: int) -> Tensor:
    return room[: math.prod(shape)].view(shape)


def _on_both_sides(matrix: Tensor, x: Tensor, rooms: tuple[Tensor, Tensor]) -> Tensor:
    """M X Mᵀ of each ``x[:, :, i]``, which lie in the first room; the answer replaces them."""
    n_out, n_in = matrix.shape
    half = _room(rooms[1], n_out, n_in, x.shape[2])
    torch.mm(matrix, x.view(n_in, -1), out=half.view(n_out, -1))
    whole = _room(rooms[0], n_out, n_out, x.shape[2])
    return torch.bmm(matrix.expand(n_out, -1, -1), half, out=whole)


def _fill(padded: Tensor, x: Tensor, top: int) -> None:
    """Rows of ``x`` from ``top`` on, which may be −1, and all columns, with zeros around them."""
    height, width = x.shape[1:3]
    first, last = max(top, 0), min(top + padded.shape[1], height)
    padded[:, : first - top] = 0
    padded[:, first - top : last - top, 1 : width + 1] = x[:, first:last]
    padded[:, last - top :] = 0
