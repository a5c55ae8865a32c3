"""MC-dropout: dropout inside a trunk that stays on when the network is asked (torch).

Gal & Ghahramani, *Dropout as a Bayesian approximation*, ICML 2016. Batch norms keep to their
running statistics; only the dropout layers are random.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_ood.models import MultiHeadNet, normalise, resolve_device

BATCH = 256


def add_inner_dropout(net: MultiHeadNet, rate: float) -> int:
    """Put dropout into a network's trunk, in place; return after how many layers.

    After every convolution larger than 1 × 1 but the first, and in dropout layers that the
    architecture has for itself with rate 0 (transformers). Inside a block that is its branch, never
    the sum that all blocks pass on, where the noise of one block after another would pile up.
    No weight changes its name.
    """
    spatial = [
        module
        for module in net.trunk.modules()
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1
    ][1:]
    own = [m for m in net.trunk.modules() if type(m) is nn.Dropout and m.p == 0]
    for layer in own:
        layer.p = rate
    for module in spatial:
        module.add_module("dropout", nn.Dropout(rate))
        module.register_forward_hook(_drop)
    return len(spatial) + len(own)


def stochastic(net: MultiHeadNet) -> MultiHeadNet:
    """Return a copy in evaluation mode whose dropout layers are on."""
    clone = copy.deepcopy(net).eval().requires_grad_(False)
    for module in clone.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    return clone.to(memory_format=torch.channels_last)


def sampled_logits(
    net: MultiHeadNet,
    mean: Sequence[float],
    std: Sequence[float],
    images: NDArray[np.uint8],
    samples: int,
    seed: int,
    device: str = "cpu",
) -> NDArray[np.float32]:
    """Logits ``[N, S, C]`` of S stochastic passes of a network with one head.

    Parameters
    ----------
    images : [N, t, t, 3] uint8
    samples : S
    seed : of the dropout; the same seed, tiles and device give the same draws
    """
    target = torch.device(resolve_device(device))
    noisy = stochastic(net).to(target)
    centre, spread = (torch.tensor(s, dtype=torch.float32, device=target) for s in (mean, std))
    out = []
    devices = [target.index or torch.cuda.current_device()] if target.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode():
        torch.manual_seed(seed)
        for tiles in torch.split(torch.from_numpy(images), BATCH):
            x = normalise(tiles.to(target), centre, spread)
            draws = [noisy.logits(x)[:, 0].float() for _ in range(samples)]
            out.append(torch.stack(draws, dim=1).cpu().numpy())
    return np.concatenate(out)


def _drop(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    dropped: Tensor = module.get_submodule("dropout")(output)
    return dropped
