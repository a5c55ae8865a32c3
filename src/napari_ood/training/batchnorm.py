"""Batch-norm statistics of a trained network, estimated anew on plain tiles (torch)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from napari_ood.models import MultiHeadNet


def reestimate_batch_norms(net: MultiHeadNet, batches: Iterable[Tensor]) -> int:
    """Set mean and variance of a network's batch norms to those of plain tiles, in place.

    In training they follow tiles that are augmented and mixed with one another (mixup), which no
    tile is later, and weights that still change. "Precise BN", Wu & Johnson, *Rethinking "batch"
    in BatchNorm*, 2021. Norms whose parameters need no gradient are frozen: they keep theirs.

    Parameters
    ----------
    net : MultiHeadNet
        In evaluation mode, which it keeps.
    batches : normalised tiles ``[B, 3, t, t]``; equally large, as every batch counts the same

    Returns
    -------
    int
        How many norms were set.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d) and _learns(m)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    with torch.no_grad():
        for batch in batches:
            net.logits(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    return len(norms)


def _learns(norm: nn.BatchNorm2d) -> bool:
    return norm.track_running_stats and any(p.requires_grad for p in norm.parameters())
