"""Meaningful perturbation: the smallest smooth blur that destroys the target (needs torch)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from napari_ood.errors import ExplainError
from napari_ood.explain.baseline import baseline_of, gaussian_blur
from napari_ood.explain.objective import Objective

PAPER_SIDE, PAPER_CELLS = 224, 28
"""Of a picture and of its mask, both along a side, for which the constants were chosen."""

CELL, FEWEST_CELLS = 8, 12
"""Px of the tile per cell of the mask; along a side it has at least so many, to be of any shape."""

L1, TV, TV_POWER = 1e-4, 1e-2, 3
"""Weights of Σ|1 − m| and of Σ‖∇m‖^β: of sums over the mask, not of means. As released."""

LEARNING_RATE, N_ITERATIONS, JITTER, MASK_BLUR = 0.1, 300, 4, 5
"""Jitter and blur of the mask in px of a picture of 224 px."""


def perturbation(
    objective: Objective,
    rgb: Tensor,
    *,
    n_iterations: int = N_ITERATIONS,
    l1: float = L1,
    tv: float = TV,
    jitter: int | None = None,
    baseline: str = "blur",
    seed: int = 0,
) -> Tensor:
    """Find 1 − m, the share of blur at each pixel, by gradient descent on the mask m.

    min_m  λ₁ Σ|1 − m| + λ₂ Σ‖∇m‖^β + f(m x + (1 − m) blur(x)), β = 3, f the target in about 0…1.
    Fong & Vedaldi, *Interpretable explanations of black boxes by meaningful perturbation*, ICCV
    2017, with the constants of their code, which are for masks of 28 × 28 cells. Sums over c × c
    cells are others: Σ|1 − m| grows with c², Σ‖∇m‖^β of a smooth mask with c^(2 − β). The weights
    undo that, so that a mask of one shape costs the same on tiles of any size.

    Parameters
    ----------
    objective : f is its :meth:`Objective.share`
    rgb : [B, 3, t, t] in 0…1
    n_iterations : of Adam
    l1, tv : λ₁ and λ₂
    jitter : px by which the tile is shifted at random in each step, against artefacts of the mask
    baseline : what blends in, see ``baseline_of``
    seed : of the jitter

    Returns
    -------
    [B, t, t], 0 where nothing has to be blurred, 1 where all is
    """
    if n_iterations < 1 or l1 < 0 or tv < 0:
        raise ExplainError("meaningful perturbation needs at least 1 iteration and weights ≥ 0")
    side = rgb.shape[-1]
    cells = max(min(FEWEST_CELLS, side), side // CELL)
    shift = round(JITTER * side / PAPER_SIDE) if jitter is None else int(jitter)
    objective.steps.expect(1 + n_iterations)
    generator = torch.Generator().manual_seed(seed)
    blurred = baseline_of(rgb, baseline)
    with torch.no_grad():
        start = objective(rgb)
    mask = rgb.new_ones(len(rgb), 1, cells, cells).requires_grad_()
    adam = torch.optim.Adam([mask], lr=LEARNING_RATE)
    weights = l1 * (PAPER_CELLS / cells) ** 2, tv * (cells / PAPER_CELLS) ** (TV_POWER - 2)
    with torch.enable_grad():
        for _ in range(n_iterations):
            keep = enlarged(mask, side)
            mixed = _shifted(keep * rgb + (1 - keep) * blurred, shift, generator)
            # Each tile's loss depends on its own mask alone: the sum optimises all at once.
            loss = (objective.share(objective(mixed), start) + penalty(mask, *weights)).sum()
            (mask.grad,) = torch.autograd.grad(loss, mask)
            adam.step()
            mask.data.clamp_(0, 1)
    return 1 - enlarged(mask.detach(), side)[:, 0]


def penalty(mask: Tensor, l1: float, tv: float) -> Tensor:
    """λ₁ Σ|1 − m| + λ₂ Σ‖∇m‖^β of masks ``[B, 1, c, c]``; ``[B]``."""
    down, right = mask.diff(dim=2, append=mask[:, :, -1:]), mask.diff(dim=3, append=mask[..., -1:])
    rough = (down.square() + right.square()).pow(TV_POWER / 2)
    return l1 * (1 - mask).abs().sum(dim=(1, 2, 3)) + tv * rough.sum(dim=(1, 2, 3))


def enlarged(mask: Tensor, side: int) -> Tensor:
    """Masks ``[B, 1, c, c]`` at the size of the tile, smoothed: no sharp edges to fool with."""
    large = interpolate(mask, size=(side, side), mode="bilinear", align_corners=False)
    return gaussian_blur(large, MASK_BLUR * side / PAPER_SIDE)


def _shifted(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    if most < 1:
        return x
    y, z = torch.randint(-most, most + 1, (2,), generator=generator).tolist()
    rows = torch.arange(x.shape[2], device=x.device).add(y).clamp(0, x.shape[2] - 1)
    columns = torch.arange(x.shape[3], device=x.device).add(z).clamp(0, x.shape[3] - 1)
    return x[:, :, rows][:, :, :, columns]
