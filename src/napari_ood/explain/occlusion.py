"""Occlusion: a blurred square moves over the tile (needs torch)."""

from __future__ import annotations

import math

import torch
from captum.attr import Occlusion
from torch import Tensor

from napari_ood.errors import ExplainError
from napari_ood.explain.baseline import baseline_of
from napari_ood.explain.objective import Objective

WINDOW_SHARE = 1 / 6
"""Side of the square as a share of the tile's; it moves by half of it."""


def occlusion(
    objective: Objective,
    rgb: Tensor,
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: str = "blur",
) -> Tensor:
    """By how much the target falls when a square is covered, mean over the squares of a pixel.

    Zeiler & Fergus, *Visualizing and understanding convolutional networks*, ECCV 2014.

    Parameters
    ----------
    objective, rgb : [B, 3, t, t] in 0…1
    window : side of the square in px
    stride : px from square to square
    baseline : what covers, see ``baseline_of``

    Returns
    -------
    [B, t, t]
    """
    side = rgb.shape[-1]
    window = max(2, round(side * WINDOW_SHARE)) if window is None else int(window)
    stride = max(1, window // 2) if stride is None else int(stride)
    if not 1 <= window < side or not 1 <= stride <= window:
        raise ExplainError(f"occlusion needs 1 ≤ stride ≤ window < {side} px")
    at_once = max(1, objective.batch // len(rgb))
    n_squares = (math.ceil((side - window) / stride) + 1) ** 2
    objective.steps.expect(1 + math.ceil(n_squares / at_once))
    with torch.no_grad():
        found: Tensor = Occlusion(objective).attribute(
            rgb,
            sliding_window_shapes=(3, window, window),
            strides=(3, stride, stride),
            baselines=baseline_of(rgb, baseline),
            perturbations_per_eval=at_once,
        )
    return found[:, 0]  # the square covers all channels: they say the same
