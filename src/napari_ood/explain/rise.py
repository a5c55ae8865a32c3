"""RISE: random masks, and what the target is worth under each (needs torch)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from napari_ood.errors import ExplainError
from napari_ood.explain.baseline import baseline_of
from napari_ood.explain.objective import Objective

N_MASKS, CELLS, KEPT = 600, 8, 0.5
"""Masks, cells along a side of a mask, share of cells that are kept. Petsiuk et al. take 4,000 to
8,000 masks of 7 × 7 cells."""


def rise(
    objective: Objective,
    rgb: Tensor,
    *,
    n_masks: int = N_MASKS,
    cells: int = CELLS,
    kept: float = KEPT,
    baseline: str = "blur",
    seed: int = 0,
) -> Tensor:
    """How much higher the target is when a place is kept than on average: E[S | kept] − E[S].

    Petsiuk et al., *RISE*, BMVC 2018, whose map is E[S | kept]: it has an offset, the same at all
    places, which would hide the map of any target that is no probability. All tiles get the same
    masks, so that a tile's map does not depend on its batch.

    Parameters
    ----------
    objective, rgb : [B, 3, t, t] in 0…1
    n_masks, cells, kept : see ``N_MASKS``
    baseline : what is seen where a mask covers, see ``baseline_of``
    seed : of the masks

    Returns
    -------
    [B, t, t]
    """
    if n_masks < 2 or cells < 2 or not 0 < kept < 1:
        raise ExplainError("RISE needs at least 2 masks, 2 cells and a kept share between 0 and 1")
    n, side = len(rgb), rgb.shape[-1]
    at_once = max(1, objective.batch // n)
    objective.steps.expect(1 + math.ceil(n_masks / at_once))
    grids, shifts = draw(n_masks, rgb.shape[-1], cells, kept, seed)
    covered = baseline_of(rgb, baseline)
    seen = rgb.new_zeros(side, side)
    total, weighted = rgb.new_zeros(n), rgb.new_zeros(n, side, side)
    with torch.no_grad():
        whole = objective(rgb)  # subtracted at once: sums of large numbers lose small differences
        for first in range(0, n_masks, at_once):
            piece = slice(first, first + at_once)
            masks = enlarged(grids[piece], shifts[piece], side).to(rgb)
            mixed = covered[:, None] + masks[None, :, None] * (rgb - covered)[:, None]
            values = (objective(mixed.flatten(0, 1)).view(n, -1) - whole[:, None]).to(rgb)
            seen += masks.sum(dim=0)
            total += values.sum(dim=1)
            weighted += torch.einsum("nk,kij->nij", values, masks)
    return weighted / seen.clamp_min(1e-6) - (total / n_masks)[:, None, None]


def draw(n: int, side: int, cells: int, kept: float, seed: int) -> tuple[Tensor, Tensor]:
    """Draw all masks' cells ``[n, 1, cells + 1, cells + 1]`` and shifts in px ``[n, 2]`` at once.

    Drawn batch by batch they would depend on how many tiles share a batch.
    """
    generator = torch.Generator().manual_seed(seed)
    grids = (torch.rand(n, 1, cells + 1, cells + 1, generator=generator) < kept).float()
    return grids, torch.randint(0, math.ceil(side / cells), (n, 2), generator=generator)


def enlarged(grids: Tensor, shifts: Tensor, side: int) -> Tensor:
    """Masks ``[n, side, side]`` in 0…1: cells enlarged smoothly, and shifted."""
    cells = grids.shape[-1] - 1
    size = (cells + 1) * math.ceil(side / cells)
    large = interpolate(grids, size=size, mode="bilinear", align_corners=False)[:, 0]
    pairs = zip(large, shifts.tolist(), strict=True)
    return torch.stack([mask[y : y + side, x : x + side] for mask, (y, x) in pairs])
