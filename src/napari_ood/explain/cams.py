"""Class activation maps: weighted sums of a layer's maps (needs torch).

One forward and a backward pass that ends at the layer serve all of them. captum's ``LayerGradCam``
is the first of the three, for channels-first maps only; the tests compare with it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from napari_ood.explain.layers import Maps, maps_of
from napari_ood.explain.objective import Objective


def grad_cam(maps: Maps) -> Tensor:
    """relu(Σ_c (mean_ij g_c) A_c); ``[B, h, w]``.

    Selvaraju et al., *Grad-CAM*, ICCV 2017.
    """
    weights = maps.gradients.mean(dim=(2, 3), keepdim=True)
    return (weights * maps.activations).sum(dim=1).relu()


def grad_cam_pp(maps: Maps) -> Tensor:
    """relu(Σ_c w_c A_c), w_c = Σ_ij α relu(g), α = g² / (2 g² + g³ Σ_ab A); ``[B, h, w]``.

    Chattopadhay et al., *Grad-CAM++*, WACV 2018, eq. 19 for exp of the target. The factor exp(S),
    the same at all places of a tile, is left out: maps of tiles stay comparable. The formula takes
    maps to be ≥ 0, as after a ReLU; where a map's sum is negative it counts as 0.
    """
    g = maps.gradients
    # 1 / (2 + g Σ A) is the formula without g², which float32 would round to 0.
    total = maps.activations.sum(dim=(2, 3), keepdim=True).relu()
    alpha = 1 / (2 + g.relu() * total)
    weights = (alpha * g.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * maps.activations).sum(dim=1).relu()


def layer_cam(maps: Maps) -> Tensor:
    """relu(Σ_c relu(g_c) A_c), place by place; ``[B, h, w]``.

    Jiang et al., *LayerCAM*, IEEE TIP 2021.
    """
    return (maps.gradients.relu() * maps.activations).sum(dim=1).relu()


def class_activation_map(
    objective: Objective, rgb: Tensor, combine: Callable[[Maps], Tensor], layer: str
) -> Tensor:
    """Combine a layer's maps and enlarge them to the tile; ``[B, 3, t, t]`` → ``[B, t, t]``."""
    objective.steps.expect(1)
    maps = combine(maps_of(objective, rgb, layer))
    size = rgb.shape[-2:]
    with torch.no_grad():
        # Bilinear never overshoots: what is ≥ 0 stays so.
        return interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
