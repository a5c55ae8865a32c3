"""Methods of the gradient with respect to the pixels (needs torch)."""

from __future__ import annotations

import torch
from captum.attr import IntegratedGradients, Saliency
from torch import Tensor

from napari_ood.errors import ExplainError
from napari_ood.explain.baseline import baseline_of
from napari_ood.explain.objective import Objective

NOISE = 0.1
"""Standard deviation of SmoothGrad's noise, in full ranges of a colour. Smilkov et al. take 0.1 to
0.2 of a picture's own range, which would make each tile's map another measurement."""

N_NOISY, N_PATH = 25, 32


def gradient(objective: Objective, rgb: Tensor) -> Tensor:
    """max over channels of |∂S/∂x|; ``[B, 3, t, t]`` → ``[B, t, t]``.

    Simonyan et al., *Deep inside convolutional networks*, 2014.
    """
    objective.steps.expect(1)
    return strongest(_pixel_gradient(objective, rgb))


def smoothgrad(
    objective: Objective,
    rgb: Tensor,
    *,
    n_samples: int = N_NOISY,
    noise: float = NOISE,
    seed: int = 0,
) -> Tensor:
    """Mean gradient over copies of the tile with Gaussian noise, max over channels of its |·|.

    Smilkov et al., *SmoothGrad: removing noise by adding noise*, 2017. All tiles get the same
    noise, so that a tile's map does not depend on its batch.
    """
    # captum's NoiseTunnel draws from torch's global generator: maps would depend on what else runs,
    # and drawing would disturb it.
    if n_samples < 1 or noise < 0:
        raise ExplainError("SmoothGrad needs at least 1 sample and noise of 0 or more")
    objective.steps.expect(n_samples)
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(rgb)
    for _ in range(n_samples):
        drawn = torch.randn(1, *rgb.shape[1:], generator=generator).to(rgb)
        total += _pixel_gradient(objective, rgb + noise * drawn)
    return strongest(total / n_samples)


def integrated_gradients(
    objective: Objective, rgb: Tensor, *, n_steps: int = N_PATH, baseline: str = "blur"
) -> Tensor:
    """Sum over channels of (x − x') · ∫ ∂S/∂x along the straight path from the baseline x'.

    Sundararajan et al., *Axiomatic attribution for deep networks*, ICML 2017. The map adds up to
    S(x) − S(x').
    """
    if n_steps < 1:
        raise ExplainError("integrated gradients need at least 1 step")
    objective.steps.expect(-(-n_steps * len(rgb) // objective.batch))
    found: Tensor = IntegratedGradients(objective, multiply_by_inputs=True).attribute(
        rgb,
        baselines=baseline_of(rgb, baseline),
        n_steps=n_steps,
        internal_batch_size=max(len(rgb), objective.batch),
    )
    return found.detach().float().sum(dim=1)


def strongest(x: Tensor) -> Tensor:
    """Largest magnitude over channels, ``[B, 3, t, t]`` → ``[B, t, t]``."""
    return x.abs().amax(dim=1)


def _pixel_gradient(objective: Objective, rgb: Tensor) -> Tensor:
    # A leaf of our own: captum would set requires_grad on the caller's tensor.
    found: Tensor = Saliency(objective).attribute(rgb.detach().clone().requires_grad_(), abs=False)
    return found.detach()
