"""A network whose weights mean nothing, for sanity checks of its maps (needs torch)."""

from __future__ import annotations

import copy

import torch
from torch import nn

from napari_ood.models.network import MultiHeadNet

N_CALIBRATION = 16
"""Tiles of noise from which batch norms learn the statistics of the random network."""


def randomised_copy(net: MultiHeadNet, seed: int) -> MultiHeadNet:
    """Return a copy in which the values of each weight tensor have changed places.

    Weights keep their distribution and lose their meaning; cf. Adebayo et al., *Sanity checks for
    saliency maps*, NeurIPS 2018, who draw them anew. Batch norms get the statistics of the random
    network: with the old ones its activations would die out, and with them any map.
    """
    generator = torch.Generator().manual_seed(seed)
    random = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in random.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
        _recalibrate(random, generator)
    return random.eval()


def _recalibrate(net: MultiHeadNet, generator: torch.Generator) -> None:
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    shape = (N_CALIBRATION, 3, net.tile_size, net.tile_size)
    x = torch.randn(shape, generator=generator).to(next(net.parameters()).device)
    net.logits(x)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
        norm.eval()
